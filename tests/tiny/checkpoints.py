"""Checkpoint files in the forms of the releases: from the weights of the reference fixtures, or of toy models."""

import json

import torch
from safetensors.torch import load_file
from tokenizers import AddedToken
from transformers import Blip2Config, Blip2ForImageTextRetrieval, GenerationConfig

from seed_hf.convert.image_tokenizer import STAGE_1_PREFIXES
from tiny.language import CODEBOOK_SIZE, build_base_tokenizer, build_language_model


LAYERS = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


def write_release(weights: dict[str, torch.Tensor], folder, kind: str) -> list:
    """SEED-1: three files, with training state beside the weights; SEED-2: one flat file. Returns the paths."""
    if kind == "seed-2":
        torch.save(weights, folder / "seed_quantizer.pt")
        return [folder / "seed_quantizer.pt"]
    vision = {key: value for key, value in weights.items() if key.startswith("visual_encoder.")}
    stage_1 = {key: value for key, value in weights.items() if key.startswith(STAGE_1_PREFIXES)}
    stage_2 = {key: value for key, value in weights.items() if key not in vision and key not in stage_1}
    torch.save({key.removeprefix("visual_encoder."): value for key, value in vision.items()}, folder / "eva_vit_g.pth")
    training = {"optimizer": {"state": {}}, "epoch": 9, "config": {"run": {"lr": 1e-4}}}
    torch.save({"model": stage_1, **training}, folder / "causal_qformer.pth")
    paths = [folder / "eva_vit_g.pth", folder / "causal_qformer.pth"]
    if stage_2:
        torch.save({"model": stage_2, **training}, folder / "seed_tokenizer.pth")
        paths.append(folder / "seed_tokenizer.pth")
    return paths


def save_blip2(folder, model_class):
    """A toy BLIP-2 with random weights, as `save_pretrained` writes it in shards; returns the model."""
    torch.manual_seed(0)
    qformer = {"hidden_size": 48, "vocab_size": 50, "max_position_embeddings": 16, "encoder_hidden_size": 32, **LAYERS}
    text = {"model_type": "opt", "vocab_size": 60, "hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 32}
    config = Blip2Config(
        vision_config={"hidden_size": 32, "image_size": 28, **LAYERS},
        qformer_config=qformer | {"use_qformer_text_input": model_class is Blip2ForImageTextRetrieval},
        text_config=text | {"num_hidden_layers": 1, "num_attention_heads": 2},
        num_query_tokens=8,
        image_text_hidden_size=24,
    )
    model = model_class(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    # few of them: the conversion writes as large ones, and goes over the whole model for each with fresh parts
    model.save_pretrained(folder, max_shard_size="300KB")
    assert len([*folder.glob("*.safetensors")]) > 1
    return model


def add_image_tokens(tokenizer):
    """As in the release: codes first, then both ends of a span; there is no `<image>`."""
    contents = [*(f"<img_{code:05d}>" for code in range(CODEBOOK_SIZE)), "<img>", "</img>"]
    tokenizer.add_tokens([AddedToken(content, normalized=False, special=True) for content in contents])
    return tokenizer


def save_plain(folder, architecture="llama", tied=False, pickled=False, tokenizer=True):
    """Writes a plain language model in float16, sharded, with its tokenizer; returns the model."""
    words = add_image_tokens(build_base_tokenizer("llama"))
    model = build_language_model(architecture, vocab_size=len(words), tied=tied).half()
    model.generation_config = GenerationConfig(max_length=77, bos_token_id=1, eos_token_id=2)
    model.save_pretrained(folder, max_shard_size="40KB")
    if pickled:
        index = json.loads((folder / "model.safetensors.index.json").read_text())
        names = {name: name.replace("model-", "pytorch_model-").replace(".safetensors", ".bin")
                 for name in set(index["weight_map"].values())}  # fmt: skip
        for name, new in names.items():
            rotary = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)} if "00001" in name else {}
            torch.save(load_file(folder / name) | rotary, folder / new)
            (folder / name).unlink()
        index["weight_map"] = {key: names[name] for key, name in index["weight_map"].items()}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
        (folder / "model.safetensors.index.json").unlink()
    if tokenizer:
        words.save_pretrained(folder)
    return model.eval()


def assert_same_weights(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]):
    """Same names, dtypes and bits."""
    assert set(actual) == set(expected)
    for name, tensor in expected.items():
        assert actual[name].dtype == tensor.dtype and torch.equal(actual[name], tensor), name
