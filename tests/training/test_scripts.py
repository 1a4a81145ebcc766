"""Every training script, in process on a handful of drawings: trains, resumes to the same weights, loads again."""

import json
import shutil
from functools import partialmethod
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from PIL import Image
from pyarrow.parquet import read_table
from safetensors.torch import load_file
from tiny.scripts import causal_lm_flags, codebook_flags, qformer_flags, run_script, save_language_model
from tiny.shards import sample, write_shard, write_shards
from tiny.training_data import HIDDEN_SIZE, save_bert, write_emoji, write_image_tokenizer_config
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from seed_hf import SeedForCausalLM, SeedImageProcessor, SeedImageTokenizer, SeedProcessor
from seed_hf.commands import main as seed_hf_command
from seed_hf.data.rows import load_rows
from seed_hf.trainer.curves import read_metrics
from seed_hf.trainer.stages.decoder import DecoderStage


STAGE_2_PARTS = {"quantizer", "reconstruction_decoder", "generation_decoder", "generation_head"}


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Emoji, BERT and configuration for all scripts."""
    folder = tmp_path_factory.mktemp("data")
    return {
        "dataset": write_emoji(folder),
        "bert": save_bert(folder / "bert"),
        "config": write_image_tokenizer_config(folder / "config.json"),
    }


def losses(folder):
    lines = read_metrics(Path(folder) / "metrics.jsonl")
    return [(line["step"], line["loss"], line["grad_norm"]) for line in lines if "loss" in line]


def assert_resumes(name, folder, *flags):
    """Four steps at once, and two steps, a kill and two steps: the same losses and final weights, to the last bit.

    Both run in this process and start from the same files, so that all tensors lie alike and no sum changes its order.
    """
    flags = (*flags, "--max_steps", 4, "--checkpoint_every", 2)
    straight, resumed = folder / "straight", folder / "resumed"
    run_script(name, straight, *flags)
    AcceleratorState._reset_state(reset_partial_state=True)
    shutil.copytree(straight / "checkpoint-2", resumed / "checkpoint-2")
    run_script(name, resumed, *flags)
    assert [step for step, *_ in losses(straight)] == [1, 2, 3, 4]
    assert losses(resumed) == losses(straight)[2:]
    assert all(torch.tensor(loss).isfinite() for _, loss, _ in losses(straight))
    for path in straight.rglob("*.safetensors"):
        tensors, others = load_file(path), load_file(resumed / path.relative_to(straight))
        assert tensors.keys() == others.keys()
        different = [key for key in tensors if not torch.equal(tensors[key], others[key])]
        assert not different, (path.name, different)
    return straight


@pytest.fixture(scope="module")
def stage1(data, tmp_path_factory):
    """An image tokenizer folder as stage 1 leaves it."""
    folder = tmp_path_factory.mktemp("stage1")
    run_script("train_qformer", folder, *qformer_flags(data), "--max_steps", 1)
    AcceleratorState._reset_state(reset_partial_state=True)
    return folder


def trained_names(before, after):
    """First parts of the names of parameters that differ between two folders with the same tensors."""
    before, after = (load_file(Path(folder) / "model.safetensors") for folder in (before, after))
    assert before.keys() == after.keys()
    return {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}


def test_train_qformer_with_its_vision(tmp_path, data):
    flags = ("--train_vision", "--vision_lr_multiplier", 0.5)
    output = assert_resumes("train_qformer", tmp_path, *qformer_flags(data), *flags)
    model = SeedImageTokenizer.from_pretrained(output)
    assert model.encode(torch.zeros(1, 3, 32, 32)).shape == (1, 4)
    assert Image.open(output / "retrieval-4.png").width > 400


def test_cached_vision_leaves_its_last_norm_to_training(tmp_path, data):
    output = assert_resumes("train_qformer", tmp_path, *qformer_flags(data), "--cache_views", 2)
    trained = load_file(output / "checkpoint-4" / "model.safetensors").keys()
    names = {name for name in trained if name.startswith("vision_model.")}
    assert names == {f"vision_model.post_layernorm.{part}" for part in ("weight", "bias")}


def test_train_qformer_from_a_folder_without_a_text_tokenizer(tmp_path, data, stage1):
    shutil.copytree(stage1, tmp_path / "start", ignore=shutil.ignore_patterns("tokenizer*", "checkpoint-*"))
    # as a converted one may be: in half precision, with colours of its own
    SeedImageTokenizer.from_pretrained(stage1).half().save_pretrained(tmp_path / "start")
    SeedImageProcessor.from_pretrained(stage1, image_mean=[0.1, 0.2, 0.3]).save_pretrained(tmp_path / "start")
    flags = ("--dataset", data["dataset"], "--init_model", tmp_path / "start", "--text_model", data["bert"])
    run_script("train_qformer", tmp_path / "out", *flags, "--max_steps", 1)
    assert (tmp_path / "out" / "tokenizer.json").is_file()
    assert list(SeedImageProcessor.from_pretrained(tmp_path / "out").image_mean) == [0.1, 0.2, 0.3]
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values() if tensor.is_floating_point()} == {torch.float32}


def test_train_codebook_on_cached_views(tmp_path, data, stage1):
    flags = ("--cache_views", 2, "--init_codebook_images", 8)
    output = assert_resumes("train_codebook", tmp_path, *codebook_flags(data, stage1), *flags)
    assert trained_names(stage1, output) == STAGE_2_PARTS


def test_generation_learns_on_while_codes_stay(tmp_path, data, stage1):
    output = tmp_path / "out"
    flags = ("--trained_parts", "generation_decoder", "generation_head", "--max_steps", 2)
    run_script("train_codebook", output, *codebook_flags(data, stage1), *flags)
    assert trained_names(stage1, output) == {"generation_decoder", "generation_head"}


def test_targets_of_the_captions_become_prototypes(tmp_path, data, stage1):
    output = tmp_path / "out"
    run_script("train_codebook", output, *codebook_flags(data, stage1), "--prototypes", "--max_steps", 1)
    captions = {row["caption"] for row in load_rows(str(data["dataset"]), "train")}
    model = SeedImageTokenizer.from_pretrained(output)
    assert model.config.num_prototypes == len(model.generation_prototypes.embeds) == len(captions)


def test_decoders_learn_to_read_first_codes_while_codes_stay(tmp_path, data, stage1):
    output, parts = tmp_path / "out", STAGE_2_PARTS - {"quantizer"}
    flags = ("--trained_parts", *sorted(parts), "--prefix_probability", 0.75, "--max_steps", 2)
    run_script("train_codebook", output, *codebook_flags(data, stage1), *flags)
    assert trained_names(stage1, output) == parts
    assert SeedImageTokenizer.from_pretrained(output).config.prefix_probability == 0.75


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft asks by the old name
def test_train_causal_lm(tmp_path, data, stage1):
    save_language_model(tmp_path / "lm")
    flags = ("--pack_length", 96, "--gradient_checkpointing", "--language_model_revision", "abc")
    output = assert_resumes("train_causal_lm", tmp_path, *causal_lm_flags(data, stage1, tmp_path / "lm"), *flags)
    saved = load_file(output / "checkpoint-4" / "model.safetensors")
    assert any("lora_A" in name for name in saved) and not any("base_layer.weight" in name for name in saved)
    adapter = json.loads((output / "adapter_config.json").read_text())
    assert (adapter["base_model_name_or_path"], adapter["revision"]) == (str(tmp_path / "lm"), "abc")
    assert [path.name for path in output.glob("*.safetensors")] == ["adapter_model.safetensors"]
    assert all(line["tokens_per_second"] > 0 for line in read_metrics(output / "metrics.jsonl") if "loss" in line)


def test_stage_2_towards_the_embedding_of_the_picture(tmp_path, data):
    """SEED-2: the target is CLIP's, of the same pixels."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    clip = CLIPVisionModelWithProjection(CLIPVisionConfig(**sizes, image_size=32, patch_size=8, projection_dim=24))
    clip.save_pretrained(tmp_path / "clip")
    changes = {"generation_head": "mlp", "generation_dim": 24, "codebook_ema_decay": 0.0, "dead_code_steps": 0}
    data = {**data, "config": write_image_tokenizer_config(tmp_path / "config.json", **changes)}
    first, second = tmp_path / "first", tmp_path / "second"
    run_script("train_qformer", first, *qformer_flags(data), "--max_steps", 1)
    AcceleratorState._reset_state(reset_partial_state=True)
    flags = ("--dataset", data["dataset"], "--init_model", first, "--target_model", tmp_path / "clip")
    run_script("train_codebook", second, *flags, "--max_steps", 40)
    lines = [line["generation_loss"] for line in read_metrics(second / "metrics.jsonl") if "generation_loss" in line]
    assert sum(lines[-5:]) < 0.9 * sum(lines[:5])
    assert trained_names(first, second) == STAGE_2_PARTS
    clip.config.projection_dim = 32
    CLIPVisionModelWithProjection(clip.config).save_pretrained(tmp_path / "clip")
    AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.raises(ValueError, match="gives width 32; allowed: 24"):
        run_script("train_codebook", tmp_path / "refused", *flags)


