"""Any image-text data set to checked tar shards for training: every image decoded, duplicates out, nothing silent.

    python training/prepare_data.py --dataset "raw/cc3m-{split}-*.tar" --output_dir cc3m --num_processes 16 \
        --min_side 180 --min_aspect_ratio 0.55 --shrink_to 512

    OUT/train-00000.tar ...         images, captions (.txt, one a line), and a .json with source, sizes and hash
    OUT/prepared-train.json         counts, reasons, settings; size and hash of every shard
    OUT/kept-train.parquet          what is in which shard, with hashes
    OUT/dropped-train.parquet       what is not, and why

It works in parts, each written whole: kill it and start it again, or start it on several machines that share OUT. The
train scripts read the result with `--dataset OUT`. To see what is wrong with a data set and keep it as it is, add
`--check_only`.
"""

import argparse
import io
import json
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING


import seed_hf_script  # isort: skip  # noqa: F401


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="tar shards, parquet files, a folder, or a Hub id")
    parser.add_argument("--split", default="train", help="split to prepare, also with a slice (default: %(default)s)")
    parser.add_argument("--output_dir", required=True, help="folder to write")
    parser.add_argument("--num_processes", type=int, default=1, help="number of processes on this machine")
    parser.add_argument("--check_only", action="store_true", help="write what is wrong, and no shards")
    parser.add_argument("--samples_per_shard", type=int, default=5000, help="default: %(default)s")
    parser.add_argument(
        "--seed", type=int, default=42, help="seed of the order in the shards, so that each is a mixture"
    )
    group = parser.add_argument_group("what to keep (SEED-2's filters in brackets; its CLIP similarity is not here)")
    group.add_argument("--min_side", type=int, default=0, help="least shorter side in pixels (SEED-2: 180)")
    group.add_argument(
        "--min_aspect_ratio", type=float, default=0, help="least quotient of shorter and longer side (SEED-2: 0.55)"
    )
    group.add_argument(
        "--shrink_to", type=int, default=0, help="shorter side of larger images, as JPEG; 0 = as they are"
    )
    group.add_argument("--near_duplicates", action="store_true", help="also drop images of equal difference hash")
    group.add_argument("--not_in", nargs="*", default=[], help="kept-*.parquet of splits whose images to drop here")
    unreadable_help = "share of the images that may be unreadable (default: %(default)s)"
    outside_help = "also read what the data set names by a path or URL outside of its own folder or source"
    group.add_argument("--allow_outside_paths", action="store_true", help=outside_help)
    group.add_argument("--max_unreadable_share", type=float, default=0.01, help=unreadable_help)
    return parser.parse_args(argv)


if __name__ == "__main__":
    parse_args()  # `--help` and mistakes come before the imports that take seconds

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image
from tqdm.auto import tqdm

from seed_hf.data.codes import split_name
from seed_hf.data.part_records import PartRecords
from seed_hf.data.reading import SkippedSamples, UnreadableSampleError, read_image_bytes, row_key, try_image
from seed_hf.data.resumable import PartMaker, check_description, check_positive, drop_parts, run_parts, write_whole
from seed_hf.data.rows import load_rows
from seed_hf.data.shards import clean_captions
from seed_hf.models.image_formats_seed import IMAGE_FORMATS
from seed_hf.models.image_processing_seed import load_rgb_image
from seed_hf.provenance import rows_digest
from seed_hf.sealed_files import file_digest, write_part


if TYPE_CHECKING:
    from datasets import Dataset

ROWS_PER_CHECK = 4096


def difference_hash(image: Image.Image) -> str:
    """Computes 64 bits that survive scaling and compression: whether brightness rises from left to right."""
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BILINEAR), dtype=np.int16)
    return np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes().hex()


def check_row(row: dict, number: int, image: Image.Image | UnreadableSampleError, args: argparse.Namespace) -> dict:
    """Describes a row; `reason` says why it cannot be used, and is empty otherwise."""
    checked = {"number": number, "key": row_key(row), "width": 0, "height": 0, "sha256": "", "difference_hash": ""}
    checked["captions"] = clean_captions(row.get("captions") or [row["caption"]])
    checked |= {"reason": "" if checked["captions"] else "no caption", "detail": ""}
    if row.get("problem"):
        return {**checked, "reason": row["problem"].partition(":")[0], "detail": row["problem"]}
    if isinstance(image, UnreadableSampleError):
        return {**checked, "reason": "unreadable", "detail": image.reason}
    checked |= {"width": image.width, "height": image.height, "difference_hash": difference_hash(image)}
    size = f"{image.width} x {image.height}"
    if min(image.size) < args.min_side:
        checked |= {"reason": "too small", "detail": size}
    elif min(image.size) < args.min_aspect_ratio * max(image.size):
        checked |= {"reason": "too long", "detail": size}
    return checked


