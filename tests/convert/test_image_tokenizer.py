"""Released image tokenizers to folders and back: every fixture, every kind of file, every kind of left-over key."""

import argparse
import doctest
import importlib
import json
import os
import pickle
import subprocess
import sys
import textwrap

import pytest
import torch
from huggingface_hub import save_torch_state_dict
from parity_fixtures import COPY, find_fixtures
from tiny.checkpoints import assert_same_weights, write_release
from tiny.training_data import save_bert
from transformers import AutoTokenizer

from seed_hf import SeedImageTokenizer
from seed_hf.commands import main
from seed_hf.convert.checkpoint_files import Checkpoint
from seed_hf.convert.image_tokenizer import (
    convert_image_tokenizer,
    original_state_dict,
    published_config,
    vision_prefix,
    write_original,
)
from seed_hf.convert.key_tables import KeyReport
from seed_hf.convert.seed_keys import convert_state_dict, plan_seed, revert_state_dict


FIXTURES = {fixture.folder.name: fixture for fixture in find_fixtures(COPY)}
STAGE_1 = ["quantizer.*", "generation_*"]


def kind_of(fixture) -> str:
    return "seed-1" if fixture.config().generation_head == "text" else "seed-2"


def convert(fixture, folder, paths=None, **kwargs):
    """Converts a fixture into `folder / "out"`; returns that and the report."""
    kind = kind_of(fixture)
    kwargs.setdefault("allow_missing", STAGE_1 if fixture.stage == "contrastive" else [])
    paths = paths or write_release(fixture.weights, folder, kind)
    report = convert_image_tokenizer(paths, folder / "out", kind, config=fixture.config(), **kwargs)
    return folder / "out", report


@pytest.mark.parametrize("name", FIXTURES)
def test_there_and_back_again(name, tmp_path):
    """The folder gives the reference codes, and holds every bit of the files that it came from."""
    fixture = FIXTURES[name]
    folder, report = convert(fixture, tmp_path)
    model = SeedImageTokenizer.from_pretrained(folder)
    assert model.dtype == torch.float32 and not report.unknown and not report.missing
    if fixture.stage != "contrastive":
        assert torch.equal(model.encode(fixture.io["pixel_values"]), fixture.io["codes"])
    assert_same_weights(original_state_dict(folder), fixture.weights)
    written = write_original(folder, tmp_path / "back")
    assert_same_weights(dict(Checkpoint(written, prefix=vision_prefix)), fixture.weights)


# SEED-1 with the names of the training code, SEED-2, and a stage-1 model
@pytest.mark.parametrize("name", ("stage2_codebook_text_tiny", "v2_tokenizer_qformer_tiny", "stage1_contrastive_tiny"))
def test_trained_folder_goes_back_under_the_names_of_the_inference_code(name, tmp_path):
    """A folder that training wrote has no record of a conversion."""
    fixture = FIXTURES[name]
    folder, _ = convert(fixture, tmp_path)
    SeedImageTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "trained")
    back = original_state_dict(tmp_path / "trained")
    names = {key.replace("_Qformer_text.", "_Qformer.").replace("tokens_text", "tokens") for key in fixture.weights}
    left_out = {key for key in names if key.endswith("position_ids") or key.startswith("Qformer.cls.")}
    fresh = ("quantize", "encode_task", "decode_task", "reverse_tokens", "Reverse_", "distill", "blocks_", "pos_embed")
    made_up = {key for key in back if key.startswith(fresh)} if fixture.stage == "contrastive" else set()
    assert set(back) - made_up == names - left_out
    for key in set(back) & set(fixture.weights):
        assert torch.equal(back[key], fixture.weights[key]), key


def test_in_memory(tmp_path):
    fixture = FIXTURES["v1_tokenizer_tiny"]
    converted, report = convert_state_dict(fixture.weights, fixture.config())
    back = revert_state_dict(converted, fixture.config(), report.used)
    assert_same_weights(back, {key: value for key, value in fixture.weights.items() if key not in report.dropped})