def test_own_text_feature_as_the_target_and_learned_codes_that_start_from_image_features(tmp_path, data):
    """seed-mini's way: stage 2 aims at stage 1's text feature, and stage 3 starts codes at means of image features."""
    width = 24
    sizes = {"projection_dim": width, "generation_dim": width, "num_generation_tokens": 1}
    config = write_image_tokenizer_config(tmp_path / "config.json", codebook_per_query=True, **sizes)
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    run_script("train_qformer", first, *qformer_flags({**data, "config": config}), "--max_steps", 1)
    AcceleratorState._reset_state(reset_partial_state=True)
    flags = ("--dataset", data["dataset"], "--init_model", first, "--target_model", "own")
    run_script("train_codebook", second, *flags, "--max_steps", 40)
    lines = [line["generation_loss"] for line in read_metrics(second / "metrics.jsonl") if "generation_loss" in line]
    assert sum(lines[-5:]) < 0.9 * sum(lines[:5])
    save_language_model(tmp_path / "lm")
    AcceleratorState._reset_state(reset_partial_state=True)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    (tmp_path / "small.json").write_text(json.dumps({"model_type": "llama", "tie_word_embeddings": True, **sizes}))
    flags = (*causal_lm_flags(data, second, tmp_path / "lm"), "--image_token_embedding", "learned", "--lora_rank", 0)
    flags += ("--language_model_config", tmp_path / "small.json", "--vocab_size", 300, "--whole_words")
    flags += ("--label_smoothing", 0.1)
    run_script("train_causal_lm", third, *flags, "--start_image_tokens", "--learning_rate", 0, "--max_steps", 1)
    AcceleratorState._reset_state(reset_partial_state=True)
    again = (*flags, "--init_model", third, "--image_tokenizer_id", "mine", "--learning_rate", 0, "--max_steps", 1)
    run_script("train_causal_lm", tmp_path / "fourth", *again)
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("third", "fourth"))
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    tokenizer = SeedProcessor.from_pretrained(third).tokenizer
    assert len(tokenizer.tokenize(" religious building")) == 2 and len(tokenizer.tokenize(" wearyster")) > 1
    assert SeedProcessor.from_pretrained(tmp_path / "fourth").tokenizer.image_tokenizer_id == "mine"
    AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.raises(ValueError, match="`start_image_tokens` with `image_token_embedding` 'projected_codes'"):
        flags = causal_lm_flags(data, second, tmp_path / "lm")
        run_script("train_causal_lm", tmp_path / "refused", *flags, "--start_image_tokens", "--max_steps", 1)
    (encoded,) = (tmp_path / "codes").glob("*/data/train-*.parquet")
    codes = torch.tensor(read_table(encoded)["codes"].to_pylist())
    model, language_model = SeedImageTokenizer.from_pretrained(second), SeedForCausalLM.from_pretrained(third)
    assert language_model.config.codebook_per_query
    features = model.get_image_features(codes=codes).pooler_output
    features = features - features.mean(0)
    code = int(codes.flatten().mode().values)
    has_it = (codes == code).any(1)
    wanted = features[has_it].mean(0)
    other = next(c for c in codes.flatten().tolist() if c != code)
    other_mean = features[(codes == other).any(1)].mean(0)
    table = language_model.get_input_embeddings().weight[
        language_model.config.image_token_layout.first_image_token_id :
    ]
    # a rotation and one scale for all keep angles
    torch.testing.assert_close(
        torch.cosine_similarity(table[code], table[other], dim=0),
        torch.cosine_similarity(wanted, other_mean, dim=0),
        atol=1e-3,
        rtol=1e-3,
    )


