"""BLIP-2 checkpoints, in transformers' layout or in LAVIS', as the start of stage 1."""

import json
import re
from pathlib import Path

import torch

from ..models.configuration_seed_image_tokenizer import SeedImageTokenizerConfig
from .key_tables import KeyReport, Layout
from .seed_keys import DROPPED, SEED_LAYOUT


ABSENT = [
    (f"{part}.*", "a part that SEED adds to BLIP-2")
    for part in ("quantizer", "reconstruction_decoder", "generation_decoder", "generation_head")
]
MATCHING_HEAD = "image-text matching head, used by no SEED stage"
LANGUAGE_MODEL = "BLIP-2's language model and the way to it"
TRANSFORMERS_LAYOUT = Layout(
    rows=[
        ("query_tokens", "causal_qformer.query_tokens"),
        ("vision_model.*", "vision_model.*"),
        ("qformer.*", "causal_qformer.qformer.*"),
        ("embeddings.*", "causal_qformer.text_embeddings.*"),
        ("vision_projection.*", "vision_projection.*"),
        ("text_projection.*", "text_projection.*"),
    ],
    dropped=[
        ("*.position_ids", "buffer 0..n-1, rebuilt at construction"),
        ("itm_head.*", MATCHING_HEAD),
        ("language_projection.*", LANGUAGE_MODEL),
        ("language_model.*", LANGUAGE_MODEL),
    ],
    absent=[*ABSENT, ("temperature", "transformers leaves it out of BLIP-2; starts at 0.07")],
)
LAVIS_LAYOUT = Layout(
    rows=SEED_LAYOUT.rows,
    dropped=[
        *DROPPED,
        ("itm_head.*", MATCHING_HEAD),
        *((f"{name}_{part}.*", LANGUAGE_MODEL) for name in ("opt", "t5", "llm") for part in ("proj", "model")),
    ],
    absent=ABSENT,
)


def blip2_layout(source: dict[str, torch.Tensor]) -> Layout:
    """Recognises the layout of a BLIP-2 checkpoint by its names."""
    if any(name.startswith("Qformer.bert.") for name in source):
        return LAVIS_LAYOUT
    if any(name.startswith("qformer.encoder.") for name in source):
        return TRANSFORMERS_LAYOUT
    raise ValueError(
        f"`paths` hold {sorted(source)[:3]} and so on; allowed: BLIP-2 with a Q-Former under `qformer.encoder.` "
        "(transformers) or `Qformer.bert.` (LAVIS)."
    )


def blip2_config(paths: list) -> SeedImageTokenizerConfig:
    r"""
    Gives the configuration of a stage-1 model with a BLIP-2 checkpoint's sizes and all parts that training adds.

    Args:
        paths (`list[str | os.PathLike]`): Files or folders of the checkpoint. A folder of transformers states its
            sizes; otherwise they are the published ones (ViT-g, BERT-base).

    Returns:
        [`SeedImageTokenizerConfig`]: The configuration.
    """
    fields = {}
    config_files = [Path(path) / "config.json" for path in paths if (Path(path) / "config.json").is_file()]
    if config_files:
        blip2 = json.loads(config_files[0].read_text(encoding="utf-8"))
        fields = {
            "vision_config": blip2["vision_config"],
            "qformer_config": blip2["qformer_config"],
            "num_query_tokens": blip2.get("num_query_tokens", 32),
            "projection_dim": blip2.get("image_text_hidden_size", 256),
        }
    return SeedImageTokenizerConfig(use_text_tower=True, use_reconstruction_decoder=True, **fields)


def copy_text_feed_forward(report: KeyReport):
    """
    Lets each query feed-forward start as a copy of the text one, where the checkpoint has a text one.

    Source: the original's constructor (`blip2_qformer_casual.py`), which copies them before training.
    """
    for name in [*report.used, *report.missing]:
        text_name = re.sub(r"\.(intermediate|output)_query\.", r".\1.", name)
        if text_name == name or text_name not in report.used:
            continue
        for key in report.used.get(name, ()):
            report.dropped[key] = "starts as a copy of the text feed-forward"
        report.used[name] = list(report.used[text_name])
    report.missing = [name for name in report.missing if name not in report.used]


__all__ = ["blip2_config", "blip2_layout", "copy_text_feed_forward"]