class Checks(PartMaker):
    """The first pass: a table of what was found, for each part of the rows."""

    title = "checked"

    def __init__(self, records: PartRecords, args: argparse.Namespace):
        self.records, self.args = records, args
        self.skipped = SkippedSamples(max_share=args.max_unreadable_share)

    def make(self, part: int, path: Path, progress: tqdm) -> None:
        """Looks at each row, and notes which images were read."""
        record, checked, digests = self.records.start(part), [], []
        for number in self.records.numbers(part):
            row = self.records.rows[number]
            image, digest = try_image(row)
            checked.append(check_row(row, number, image, self.args))
            if digest and not isinstance(image, UnreadableSampleError):
                checked[-1]["sha256"] = digest.hex()
            digests.append(digest)
            self.skipped.num_read += 1
            if checked[-1]["reason"] == "unreadable":
                self.skipped.add(image)
            progress.update()
        table = pa.Table.from_pandas(pd.DataFrame(checked))
        write_part(path, table, self.records.finish(record, digests))


def drop_duplicates(table: pd.DataFrame, args: argparse.Namespace) -> pd.DataFrame:
    """Marks rows whose image an earlier row, or another split, has; the captions of the same image are joined."""
    table = table.copy()
    for path in args.not_in:
        other = set(pd.read_parquet(path)["sha256"])
        elsewhere = (table["reason"] == "") & table["sha256"].isin(other)
        table.loc[elsewhere, ["reason", "detail"]] = ["image of another split", path]
    columns = {"sha256": "duplicate"} | ({"difference_hash": "near-duplicate"} if args.near_duplicates else {})
    for column, reason in columns.items():
        usable = table[table["reason"] == ""]
        first = usable.groupby(column)["number"].transform("min")
        twins = usable[first != usable["number"]]
        kept = first[twins.index]
        table.loc[twins.index, "reason"] = reason
        table.loc[twins.index, "detail"] = [f"of row {number}: {table.at[number, 'key']}" for number in kept]
        if column == "sha256":
            for captions, number in zip(twins["captions"], kept, strict=True):
                table.at[number, "captions"] = list(dict.fromkeys([*table.at[number, "captions"], *captions]))
    return table


def file_suffix(data: bytes) -> str:
    """Gives the ending by which `load_rows` recognises a file of this format."""
    if data.startswith(b"\xff\xd8\xff"):
        # Pillow refuses to open the largest, which are read at half their size; those of several frames are JPEGs, too
        return "jpg"
    Image.init()
    with Image.open(io.BytesIO(data), formats=[name for name in IMAGE_FORMATS if name in Image.OPEN]) as image:
        return IMAGE_FORMATS[image.format][0].removeprefix(".")


def shrink(data: bytes, size: tuple[int, int], shorter_side: int) -> tuple[bytes, str]:
    """Gives the file as it is, or a smaller JPEG, with its ending."""
    if not shorter_side or min(size) <= shorter_side:
        return data, file_suffix(data)
    image = load_rgb_image(data)
    scale = shorter_side / min(image.size)
    image = image.resize([round(side * scale) for side in image.size], Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95)
    return file.getvalue(), "jpg"


