"""Share of codes that stay the same when precision, batch, attention, storage or the picture changes a little.

    python benchmarks/stability.py     # seed-mini on its held-out drawings: model_cards/seed-mini-stability.{json,md}
    python benchmarks/stability.py --model owner/seed-1 --dataset coco --splits val --output stability.json
    python benchmarks/stability.py --conditions "torchvision instead of Pillow"    # one row; the others stay

A language model was trained on the codes of one image tokenizer under one set of conditions; this says what it loses
under others. Everything is compared with float32, sdpa attention, whole batches and PIL pictures as they are. Two rows
need torchvision (`pip install torchvision`) and are left out without it. The JSON
has the form that `seed_hf/cards/markdown.py` reads; the table goes between the markers of the `--targets`.
"""

import argparse
import copy
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm
from transformers.utils import is_torchvision_available

from seed_hf import SeedImageProcessor, SeedImageTokenizer
from seed_hf.cards.markdown import format_table, update_file
from seed_hf.data.reading import UnreadableSampleError, read_image
from seed_hf.data.rows import load_rows
from seed_hf.hub.fetch import emoji_folder
from seed_hf.mini import mini_pipeline_path
from seed_hf.models import SeedImageProcessorTorchvision
from seed_hf.packed import pack_vision_model
from seed_hf.provenance import describe_machine, describe_model, package_versions


ROOT = Path(__file__).resolve().parents[1]


SPLITS = {"test_drawings": "held-out drawings", "test_concepts": "held-out concepts"}
CARD = ROOT / "model_cards" / "seed-mini-stability.json"
JPEG_QUALITIES = (95, 75, 50, 25)
ENLARGED = (2, 4)


class Subject:
    """An image tokenizer, pictures, and their codes under the conditions that all others are compared with.

    Args:
        model ([`SeedImageTokenizer`]): In float32; it is made to use sdpa attention.
        processor ([`SeedImageProcessor`]): Its own.
        pictures (`list[PIL.Image.Image]`): RGB.
        batch_size (`int`): Pictures at once.
    """

    def __init__(self, model, processor, pictures: list[Image.Image], batch_size: int = 64):
        self.model, self.processor, self.pictures, self.batch_size = model, processor, pictures, batch_size
        model.set_attn_implementation("sdpa")
        self.pixels = self.read(pictures)
        self.codes = self.encode()

    def read(self, pictures: list) -> torch.Tensor:
        """`pixel_values` of pictures in any form."""
        return self.processor(pictures, return_tensors="pt")["pixel_values"]

    def encode(self, model=None, pixels: torch.Tensor | None = None, batch_size: int | None = None) -> torch.Tensor:
        """Codes `(num_pictures, num_query_tokens)`; what is not given is as in the reference."""
        model = self.model if model is None else model
        pixels = (self.pixels if pixels is None else pixels).to(model.device, model.dtype)
        return torch.cat([model.encode(part).cpu() for part in pixels.split(batch_size or self.batch_size)])

    def changed(self, change: Callable[[Image.Image], object]) -> torch.Tensor:
        """Codes of the pictures after a change of each."""
        return self.encode(pixels=self.read([change(picture) for picture in self.pictures]))

    def reloaded(self) -> SeedImageTokenizer:
        """The model after `save_pretrained` and `from_pretrained`."""
        with tempfile.TemporaryDirectory() as folder:
            self.model.save_pretrained(folder)
            return SeedImageTokenizer.from_pretrained(folder).to(self.model.device)


def with_attention(model, implementation: str):
    """A copy of the model that computes attention otherwise."""
    model = copy.deepcopy(model)
    model.set_attn_implementation(implementation)
    return model


def with_torchvision(subject: Subject, pictures: list[Image.Image]) -> torch.Tensor:
    """The subject's codes where torchvision and Pillow give equal codes of these pictures, and -1 elsewhere."""
    processor = SeedImageProcessorTorchvision.from_dict(subject.processor.to_dict())
    codes = subject.encode(pixels=processor(pictures, return_tensors="pt")["pixel_values"])
    return torch.where(codes == subject.encode(pixels=subject.read(pictures)), subject.codes, -1)