# ------------------------------------------------------------------------------------------------ full size
def manifest(version: str) -> dict[str, torch.Tensor]:
    """Full-size names, shapes and dtypes of the original, on the meta device."""
    content = json.loads((COPY / f"manifest_{version.split('_')[0]}.json").read_text())
    entries = dict(content["state_dict"])
    if version == "v2_qformer":
        entries = {key: value for key, value in entries.items() if not key.startswith("image_down.")}
        entries |= content["variant_use_qformer_image"]["added_or_changed"]
    make = {key: (shape, getattr(torch, dtype)) for key, (shape, dtype) in entries.items()}
    return {key: torch.empty(shape, dtype=dtype, device="meta") for key, (shape, dtype) in make.items()}


@pytest.mark.parametrize("version", ("v1", "v2", "v2_qformer"))
def test_manifests_convert_with_nothing_left_over(version):
    found = manifest(version)
    config = published_config("seed-1" if version == "v1" else "seed-2", found)
    wanted, report = plan_seed(found, config)
    report.check()
    assert set(report.used) == set(wanted) and report.fresh == {}
    assert set(report.dropped.values()) == {"buffer 0..n-1, rebuilt at construction"}
    with torch.device("meta"):
        converted, _ = convert_state_dict(found, config)
        back = revert_state_dict(converted, config)
    assert {key: (t.shape, t.dtype) for key, t in back.items()} == {
        key: (t.shape, t.dtype) for key, t in found.items() if key not in report.dropped
    }


def test_stage_1_alone_is_a_model_to_train_further():
    """Without a codebook in the files the model gets all that stage 2 trains."""
    stages = ("visual_encoder.", "ln_vision.", "Qformer.", "query_tokens", "vision_proj.", "text_proj.", "temp")
    found = {key: tensor for key, tensor in released_v1().items() if key.startswith(stages)}
    _, report = plan_seed(found, published_config("seed-1", found))
    parts = {name.split(".")[0] for name in report.missing}
    assert parts == {"quantizer", "reconstruction_decoder", "generation_decoder", "generation_head"}
    assert report.unknown == report.mismatched == []


def released_v1() -> dict[str, torch.Tensor]:
    """The manifest and what else the three files hold, by the loading code's account: text side, aliases, blocks."""
    found = manifest("v1")
    shapes = {"word_embeddings.weight": (30523, 768), "position_embeddings.weight": (512, 768)}
    more = {f"Qformer.bert.embeddings.{name}": shape for name, shape in shapes.items()}
    more |= {"Qformer.cls.predictions.decoder.weight": (30523, 768), "Qformer.cls.predictions.decoder.bias": (30523,)}
    more |= {"temp": (), "pos_embed": (1, 32, 768), "visual_encoder.blocks.39.attn.proj.bias": (1408,)}
    for name in ("vision_proj", "text_proj"):
        more |= {f"{name}.weight": (256, 768), f"{name}.bias": (256,)}
    for key, tensor in found.items():
        if "Qformer.bert" in key and "_query." in key and not key.startswith("Reverse"):
            more[key.replace("_query.", ".")] = tensor.shape
        if key.startswith("blocks_text."):
            more[key.replace("blocks_text.", "blocks.")] = tensor.shape
    return found | {key: torch.empty(shape, device="meta") for key, shape in more.items()}


@pytest.mark.parametrize("inference_only", (False, True))
def test_whole_release_of_seed_1(inference_only):
    """Text side and reconstruction blocks are kept, or left out on request; the rest is dropped with a reason."""
    found = released_v1()
    config = published_config("seed-1", found, inference_only)
    assert config.use_text_tower == config.use_reconstruction_decoder == (not inference_only)
    wanted, report = plan_seed(found, config)
    report.check()
    assert set(report.used) == set(wanted)
    reasons = set(report.dropped.values())
    assert ("belongs to a part that the configuration leaves out" in reasons) == inference_only
    assert "the ViT's last block: SEED takes the features before it" in reasons
    assert len(report.dropped) + sum(map(len, report.used.values())) == len(found)


