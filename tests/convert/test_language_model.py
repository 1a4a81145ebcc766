"""SEED-LLaMA's form, a plain LLaMA with codes and two specials as its last rows, to SeedForCausalLM and back."""

import pytest
import torch
from tiny.checkpoints import assert_same_weights, save_plain
from tiny.language import CODEBOOK_SIZE, NUM_QUERY_TOKENS, build_base_tokenizer, build_codes
from transformers import LlamaForCausalLM, OPTForCausalLM

from seed_hf import SeedForCausalLM, SeedProcessor
from seed_hf.commands import main
from seed_hf.convert.checkpoint_files import Checkpoint
from seed_hf.convert.language_model import convert_language_model, write_original_language_model


SIZES = {"codebook_size": CODEBOOK_SIZE, "num_query_tokens": NUM_QUERY_TOKENS}


@pytest.mark.parametrize("pickled", (False, True))
def test_there_and_back_again(pickled, tmp_path):
    plain = save_plain(tmp_path / "plain", pickled=pickled)
    report = convert_language_model(tmp_path / "plain", tmp_path / "out", **SIZES, image_tokenizer_id="owner/name")
    assert list(report.dropped.values()) == ["computed from the configuration"] * pickled
    model = SeedForCausalLM.from_pretrained(tmp_path / "out")
    processor = SeedProcessor.from_pretrained(tmp_path / "out")
    model.check_tokenizer(processor.tokenizer)
    rows, layout = plain.config.vocab_size, model.config.image_token_layout
    assert model.dtype == torch.float16 and model.generation_config.max_length == 77
    assert (layout.first_image_token_id, layout.image_placeholder_token_id) == (rows - CODEBOOK_SIZE - 2, rows)
    assert model.config.image_tokenizer_id == processor.tokenizer.image_tokenizer_id == "owner/name"
    inputs = processor(text="<image> a red apple", codes=build_codes(), return_tensors="pt")
    with torch.no_grad():
        logits = model.float()(**inputs).logits
        reloaded = LlamaForCausalLM.from_pretrained(tmp_path / "plain", dtype=torch.float32)
        torch.testing.assert_close(logits[..., :rows], reloaded(**inputs).logits)
    assert logits.shape[-1] == rows + 1
    generated = model.generate(**inputs, generation_mode="image", max_new_tokens=NUM_QUERY_TOKENS + 2)
    codes = processor.post_process_generation(generated, "codes", inputs["input_ids"].shape[1])
    assert codes[0].shape == (1, NUM_QUERY_TOKENS)
    write_original_language_model(tmp_path / "out", tmp_path / "back")
    assert_same_weights(dict(Checkpoint([tmp_path / "back"])), dict(plain.state_dict()))
    assert LlamaForCausalLM.from_pretrained(tmp_path / "back").config.vocab_size == rows


def test_row_of_the_placeholder_is_the_mean(tmp_path):
    """It is never embedded nor generated, but its logit is part of the loss: no outlier, then."""
    plain = save_plain(tmp_path / "plain")
    convert_language_model(tmp_path / "plain", tmp_path / "out", **SIZES)
    tables = Checkpoint([tmp_path / "out"])
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        old, new = plain.state_dict()[name], tables[f"language_model.{name}"]
        assert torch.equal(new[:-1], old)
        torch.testing.assert_close(new[-1], old.float().mean(dim=0).half())


def test_tied_tables(tmp_path):
    """OPT's head is its table: one weight, grown once."""
    save_plain(tmp_path / "plain", "opt", tied=True)
    report = convert_language_model(tmp_path / "plain", tmp_path / "out", **SIZES)
    assert "language_model.lm_head.weight" not in report.used
    model = SeedForCausalLM.from_pretrained(tmp_path / "out")
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    write_original_language_model(tmp_path / "out", tmp_path / "back")
    OPTForCausalLM.from_pretrained(tmp_path / "back")