def as_tensor(picture: Image.Image) -> torch.Tensor:
    """The picture as bytes, channels first."""
    return torch.tensor(np.asarray(picture)).permute(2, 0, 1)


def resized(picture: Image.Image, side: int) -> Image.Image:
    """The picture squashed to a square, as data sets are often stored."""
    return picture.resize((side, side), Image.Resampling.BICUBIC)


def as_jpeg(picture: Image.Image, quality: int) -> Image.Image:
    """The picture after JPEG compression, with the colour subsampling that is usual at that quality."""
    file = BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file)


def variations(subject: Subject) -> Iterator[tuple[str, Callable[[], torch.Tensor]]]:
    """Names of the other conditions, and how to get the codes under each."""
    model = subject.model
    for name in ("bfloat16", "float16"):
        yield name, lambda name=name: subject.encode(copy.deepcopy(model).to(getattr(torch, name)))
    if model.device.type == "cpu":
        yield "int8 weights of the ViT", lambda: subject.encode(pack_vision_model(copy.deepcopy(model), "int8"))
    for size in (1, 7):
        yield f"batch of {size}", lambda size=size: subject.encode(batch_size=size)
    yield "eager attention", lambda: subject.encode(with_attention(model, "eager"))
    yield "saved and reloaded", lambda: subject.encode(subject.reloaded())
    yield "NumPy arrays", lambda: subject.changed(np.asarray)
    yield "uint8 tensors", lambda: subject.changed(as_tensor)
    yield "float tensors in [0, 1]", lambda: subject.changed(lambda picture: as_tensor(picture) / 255)
    size = model.config.vision_config.image_size
    if is_torchvision_available():
        yield "torchvision instead of Pillow", lambda: with_torchvision(subject, subject.pictures)
        side = ENLARGED[-1] * size
        enlarged = partial(map, partial(resized, side=side), subject.pictures)
        yield f"the same, pictures of {side} px", lambda: with_torchvision(subject, list(enlarged()))
    for side in (size, *(factor * size for factor in ENLARGED)):
        if any(picture.size != (side, side) for picture in subject.pictures):
            yield f"resized to {side} px before", lambda side=side: subject.changed(partial(resized, side=side))
    for quality in JPEG_QUALITIES:
        yield f"JPEG, quality {quality}", lambda quality=quality: subject.changed(partial(as_jpeg, quality=quality))


def measure(subject: Subject, conditions: list[str] | None = None) -> dict[str, tuple[float, float]]:
    """For each variation the percent of codes, and of pictures with all their codes, that stay the same."""
    wanted = dict(variations(subject))
    for name in conditions or ():
        if name not in wanted:
            raise ValueError(f"`conditions` has {name!r}; allowed here: {list(wanted)}.")
    shares = {}
    for name, get_codes in tqdm([(name, wanted[name]) for name in conditions or wanted], desc="conditions"):
        same = get_codes() == subject.codes
        shares[name] = tuple(100 * part.float().mean().item() for part in (same, same.all(dim=1)))
    return shares


