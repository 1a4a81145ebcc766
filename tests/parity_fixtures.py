"""Finds and opens the reference fixtures: folders with meta.json, weights.safetensors and io.safetensors."""

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors.torch import load_file

from seed_hf import SeedImageTokenizerConfig


TESTS = Path(__file__).parent
DEFAULT_FOLDER = TESTS.parent.parent / "shared" / "parity"
COPY = TESTS / "parity"


def parity_folder() -> Path:
    """The folder of fixtures: `SEED_PARITY_DIR`, else ../shared/parity, else the copy under tests/."""
    if "SEED_PARITY_DIR" in os.environ:
        return Path(os.environ["SEED_PARITY_DIR"])
    return DEFAULT_FOLDER if DEFAULT_FOLDER.is_dir() else COPY


@dataclass
class Fixture:
    folder: Path

    @cached_property
    def meta(self) -> dict:
        return json.loads((self.folder / "meta.json").read_text())

    @cached_property
    def weights(self) -> dict[str, torch.Tensor]:
        return load_file(self.folder / self.meta["weights"]["file"])

    @cached_property
    def io(self) -> dict[str, torch.Tensor]:
        return load_file(self.folder / self.meta["io_file"])

    @property
    def stage(self) -> str:
        """`"contrastive"`, `"codebook"` or `"tokenizer"`: which computation the fixture holds."""
        if "contrastive" in self.meta:
            return "contrastive"
        return "codebook" if "distillation" in self.meta else "tokenizer"

    def generation_head(self) -> str:
        head = self.meta.get("image_head", {}).get("kind") or self.meta.get("distillation", {}).get("kind", "text")
        if "text" in head:
            return "text"
        return "mlp" if "MLP" in head else "qformer"

    def config(self, **kwargs) -> SeedImageTokenizerConfig:
        """Configuration that the fixture's weights fit."""
        vision, qformer = self.meta["vision"], self.meta["causal_qformer"]
        head = self.generation_head()
        fields = {
            "vision_config": {
                "hidden_size": vision["embed_dim"],
                "intermediate_size": vision["mlp_hidden"],
                "num_hidden_layers": vision["depth"],
                "num_attention_heads": vision["num_heads"],
                "image_size": vision["image_size"],
                "patch_size": vision["patch_size"],
                "layer_norm_eps": vision["layer_norm_eps"],
            },
            "qformer_config": _qformer_sizes(qformer),
            "ln_vision_eps": vision["ln_vision_eps"],
            "num_query_tokens": qformer["num_query_tokens"],
            "use_text_tower": self.stage == "contrastive",
            "use_reconstruction_decoder": "pos_embed" in self.weights,
            "generation_head": head,
            **kwargs,
        }
        if "quantizer" in self.meta:
            fields["code_dim"] = self.meta["quantizer"]["code_dim"]
            fields["codebook_size"] = self.meta["quantizer"]["num_codes"]
        if self.stage == "contrastive":
            fields["projection_dim"] = self.meta["contrastive"]["embed_dim"]
            fields["label_smoothing"] = self.meta["contrastive"]["label_smoothing"]
        else:
            reverse = self.meta.get("reverse_qformer") or self.meta.get("image_head", {})
            projection = next(v for k, v in self.weights.items() if k.startswith("distill_") and k.endswith("bias"))
            fields["generation_dim"] = projection.shape[0]
            fields["num_generation_tokens"] = reverse.get("num_query_tokens", 1)
            if head != "mlp":
                sizes = _qformer_sizes({**qformer, **reverse}) | {"num_hidden_layers": reverse["num_hidden_layers"]}
                fields["reverse_qformer_config"] = sizes | {"encoder_hidden_size": qformer["hidden_size"]}
        return SeedImageTokenizerConfig(**fields)


def _qformer_sizes(sizes: dict) -> dict:
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "layer_norm_eps")
    names += ("cross_attention_frequency", "vocab_size", "max_position_embeddings", "pad_token_id")
    return {name: sizes[name] for name in names if name in sizes}


def find_fixtures(folder: Path | None = None) -> list[Fixture]:
    """All fixtures of a folder; a folder without any is an error."""
    folder = folder or parity_folder()
    fixtures = [Fixture(path.parent) for path in sorted(folder.glob("*/meta.json"))]
    if not fixtures:
        raise FileNotFoundError(f"No fixture (*/meta.json) under {folder}; set SEED_PARITY_DIR to a folder of them.")
    return fixtures