def test_tied_tables_in_a_pickle(tmp_path):
    """There the head is written, too, as in the released files of OPT."""
    plain = save_plain(tmp_path / "plain", "opt", tied=True)
    for path in (tmp_path / "plain").glob("model*"):
        path.unlink()
    torch.save(plain.state_dict(), tmp_path / "plain" / "pytorch_model.bin")
    report = convert_language_model(tmp_path / "plain", tmp_path / "out", **SIZES)
    assert report.dropped == {"lm_head.weight": "tied to the token vectors"}


def test_only_tables_lose_the_row_again(tmp_path):
    """Not what has as many rows by chance."""
    plain = save_plain(tmp_path / "plain")
    config = plain.config
    config.intermediate_size = config.vocab_size + 1
    plain = LlamaForCausalLM(config).half()
    for path in (tmp_path / "plain").glob("model*"):
        path.unlink()
    plain.save_pretrained(tmp_path / "plain")
    convert_language_model(tmp_path / "plain", tmp_path / "out", **SIZES)
    write_original_language_model(tmp_path / "out", tmp_path / "back")
    assert_same_weights(dict(Checkpoint([tmp_path / "back"])), dict(plain.state_dict()))


def test_tokenizer_from_elsewhere(tmp_path):
    """The base tokenizer without image tokens will do: they get the ids that the rows are for."""
    save_plain(tmp_path / "plain", tokenizer=False)
    build_base_tokenizer("llama").save_pretrained(tmp_path / "tokenizer")
    convert_language_model(tmp_path / "plain", tmp_path / "out", tokenizer=tmp_path / "tokenizer", **SIZES)
    processor = SeedProcessor.from_pretrained(tmp_path / "out")
    assert SeedForCausalLM.from_pretrained(tmp_path / "out").check_tokenizer(processor.tokenizer) is None


def test_vocabulary_that_does_not_fit(tmp_path):
    save_plain(tmp_path / "plain")
    with pytest.raises(ValueError, match="codes and both tokens as the last rows"):
        convert_language_model(tmp_path / "plain", tmp_path / "out", codebook_size=8, num_query_tokens=4)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", ("missing", "unknown"))
def test_left_over_keys(change, tmp_path):
    save_plain(tmp_path / "plain")
    path = tmp_path / "plain" / "model.safetensors.index.json"
    weights = dict(Checkpoint([tmp_path / "plain"]))
    path.unlink()
    if change == "missing":
        weights.pop("model.norm.weight")
    else:
        weights["model.layers.0.adapter.weight"] = torch.zeros(3)
    torch.save(weights, tmp_path / "plain" / "pytorch_model.bin")
    expected = {"missing": "missing.*model.norm.weight", "unknown": "Unknown keys:.*adapter.weight"}
    with pytest.raises(ValueError, match=expected[change]):
        convert_language_model(tmp_path / "plain", tmp_path / "out", **SIZES)
    if change == "unknown":
        convert_language_model(tmp_path / "plain", tmp_path / "out", **SIZES, allow_unknown=["*.adapter.*"])
        assert SeedForCausalLM.from_pretrained(tmp_path / "out").config.codebook_size == CODEBOOK_SIZE


def test_command(tmp_path, capsys):
    plain = save_plain(tmp_path / "plain")
    sizes = ["--codebook-size", str(CODEBOOK_SIZE), "--num-query-tokens", str(NUM_QUERY_TOKENS)]
    out, back = str(tmp_path / "out"), str(tmp_path / "back")
    assert main(["convert", "seed-llama", str(tmp_path / "plain"), "--output", out, *sizes]) == 0
    assert "weights used" in capsys.readouterr().out
    assert main(["convert", "original", out, "--output", back]) == 0
    assert_same_weights(dict(Checkpoint([back])), dict(plain.state_dict()))
    assert main(["convert", "original", str(tmp_path / "plain"), "--output", back]) == 1