# ------------------------------------------------------------------------------------------------ kinds of files
@pytest.mark.parametrize("form", ("safetensors", "sharded", "sharded_pickle", "legacy_pickle", "index_file"))
def test_kinds_of_files(form, tmp_path):
    fixture = FIXTURES["v2_tokenizer_tiny"]
    source = tmp_path / "source"
    source.mkdir()
    paths = [source]
    if form == "legacy_pickle":
        paths = [source / "old.pt"]
        torch.save(fixture.weights, paths[0], _use_new_zipfile_serialization=False)
    else:
        size = "5GB" if form == "safetensors" else "100KB"
        safe = form != "sharded_pickle"
        pattern = "model{suffix}.safetensors" if safe else "pytorch_model{suffix}.bin"
        save_torch_state_dict(
            fixture.weights, source, max_shard_size=size, safe_serialization=safe, filename_pattern=pattern
        )
        assert (len(list(source.iterdir())) > 3) == (form != "safetensors")
    if form == "index_file":
        paths = [source / "model.safetensors.index.json"]
    folder, _ = convert(fixture, tmp_path, paths)
    SeedImageTokenizer.from_pretrained(folder)
    assert_same_weights(original_state_dict(folder), fixture.weights)


class RunsCode:
    def __reduce__(self):
        return os.mkdir, ("was_run",)


@pytest.mark.parametrize(
    "content, reason",
    [
        ({"model": {}, "args": argparse.Namespace(lr=1e-4)}, "argparse.Namespace"),
        ({"model": RunsCode()}, r"(posix|nt)\.mkdir"),
        ([1, 2], "holds a list"),
        (None, "weights_only=True"),
    ],
)
def test_pickle_that_needs_more_is_refused(content, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if content is None:
        (tmp_path / "bad.pth").write_bytes(pickle.dumps(print, protocol=2)[:7])
    else:
        torch.save(content, tmp_path / "bad.pth")
    with pytest.raises(ValueError, match=reason):
        convert_image_tokenizer([tmp_path / "bad.pth"], tmp_path / "out", "seed-2")
    assert not (tmp_path / "was_run").exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ("missing.pth", "empty_folder", "broken.safetensors"))
def test_unreadable_paths_are_named(name, tmp_path):
    (tmp_path / "empty_folder").mkdir()
    (tmp_path / "broken.safetensors").write_bytes(b"12345678{")
    with pytest.raises(ValueError, match=name):
        Checkpoint([tmp_path / name])


def test_half_precision_is_kept_and_widened(tmp_path):
    """As released: the ViT in float16. Stored so, loaded as float32, and given back bit for bit."""
    fixture = FIXTURES["v1_tokenizer_tiny"]
    halves = {key: value.half() if ".mlp." in key else value for key, value in fixture.weights.items()}
    paths = write_release(halves, tmp_path, "seed-1")
    folder, _ = convert(fixture, tmp_path, paths)
    assert Checkpoint([folder]).meta["vision_model.encoder.layers.0.mlp.fc1.weight"].dtype == torch.float16
    model = SeedImageTokenizer.from_pretrained(folder)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert_same_weights(original_state_dict(folder), halves)


def test_name_in_two_files_counts_where_it_comes_last(tmp_path):
    """As in the original, which loads one file over the other."""
    fixture = FIXTURES["v2_tokenizer_tiny"]
    paths = write_release(fixture.weights, tmp_path, "seed-2")
    torch.save({"query_tokens": torch.ones(1, 32, 48)}, tmp_path / "later.pt")
    folder, _ = convert(fixture, tmp_path, [*paths, tmp_path / "later.pt"])
    assert (SeedImageTokenizer.from_pretrained(folder).causal_qformer.query_tokens == 1).all()
    record = json.loads((folder / "conversion.json").read_text())
    assert record["others"] == {"seed_quantizer.pt: query_tokens": "overridden by later.pt"}
    assert "research use only" in record["licence"]


