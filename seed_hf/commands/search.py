"""`seed-hf search`: images by words or by an image, from their codes alone (64 bytes for an image of 32 codes)."""

import json
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .flags import AsJson, Device, ImageSize, announce, model_flag
from .images import Failures, encode_files, find_images, has_codes, name_of, read_codes


if TYPE_CHECKING:
    import torch

    from ..image_tokenizers import ImageTokenizer


EXAMPLES = """examples:
  seed-hf search photos "a red fruit"
  seed-hf tokenize photos --output index.parquet
  seed-hf search index.parquet "a red fruit" --top 3 --json
  seed-hf search codes "a red fruit"                # what seed-hf encode wrote
  seed-hf search index.parquet photo.jpg
  seed-hf search index.parquet --duplicates 0.95
"""
_ROWS_AT_ONCE = 1024


def run(
    images: Annotated[
        str,
        typer.Argument(
            metavar="IMAGES",
            help="Folder with images, glob, .jsonl or .parquet file of seed-hf tokenize, or folder of seed-hf encode.",
        ),
    ],
    query: Annotated[str | None, typer.Argument(metavar="QUERY", help="Words, or an image file.")] = None,
    top: Annotated[int, typer.Option(metavar="NUMBER", help="Number of images to show.")] = 5,
    duplicates: Annotated[
        float | None,
        typer.Option(
            min=-1,
            max=1,
            metavar="SIMILARITY",
            help="Instead of a query: show all pairs of images that are at least that similar, up to 1.",
        ),
    ] = None,
    as_json: AsJson = False,
    model: Annotated[str, model_flag("an image tokenizer, for words with its text side, or a pipeline")] = "seed-mini",
    device: Device = None,
    image_size: ImageSize = None,
) -> int:
    """Prints the nearest images, the nearest first, or pairs of similar images."""
    import torch  # inside `run`, so that `--help` does not wait for it

    from ..image_tokenizers import encode_images
    from ..loading import load_image_tokenizer

    if (query is None) == (duplicates is None):
        given = "neither a query nor `--duplicates` is" if query is None else "a query and `--duplicates` are both"
        raise ValueError(f"{given} given; allowed: exactly one of them.")
    if top < 1:
        raise ValueError(f"`--top` is {top}; allowed: 1 or more.")
    failures = Failures()
    files = [] if has_codes(images) else find_images([images], failures)
    image_tokenizer = load_image_tokenizer(*announce(model, device), image_size)
    if has_codes(images):
        names, codes = read_codes(Path(images))
    else:
        batches = list(encode_files(files, partial(encode_images, image_tokenizer), failures))
        names = [name_of(file) for batch, _ in batches for file in batch]
        codes = torch.cat([codes for _, codes in batches]) if batches else torch.empty(0)
    if not names:
        raise ValueError(f"{images!r} has no images to search.")
    features = _code_features(image_tokenizer, codes)
    if duplicates is not None:
        _print_duplicates(names, features, duplicates, as_json)
        return failures.finish()
    scores = (features @ _query_features(query, image_tokenizer)).tolist()
    for score, name in sorted(zip(scores, names, strict=True), key=lambda result: -result[0])[:top]:
        row = {"file": name, "similarity": round(score, 4)}
        print(json.dumps(row, ensure_ascii=False) if as_json else f"{score:.2f}  {name}")
    return failures.finish()


def _code_features(image_tokenizer: "ImageTokenizer", codes: "torch.Tensor") -> "torch.Tensor":
    import torch

    from ..models.image_tokens_seed import check_codes

    # all at once, so that one error names the first wrong code of all
    codes = check_codes(codes, image_tokenizer.codebook_size, image_tokenizer.num_codes)
    parts = [image_tokenizer.get_image_features(part) for part in codes.split(_ROWS_AT_ONCE)]
    return torch.cat(parts)


def _query_features(query: str, image_tokenizer: "ImageTokenizer") -> "torch.Tensor":
    """The feature of an image file, from its codes too, or of words."""
    from ..image_tokenizers import encode_images, seed_model
    from ..inference import text_features
    from ..loading import load_text_tokenizer
    from ..models.image_formats_seed import IMAGE_SUFFIXES
    from ..models.image_processing_seed import load_rgb_image

    if not query.strip():
        raise ValueError("`query` is empty; allowed: some words, or an image file.")
    # not `Path.is_file`, which raises for more words than a name can have
    is_file = os.path.isfile(query)
    if Path(query).suffix.lower() in IMAGE_SUFFIXES and not is_file:
        raise ValueError(f"`query` is {query!r}, which is no file; allowed: some words, or an image file.")
    if is_file:
        image = load_rgb_image(Path(query), name="query")
        return _code_features(image_tokenizer, encode_images(image_tokenizer, [image]))[0]
    model = seed_model(image_tokenizer, "text side, which words need (an image file will do as query)")
    return text_features(model, load_text_tokenizer(image_tokenizer.folder), [query])[0]


def _print_duplicates(names: list[str], features: "torch.Tensor", least: float, as_json: bool):
    is_any = False
    for score, first, second in _similar_pairs(features, least):
        is_any = True
        row = {"files": [names[first], names[second]], "similarity": round(score, 4)}
        print(json.dumps(row, ensure_ascii=False) if as_json else f"{score:.2f}  {names[first]}  {names[second]}")
    if not is_any:
        print(f"no two of {len(names)} images are that similar", file=sys.stderr)


def _similar_pairs(images: "torch.Tensor", least: float) -> Iterator[tuple[float, int, int]]:
    """Pairs of rows in blocks: all similarities at once would not fit the memory."""
    for start in range(0, len(images), _ROWS_AT_ONCE):
        similarity = images[start : start + _ROWS_AT_ONCE] @ images[start:].t()
        for row, column in (similarity.triu(1) >= least).nonzero().tolist():
            if column > row:  # with a negative bound, the zeros below the diagonal pass
                # rounding can lead beyond 1
                yield min(1.0, similarity[row, column].item()), start + row, start + column


__all__ = ["run"]