def test_train_vae_and_decoder(tmp_path, data, stage1, monkeypatch):
    # nobody looks at what it draws on the way
    monkeypatch.setattr(DecoderStage, "draw", partialmethod(DecoderStage.draw, num_steps=2))
    flags = ("--dataset", data["dataset"], "--batch_size", 2)
    vae = assert_resumes("train_vae", tmp_path / "vae", *flags, "--size", 32)
    AcceleratorState._reset_state(reset_partial_state=True)
    assert AutoencoderKL.from_pretrained(vae).config.scaling_factor != 1
    flags += ("--vae", vae, "--target_model", data["bert"], "--widths", 32, 32)
    decoder = assert_resumes("train_decoder", tmp_path / "decoder", *flags)
    before = UNet2DConditionModel.from_pretrained(decoder / "unet")
    assert DDIMScheduler.load_config(decoder / "scheduler")["prediction_type"] == "v_prediction"
    assert before.config.cross_attention_dim == HIDDEN_SIZE
    AcceleratorState._reset_state(reset_partial_state=True)
    flags += ("--init_unet", decoder / "unet", "--image_tokenizer", stage1, "--code_dataset", data["dataset"])
    tokens = SeedImageTokenizer.from_pretrained(stage1).config.num_generation_tokens
    output = tmp_path / "with_codes"
    flags += (
        "--code_ratio",
        0.5,
        "--code_noise",
        0.5,
        "--name_noise",
        0.3,
        "--snr_gamma",
        5,
        "--max_text_tokens",
        tokens,
        "--max_steps",
        2,
    )
    run_script("train_decoder", output, *flags)
    assert list((tmp_path / "codes").glob("*/data/train-*.parquet"))
    after = UNet2DConditionModel.from_pretrained(output / "unet")
    assert not torch.equal(before.conv_in.weight, after.conv_in.weight)