def test_text_tokenizer_is_saved_beside(tmp_path):
    folder, _ = convert(FIXTURES["stage1_contrastive_tiny"], tmp_path, text_tokenizer=save_bert(tmp_path / "bert"))
    words = AutoTokenizer.from_pretrained(tmp_path / "bert")("a red apple").input_ids
    assert AutoTokenizer.from_pretrained(folder)("a red apple").input_ids == words


# ------------------------------------------------------------------------------------------------ left-over keys
def test_subset_has_to_be_said(tmp_path):
    """Without the ViT's file its weights are missing; named, they start fresh, like a new model's."""
    fixture = FIXTURES["v1_tokenizer_tiny"]
    _, *paths = write_release(fixture.weights, tmp_path, "seed-1")
    with pytest.raises(ValueError, match="missing.*vision_model.*and 28 more, in vision_model;"):
        convert(fixture, tmp_path, paths)
    assert not (tmp_path / "out").exists()
    folder, report = convert(fixture, tmp_path, paths, allow_missing=["vision_model.*"])
    assert set(report.fresh.values()) == {"missing, allowed by the caller"}
    model = SeedImageTokenizer.from_pretrained(folder)
    torch.manual_seed(0)
    new = SeedImageTokenizer(fixture.config())
    for name in report.fresh:
        actual, expected = (part.get_parameter(name) for part in (model, new))
        torch.testing.assert_close(actual.mean(), expected.mean(), rtol=0.3, atol=5e-3)
        torch.testing.assert_close(actual.std(correction=0), expected.std(correction=0), rtol=0.3, atol=1e-6)
    vision = {key for key in fixture.weights if key.startswith("visual_encoder.")}
    rest = {key: value for key, value in fixture.weights.items() if key not in vision}
    # what was not in the files is not made up for the way back
    assert_same_weights(original_state_dict(folder), rest)


def test_unknown_key_has_to_be_said(tmp_path):
    fixture = FIXTURES["v2_tokenizer_tiny"]
    paths = write_release(fixture.weights | {"extra.weight": torch.ones(3)}, tmp_path, "seed-2")
    with pytest.raises(ValueError, match="Unknown keys: .'extra.weight'."):
        convert(fixture, tmp_path, paths)
    folder, report = convert(fixture, tmp_path, paths, allow_unknown=["extra.*"])
    assert report.dropped["extra.weight"] == "unknown, allowed by the caller"
    assert torch.equal(original_state_dict(folder)["extra.weight"], torch.ones(3))


@pytest.mark.parametrize("change", ("lone bias", "shape", "two decoders"))
def test_weights_that_do_not_fit(change, tmp_path):
    fixture = FIXTURES["v2_tokenizer_tiny"]
    weights, match = dict(fixture.weights), "visual_encoder.blocks.0.attn.v_bias"
    if change == "lone bias":
        del weights["visual_encoder.blocks.0.attn.q_bias"]
    elif change == "shape":
        weights["quantize.embedding.weight"], match = torch.zeros(256, 31), r"\(256, 31\) != \(256, 32\)"
    else:
        weights["pos_embed_text"], match = torch.zeros(1, 32, 48), "Unknown keys: .'pos_embed_text'."
    with pytest.raises(ValueError, match=match):
        convert(fixture, tmp_path, write_release(weights, tmp_path, "seed-2"))


