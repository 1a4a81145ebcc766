"""`seed-hf search`: images by words or by an image, from their codes alone (64 bytes for an image of 32 codes)."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .images import Failures, encode_files, find_images, is_codes_file, read_codes
from .loading import add_model_arguments, announce


if TYPE_CHECKING:
    import torch

    from ..models.modeling_seed_image_tokenizer import SeedImageTokenizer


EXAMPLES = """examples:
  seed-hf search photos "a red fruit"
  seed-hf tokenize photos --output index.parquet
  seed-hf search index.parquet "a red fruit" --top 3 --json
  seed-hf search index.parquet photo.jpg
  seed-hf search index.parquet --duplicates 0.95
"""
_ROWS_AT_ONCE = 1024


def add_arguments(parser: argparse.ArgumentParser):
    """Adds the arguments of the sub-command."""
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, EXAMPLES
    parser.add_argument("images", help="folder with images, glob, or .jsonl or .parquet file of seed-hf tokenize")
    parser.add_argument("query", nargs="?", help="words, or an image file")
    parser.add_argument("--top", type=int, default=5, help="number of images to show (default: 5)")
    duplicates_help = "instead of a query: show all pairs of images that are at least that similar, up to 1"
    parser.add_argument("--duplicates", type=float, metavar="SIMILARITY", help=duplicates_help)
    parser.add_argument("--json", action="store_true", help="print one JSON line for each result")
    add_model_arguments(parser, "an image tokenizer with its text side, or a pipeline")


def run(args: argparse.Namespace) -> int:
    """Prints the nearest images, the nearest first, or pairs of similar images."""
    import torch  # inside `run`, so that `--help` does not wait for it

    from ..loading import load_image_tokenizer

    if (args.query is None) == (args.duplicates is None):
        raise ValueError("give either a query or `--duplicates`, and not both.")
    failures = Failures()
    files = [] if is_codes_file(args.images) else find_images([args.images], failures)
    model, encode, folder = load_image_tokenizer(*announce(args))
    if is_codes_file(args.images):
        names, codes = read_codes(Path(args.images))
    else:
        batches = list(encode_files(files, encode, failures))
        names = [str(file) for batch, _ in batches for file in batch]
        codes = torch.cat([codes for _, codes in batches]) if batches else torch.empty(0)
    if not names:
        raise ValueError(f"{args.images!r} has no images to search.")
    images = _code_features(model, codes)
    if args.duplicates is not None:
        _print_duplicates(names, images, args)
        return failures.finish()
    scores = (images @ _query_features(args.query, model, encode, folder)).tolist()
    for score, name in sorted(zip(scores, names, strict=True), key=lambda result: -result[0])[: args.top]:
        row = {"file": name, "similarity": round(score, 4)}
        print(json.dumps(row, ensure_ascii=False) if args.json else f"{score:.2f}  {name}")
    return failures.finish()


def _code_features(model: "SeedImageTokenizer", codes: "torch.Tensor") -> "torch.Tensor":
    import torch

    from ..models.image_tokens_seed import check_codes

    codes = check_codes(codes, model.config.codebook_size, model.config.num_query_tokens)
    with torch.no_grad():
        parts = [
            model.get_image_features(codes=part.to(model.device)).pooler_output for part in codes.split(_ROWS_AT_ONCE)
        ]
    return torch.cat(parts)


def _query_features(query: str, model: "SeedImageTokenizer", encode, folder: Path) -> "torch.Tensor":
    """The feature of an image file, from its codes too, or of words."""
    from ..inference import text_features
    from ..loading import load_text_tokenizer
    from ..models.image_processing_seed import load_rgb_image

    if Path(query).is_file():
        return _code_features(model, encode([load_rgb_image(Path(query), name="query")]))[0]
    return text_features(model, load_text_tokenizer(folder), [query])[0]


def _print_duplicates(names: list[str], images: "torch.Tensor", args: argparse.Namespace):
    for score, first, second in _similar_pairs(images, args.duplicates):
        row = {"files": [names[first], names[second]], "similarity": round(score, 4)}
        print(json.dumps(row, ensure_ascii=False) if args.json else f"{score:.2f}  {names[first]}  {names[second]}")


def _similar_pairs(images: "torch.Tensor", least: float) -> Iterator[tuple[float, int, int]]:
    """Pairs of rows in blocks: all similarities at once would not fit the memory."""
    for start in range(0, len(images), _ROWS_AT_ONCE):
        similarity = images[start : start + _ROWS_AT_ONCE] @ images[start:].t()
        for row, column in (similarity.triu(1) >= least).nonzero().tolist():
            if column > row:  # with a negative bound, the zeros below the diagonal pass
                # rounding can lead beyond 1
                yield min(1.0, similarity[row, column].item()), start + row, start + column


__all__ = ["add_arguments", "run"]