def read_pictures(dataset: str, split: str, limit: int) -> tuple[list[Image.Image], int]:
    """Pictures spread over a whole split, and how many could not be read."""
    rows = load_rows(dataset, split)
    if limit and limit < len(rows):
        rows = rows.select(np.linspace(0, len(rows) - 1, limit).round().astype(int))
    pictures, unreadable = [], 0
    for row in rows:
        try:
            pictures.append(read_image(row))
        except UnreadableSampleError as error:
            unreadable += 1
            print(f"left out: {error}", file=sys.stderr)
    if not pictures:
        raise ValueError(f"`split` is {split!r}, with {unreadable} pictures that cannot be read and no other.")
    return pictures, unreadable


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Flags of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", default=mini_pipeline_path(), help="image tokenizer repository (default: seed-mini)"
    )
    parser.add_argument(
        "--dataset",
        default=str(emoji_folder() / "*.parquet"),
        help="see seed_hf.data.rows.load_rows (default: the emoji)",
    )
    parser.add_argument("--splits", nargs="+", default=list(SPLITS))
    parser.add_argument("--limit", type=int, default=128, help="pictures of each split, spread over it; 0 = all")
    parser.add_argument(
        "--conditions", nargs="+", help="measure these alone, and keep the other rows of the JSON file (default: all)"
    )
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, default=CARD, help="JSON file")
    parser.add_argument(
        "--targets", type=Path, nargs="*", help="Markdown files (default: that beside the JSON, if any)"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Measure every split; write the JSON and the tables."""
    args = parse_args(argv)
    started = time.time()
    model = SeedImageTokenizer.from_pretrained(args.model, subfolder="image_tokenizer", dtype=torch.float32)
    model = model.to(args.device).eval()
    processor = SeedImageProcessor.from_pretrained(args.model, subfolder="image_processor")
    shares, counts = {}, {}
    for split in args.splits:
        pictures, unreadable = read_pictures(args.dataset, split, args.limit)
        counts[split] = {"pictures": len(pictures), "unreadable": unreadable}
        shares[split] = measure(Subject(model, processor, pictures, args.batch_size), args.conditions)
    report = {
        "command": "python benchmarks/stability.py",
        "reference": f"float32, sdpa attention, batches of {args.batch_size}, PIL pictures as they are",
        "splits": {
            key: f"{what}, {SPLITS.get(split, split)}"
            for split in args.splits
            for key, what in ((split, "codes equal"), (f"{split}_whole", "all codes of a picture equal"))
        },
        "rows": as_rows(shares, counts),
        "data": counts,
        "model": describe_model("seed-mini" if args.model == mini_pipeline_path() else args.model, *parts(args.model)),
        "machine": describe_machine(),
        "minutes": round((time.time() - started) / 60, 1),
        "versions": package_versions(),
    }
    if args.conditions:
        report = with_rows(json.loads(args.output.read_text()), report)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(report, indent=2) + "\n")
    table = format_table(report)
    print(table)
    page = args.output.with_suffix(".md")
    for target in args.targets if args.targets is not None else [page] if page.exists() else []:
        update_file(target, table)


def as_rows(shares: dict[str, dict[str, tuple[float, float]]], counts: dict[str, dict[str, int]]) -> list[dict]:
    """The number of pictures, then one row for each condition, with two numbers for each split."""
    names = dict.fromkeys(name for measured in shares.values() for name in measured)
    rows = [{"name": "pictures", "unit": ""}, *({"name": name, "unit": "%"} for name in names)]
    for split, measured in shares.items():
        numbers = {"pictures": (counts[split]["pictures"], None), **measured}
        for row in rows:
            row[split], row[f"{split}_whole"] = numbers.get(row["name"], (None, None))
    return rows


def with_rows(report: dict, later: dict) -> dict:
    """An earlier report with the rows of a later one, which keep the versions that they were measured with."""
    for name in ("model", "data", "reference", "splits"):
        if report[name] != later[name]:
            raise ValueError(f"`{name}` of the JSON file is {report[name]}; allowed: {later[name]}, as measured now.")
    rows = {row["name"]: row for row in report["rows"]}
    for row in later["rows"][1:]:
        rows[row["name"]] = row | {name: later[name] for name in ("machine", "versions")}
    return report | {"rows": list(rows.values())}


def parts(model: str) -> list[Path]:
    """Folders of what decides the codes; none for a repository on the Hub."""
    folders = [Path(model) / name for name in ("image_tokenizer", "image_processor")]
    return [folder for folder in folders if folder.is_dir()]


if __name__ == "__main__":
    main()