def test_output_is_never_overwritten(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").touch()
    with pytest.raises(ValueError, match="`output`.*new or an empty folder"):
        convert(FIXTURES["v2_tokenizer_tiny"], tmp_path)


def test_unknown_kind():
    with pytest.raises(ValueError, match="`kind` is 'seed-3'"):
        convert_image_tokenizer([], "out", "seed-3")


# ------------------------------------------------------------------------------------------------ command line
def test_command(tmp_path, capsys):
    fixture = FIXTURES["v1_tokenizer_tiny"]
    fixture.config().save_pretrained(tmp_path / "config")
    paths = [str(path) for path in write_release(fixture.weights, tmp_path, "seed-1")]
    output, back = str(tmp_path / "out"), str(tmp_path / "back")
    config = ["--config", str(tmp_path / "config")]
    assert main(["convert", "seed-1", *paths[1:], "--output", output, *config]) == 1
    assert "missing" in capsys.readouterr().err
    assert main(["convert", "seed-1", *paths, "--output", output, *config]) == 0
    printed = capsys.readouterr().out
    assert "2 dropped: buffer 0..n-1, rebuilt at construction" in printed
    assert main(["convert", "original", output, "--output", back]) == 0
    assert_same_weights(dict(Checkpoint([f"{back}/seed_tokenizer.pth"])), dict(Checkpoint(paths[2:])))


@pytest.mark.parametrize("name", ("", ".checkpoint_files", ".key_tables", ".seed_keys"))
def test_docstring_examples(name):
    results = doctest.testmod(importlib.import_module(f"seed_hf.convert{name}"))
    assert results.attempted > 0 and results.failed == 0


def test_report_moves_only_what_is_named():
    report = KeyReport(unknown=["a.x", "b"], missing=["c"])
    report.allow(unknown=["a.*"], missing=["d"])
    assert report.dropped == {"a.x": "unknown, allowed by the caller"} and report.unknown == ["b"]
    assert report.missing == ["c"] and report.fresh == {}


# ------------------------------------------------------------------------------------------------ memory
MEMORY_PROBE = """
    import sys
    from seed_hf import SeedImageTokenizerConfig
    from seed_hf.convert.image_tokenizer import convert_image_tokenizer, write_original

    def memory(field):
        lines = open("/proc/self/status").read().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))

    def peak(function, *args, **kwargs):
        open("/proc/self/clear_refs", "w").write("5")  # the peak starts anew
        before = memory("VmRSS")
        function(*args, **kwargs)
        return memory("VmHWM") - before

    output, config, *paths = sys.argv[1:]
    config = SeedImageTokenizerConfig.from_pretrained(config)
    print(peak(convert_image_tokenizer, paths, output, "seed-1", config=config))
    print(peak(write_original, output, output + "_back"))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="peak memory is read from Linux' /proc")
def test_peak_memory_is_bounded_by_the_largest_file(tmp_path):
    """Two files of some 200 MB: at most 1.2 times the larger one there and back, mapped pages included."""
    fixture = FIXTURES["v1_tokenizer_tiny"]
    config, weights = fixture.config(), dict(fixture.weights)
    for name in ("visual_encoder.blocks.", "blocks_text."):
        # wider MLPs: the same keys, much larger
        width = 250_000 if name == "visual_encoder.blocks." else 120_000
        for key in [key for key in weights if key.startswith(name) and ".mlp." in key]:
            shape = [width if size in (174, 192) else size for size in weights[key].shape]
            weights[key] = torch.zeros(shape)
    config.vision_config.intermediate_size, config.decoder_config.intermediate_size = 250_000, 120_000
    config.save_pretrained(tmp_path / "config")
    paths = write_release(weights, tmp_path, "seed-1")
    largest = max(path.stat().st_size for path in paths)
    assert largest > 200e6 and sum(path.stat().st_size for path in paths) > 1.7 * largest
    command = [sys.executable, "-c", textwrap.dedent(MEMORY_PROBE), tmp_path / "out", tmp_path / "config", *paths]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for peak in map(int, done.stdout.split()):
        assert 0.5 * largest < peak < 1.2 * largest, f"{peak / largest:.2f} times the largest file"
