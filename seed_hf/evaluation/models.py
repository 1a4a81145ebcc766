"""The models that are evaluated: where they are and how they are loaded."""

import os
from pathlib import Path
from typing import Any

import torch

from ..data.row_parts import without_codes
from ..hub.fetch import find_image_tokenizer
from ..inference import generate_texts
from ..mini import mini_language_model, mini_language_model_path
from ..models.modeling_seed import SeedForCausalLM
from ..models.modeling_seed_image_tokenizer import SeedImageTokenizer
from ..models.processing_seed import SeedProcessor
from .predictor import Predictor


class TextWriter(Predictor):
    """
    Writes a text about each image with a language model.

    Args:
        folder (`Path`): Folder of the language model, or of a LoRA adapter.
        pipeline_folder (`Path`, *optional*): Folder of the image tokenizer, if the language model's has none.
        prompt (`str`): Words with one `<image>`; `{question}` stands for the question of a row.
        generation (`dict`): Settings of `generate()`.
        dtype (`str`): Type of the weights.
    """

    def __init__(self, folder: Path, pipeline_folder: Path | None, prompt: str, generation: dict, dtype: str):
        self.folder, self.pipeline_folder, self.dtype = folder, pipeline_folder, dtype
        self.prompt, self.generation = prompt, generation

    def load(self) -> None:
        """Loads model and processor."""
        self.model, self.processor = load_language_model(self.folder, self.pipeline_folder, self.dtype)
        self.model.to(self.device)

    @torch.no_grad()
    def predict(self, rows: list[dict[str, Any]], numbers: list[int]) -> list[dict[str, Any]]:
        """Predicts `text` for each row; where rows have `codes` the image tokenizer is not needed."""
        if "codes" in rows[0]:
            codes = torch.tensor([row["codes"] for row in rows])
        else:
            images = self.processor.image_processor([row["image"] for row in rows], return_tensors="pt")
            if (image_tokenizer := self.model.image_tokenizer) is None:
                raise ValueError(f"{self.folder} has no image tokenizer and names none; allowed: `image_tokenizer`.")
            pixel_values = images["pixel_values"].to(self.device, image_tokenizer.dtype)
            codes = image_tokenizer.try_encode(pixel_values).cpu()
        as_text = self.processor.tokenizer.escape_control_tokens
        prompts = [self.prompt.replace("{question}", as_text(row.get("question", ""))) for row in rows]
        texts = generate_texts(self.model, self.processor, codes.clamp(min=0), prompts, **self.generation)
        # a new line ends an answer, as with BLIP-2
        predictions = [{"text": text.split("\n")[0].strip()} for text in texts]
        return without_codes(predictions, codes, self.model.dtype)


def load_language_model(
    folder: str | os.PathLike, pipeline_folder: str | os.PathLike | None = None, dtype: str = "auto"
) -> tuple[SeedForCausalLM, SeedProcessor]:
    """
    Loads a language model that reads images, with its processor.

    Args:
        folder (`str` or `os.PathLike`): Folder of the language model or adapter.
        pipeline_folder (`str` or `os.PathLike`, *optional*): Folder of its image tokenizer, if it has none
            inside and is to see images and not codes.
        dtype (`str`, defaults to `"auto"`): Type of the weights.

    Returns:
        `tuple[SeedForCausalLM, SeedProcessor]`: in eval mode.
    """
    if Path(folder) == Path(mini_language_model_path()):
        # its weights are saved in half precision; it was measured in float32
        return mini_language_model(folder, pipeline_folder, dtype=getattr(torch, dtype.replace("auto", "float32")))
    processor = SeedProcessor.from_pretrained(folder)
    image_tokenizer = True
    if pipeline_folder is not None:
        tokenizer_folder, _ = find_image_tokenizer(pipeline_folder)
        image_tokenizer = SeedImageTokenizer.from_pretrained(tokenizer_folder, dtype=dtype)
    model = SeedForCausalLM.from_pretrained(folder, image_tokenizer=image_tokenizer, dtype=dtype)
    return model.eval(), processor


def choose_prompt(prompt: str, processor_prompt: str) -> str:
    """
    Completes the words that ask.

    Args:
        prompt (`str`): `"model"` for those that the model's processor has, or other words.
        processor_prompt (`str`): What the processor has.

    Returns:
        `str`: with one `<image>` and, for questions, `{question}`.
    """
    if prompt == "model":
        return processor_prompt
    text = prompt.replace("{}", "{question}")
    return text if "<image>" in text else f"<image>{text}"


__all__ = ["TextWriter", "choose_prompt", "load_language_model"]