class Shards(PartMaker):
    """The second pass: the samples that are kept, each in the shard that was drawn for it."""

    title = "written"

    def __init__(self, rows: "Dataset", kept: pd.DataFrame, paths: list[Path], args: argparse.Namespace):
        self.rows, self.args = rows, args
        self.samples = [kept[kept["shard"] == path.name].to_dict("records") for path in paths]

    def make(self, part: int, path: Path, progress: tqdm) -> None:
        """Writes one shard."""
        with tarfile.open(path, "w") as tar:
            for checked in self.samples[part]:
                self.add_sample(tar, checked)
                progress.update()

    def add_sample(self, tar: tarfile.TarFile, checked: dict) -> None:
        """Adds image, captions and description under the number of the row."""
        data, size = read_image_bytes(self.rows[checked["number"]]), (checked["width"], checked["height"])
        image, suffix = shrink(data, size, self.args.shrink_to)
        about = self.describe(checked)
        files = {suffix: image, "txt": "\n".join(about["captions"]), "json": json.dumps(about)}
        for ending, content in files.items():
            content = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(f"{checked['number']:09d}.{ending}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))

    def describe(self, checked: dict) -> dict:
        """What a shard says of a sample."""
        about = {name: checked[name] for name in ("width", "height", "sha256", "difference_hash")}
        captions = [str(caption) for caption in checked["captions"]]
        return about | {"captions": captions, "source": self.args.dataset, "source_key": checked["key"]}

    def is_current(self, part: int, path: Path) -> bool:
        """Whether a finished shard holds these samples: images may have been replaced since."""
        try:
            with tarfile.open(path) as tar:
                described = [json.load(tar.extractfile(member)) for member in tar if member.name.endswith(".json")]
        except (tarfile.TarError, ValueError):
            return False
        return described == [self.describe(checked) for checked in self.samples[part]]


def write_summary(output: Path, name: str, table: pd.DataFrame, paths: list[Path], args: argparse.Namespace) -> dict:
    """Writes tables of what was kept and dropped, and the numbers."""
    dropped = table[table["reason"] != ""]
    for kind, part in (("kept", table[table["reason"] == ""]), ("dropped", dropped)):
        with write_whole(output / f"{kind}-{name}.parquet") as temporary:
            part.to_parquet(temporary, index=False)
    summary = {
        "rows": len(table),
        "kept": len(table) - len(dropped),
        "dropped": dropped["reason"].value_counts().to_dict(),
        "settings": vars(args),
        "shards": [
            {"name": path.name, "bytes": path.stat().st_size, "sha256": file_digest(path)}
            | {"samples": int((table["shard"] == path.name).sum())}
            for path in paths
        ],
    }
    with write_whole(output / f"prepared-{name}.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=2))
    return summary


def main(argv: list[str] | None = None) -> dict:
    """Checks, deduplicates and writes."""
    args = parse_args(argv)
    reading = {"max_unreadable_share": args.max_unreadable_share, "allow_outside_paths": args.allow_outside_paths}
    check_positive(samples_per_shard=args.samples_per_shard)
    if missing := [path for path in args.not_in if not Path(path).is_file()]:
        raise ValueError(f"not_in={missing[0]!r} is not there; allowed: kept-*.parquet of another split.")
    rows = load_rows(args.dataset, args.split, keep_unusable=True, **reading)
    output, name = Path(args.output_dir), split_name(args.split)
    may_differ = ("num_processes", "output_dir", "check_only", "max_unreadable_share")
    pattern = f"{name}-[0-9][0-9][0-9][0-9][0-9].tar"
    if any(output.glob(pattern)) and not (output / f".settings-{name}.json").is_file():
        raise ValueError(
            f"output_dir={args.output_dir!r} has shards that this script did not write; allowed: another."
        )
    settings = {key: value for key, value in vars(args).items() if key not in may_differ}
    check_description(output / f".settings-{name}.json", {**settings, "rows": rows_digest(rows)})

    records = PartRecords(rows, ROWS_PER_CHECK, rows_digest(rows))
    checks = [output / f".checks-{name}" / f"{part:05d}.parquet" for part in range(len(records.sizes))]
    records.drop_stale(checks)
    run_parts(Checks(records, args), checks, records.sizes, args.num_processes)
    table = drop_duplicates(pd.concat([pd.read_parquet(path) for path in checks], ignore_index=True), args)

    kept = table.index[table["reason"] == ""].to_numpy()
    if not len(kept):
        raise ValueError(f"Nothing is left of {args.dataset!r}: {table['reason'].value_counts().to_dict()}.")
    order = np.random.default_rng(args.seed).permutation(kept)
    table["shard"] = ""
    num_shards = 0 if args.check_only else -(-len(order) // args.samples_per_shard)
    paths = [output / f"{name}-{shard:05d}.tar" for shard in range(num_shards)]
    for path, numbers in zip(paths, np.array_split(order, num_shards) if paths else [], strict=True):
        table.loc[numbers, "shard"] = path.name
    if paths:
        for path in set(output.glob(pattern)) - set(paths):
            path.unlink()  # fewer samples are kept than before images were replaced
        shards = Shards(rows, table.loc[order], paths, args)
        drop_parts(paths, lambda part: False, lambda part: shards.is_current(part, paths[part]))
        run_parts(shards, paths, [len(samples) for samples in shards.samples], args.num_processes)
    summary = write_summary(output, name, table, paths, args)
    counts = f"{summary['kept']} of {summary['rows']} samples kept, dropped {summary['dropped']}"
    print(f"{output}: {counts}, {num_shards} shards")
    return summary


if __name__ == "__main__":
    main()
