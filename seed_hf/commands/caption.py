"""`seed-hf caption`: what a language model says about images, by [`~seed_hf.inference.generate_texts`]."""

import json
from typing import TYPE_CHECKING, Annotated

from .flags import LANGUAGE_MODEL, AsJson, Device, MaxNewTokens, NumCodes, Paths, announce, model_flag
from .images import Failures, encode_files, find_images, name_of


if TYPE_CHECKING:
    import torch

    from ..models.modeling_seed import SeedForCausalLM
    from ..models.processing_seed import SeedProcessor


EXAMPLES = """examples:
  seed-hf caption photo.jpg
  seed-hf caption photos --json
  seed-hf caption photo.jpg --num-codes 8     # what its first codes say
"""


def run(
    paths: Paths,
    as_json: AsJson = False,
    max_new_tokens: MaxNewTokens = 20,
    num_codes: NumCodes = None,
    model: Annotated[str, model_flag(LANGUAGE_MODEL)] = "seed-mini",
    device: Device = None,
) -> int:
    """Prints a caption for each image that can be read."""
    from ..loading import load_language_model  # brings torch, for which `--help` must not wait

    failures = Failures()
    files = find_images(paths, failures)
    language_model, processor = load_language_model(*announce(model, device))
    num_codes = check_num_codes(num_codes, processor.tokenizer.num_query_tokens)
    for batch, codes in encode_files(files, processor.encode_image, failures):
        codes = codes[:, :num_codes]
        captions = write_lines(language_model, processor, codes, processor.caption_prompt, max_new_tokens)
        for file, caption in zip(batch, captions, strict=True):
            row = {"file": name_of(file), "caption": caption}
            print(json.dumps(row, ensure_ascii=False) if as_json else f"{row['file']}: {caption}", flush=True)
    return failures.finish()


def write_lines(
    model: "SeedForCausalLM", processor: "SeedProcessor", codes: "torch.Tensor", prompt: str, max_new_tokens: int
) -> list[str]:
    """
    Writes the first line that a language model continues a prompt with, for each image.

    Args:
        model ([`SeedForCausalLM`]): The language model.
        processor ([`SeedProcessor`]): Its processor.
        codes (`torch.LongTensor` of shape `(num_images, num_codes)`): All or the first codes of the images.
        prompt (`str`): Words with one `<image>`.
        max_new_tokens (`int`): Number of tokens at most.

    Returns:
        `list[str]`: A line for each image, written greedily.
    """
    from ..inference import generate_texts  # brings torch

    texts = generate_texts(model, processor, codes, prompt, max_new_tokens=max_new_tokens)
    return [text.split("\n")[0].strip() for text in texts]


def check_num_codes(num_codes: int | None, most: int) -> int:
    """
    Checks `--num-codes`.

    Args:
        num_codes (`int`, *optional*): What was given.
        most (`int`): Number of codes of an image.

    Returns:
        `int`: Number of codes to read.

    Raises:
        ValueError: Fewer than one, or more than an image has.
    """
    if num_codes is not None and not 1 <= num_codes <= most:
        raise ValueError(f"`--num-codes` is {num_codes}; allowed: 1 to {most}.")
    return num_codes or most


__all__ = ["check_num_codes", "run", "write_lines"]
