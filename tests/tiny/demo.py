"""The folders that the demo reads, at toy size: a pipeline with its text side, a language model, pictures."""

import json
from pathlib import Path

from transformers import AutoTokenizer

from seed_hf import (
    SeedForCausalLM,
    SeedImageProcessor,
    SeedImageTokenizer,
    SeedImageTokenizerConfig,
    SeedPipeline,
    SeedProcessor,
    SeedTokenizer,
)
from seed_hf.models.modeling_seed_empty_prompt import SeedEmptyPrompt
from tiny.language import build_base_tokenizer, build_language_model
from tiny.pictures import build_images, build_scheduler, build_unet, build_vae
from tiny.training_data import HIDDEN_SIZE, save_bert, write_image_tokenizer_config


NUM_QUERY_TOKENS = 4
CAPTIONS = ["red apple", "blue cat", "owl", "pear"]


def save_pipeline(folder: Path, **changes) -> SeedImageTokenizer:
    """A pipeline folder whose image tokenizer has a text side and different codes for different pictures."""
    file = write_image_tokenizer_config(folder.parent / "config.json", **changes)
    config = SeedImageTokenizerConfig.from_pretrained(file)
    image_tokenizer = SeedImageTokenizer(config).eval()
    for parameter in (image_tokenizer.quantizer.embedding.weight, image_tokenizer.causal_qformer.query_tokens):
        parameter.data.normal_()
    pipeline = SeedPipeline(
        image_tokenizer,
        SeedImageProcessor(size={"height": 32, "width": 32}),
        build_unet(),
        build_vae(),
        build_scheduler(),
        empty_prompt=SeedEmptyPrompt(config.num_generation_tokens, HIDDEN_SIZE),
        num_inference_steps=2,
    )
    pipeline.save_pretrained(folder)
    AutoTokenizer.from_pretrained(save_bert(folder.parent / "bert")).save_pretrained(folder / "image_tokenizer")
    return image_tokenizer


def build_seed(image_tokenizer: SeedImageTokenizer) -> tuple[SeedForCausalLM, SeedProcessor]:
    """A toy language model on the codes of an image tokenizer."""
    tokenizer = SeedTokenizer.from_base_tokenizer(
        build_base_tokenizer(), codebook_size=image_tokenizer.config.codebook_size, num_query_tokens=NUM_QUERY_TOKENS
    )
    model = SeedForCausalLM.from_language_model(build_language_model(), tokenizer, image_tokenizer)
    return model, SeedProcessor(SeedImageProcessor(size={"height": 32, "width": 32}), tokenizer)


def save_pictures(folder: Path) -> None:
    """Two drawings with their descriptions, and captions."""
    folder.mkdir()
    entries = []
    for index, (image, split) in enumerate(zip(build_images(2), ("test_drawings", "test_concepts"), strict=True)):
        image.save(folder / f"{index}.png")
        entry = {"file": f"{index}.png", "caption": CAPTIONS[index], "style": "noise", "split": split}
        entries.append({**entry, "license": "MIT"})
    (folder / "pictures.json").write_text(json.dumps(entries))
    (folder / "captions.txt").write_text("\n".join(CAPTIONS) + "\n")


def save_all(folder: Path, **changes) -> Path:
    """Everything; returns the folder."""
    image_tokenizer = save_pipeline(folder / "pipeline", **changes)
    model, processor = build_seed(image_tokenizer)
    model.save_pretrained(folder / "language_model")
    processor.save_pretrained(folder / "language_model")
    save_pictures(folder / "pictures")
    return folder