# ---------------------------------------------------------------------------------------------- other data
def test_stage_1_over_shards_with_a_broken_picture_resumes_exactly(tmp_path, data):
    dataset = write_shards(tmp_path / "shards", num_shards=3, samples_per_shard=6)
    write_shards(tmp_path / "shards", num_shards=1, samples_per_shard=12, split="validation")
    write_shard(tmp_path / "shards" / "train-0003.tar", [sample(30, jpg=b"no picture"), sample(31, jpg=b"\xff\xd8")])
    flags = dict(zip(*[iter(qformer_flags(data))] * 2, strict=True))
    flags["--dataset"] = dataset
    output = assert_resumes("train_qformer", tmp_path, *(part for flag in flags.items() for part in flag))
    logged = [json.loads(line) for line in (output / "unreadable.jsonl").read_text().splitlines()]
    assert {line["key"] for line in logged} == {"000030", "000031"}
    assert all(line["shard"].endswith("train-0003.tar") and "identify" in line["reason"] for line in logged)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft asks by the old name
def test_stage_3_reads_what_encode_wrote(tmp_path, data, stage1, caplog):
    codes = tmp_path / "codes"
    for split in ("train", "validation"):
        shards = write_shards(tmp_path / "shards", 1, 8, split=split, txt="a dog\na brown dog")
        assert seed_hf_command(["encode", str(stage1), shards, str(codes), "--split", split]) == 0
    save_language_model(tmp_path / "lm")
    flags = dict(zip(*[iter(causal_lm_flags(data, stage1, tmp_path / "lm"))] * 2, strict=True))
    del flags["--dataset"]
    flags |= {"--codes": codes, "--max_steps": 2}
    run_script("train_causal_lm", tmp_path / "out", *(part for flag in flags.items() for part in flag))
    assert [step for step, *_ in losses(tmp_path / "out")] == [1, 2]
    assert "whose files differ" not in caplog.text
