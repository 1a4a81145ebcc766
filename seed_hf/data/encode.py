"""Codes of a whole data set, computed once: stage 3 never sees a picture (64 bytes a picture instead of 521 GFLOP)."""

import hashlib
import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from ..hub.fetch import find_image_tokenizer, resolve_mini
from ..models.configuration_seed_image_tokenizer import SeedImageTokenizerConfig
from ..models.image_processing_seed import SeedImageProcessor
from ..models.modeling_seed_image_tokenizer import SeedImageTokenizer
from ..provenance import rows_digest, weights_digest
from ..sealed_files import write_part
from .augmentation import Augmentation, augment
from .codes import (
    codes_identity,
    count_encoded,
    count_part,
    description_path,
    part_paths,
    read_codes,
    skipped_path,
)
from .part_records import PartRecords
from .reading import (
    SkippedSamples,
    UnreadableSampleError,
    read_image,
    read_image_bytes,
    row_key,
    split_location,
)
from .resumable import check_description, claim_parts, write_whole
from .seeds import derive_seed


if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

# Mild, since codes are to stay those of the same picture.
_AUGMENTATION = Augmentation(crop_scale=0.8, flip_probability=0.0, rotation_degrees=5.0, color_jitter=0.15)


def encode_rows(
    rows: "Dataset",
    image_tokenizer: str | os.PathLike,
    output_dir: str | os.PathLike,
    split: str = "train",
    *,
    source: str = "",
    revision: str | None = None,
    columns: Sequence[str] = (),
    augmented_views: int = 0,
    batch_size: int = 64,
    num_processes: int = 1,
    num_workers: int = 0,
    rows_per_file: int = 8192,
    dtype: str = "auto",
    max_unreadable_share: float = 0.01,
) -> dict[str, float]:
    """Encodes the pictures of a data set into parquet files, resumable and shared between processes.

    The rows are cut into parts of `rows_per_file`, one file each. Files appear whole or not at all, and the same call
    goes on with the parts that are missing: after a kill, in more processes, or on several machines at once that share
    the folder. A picture that cannot be read, or that half precision has no room for, is left out and listed under
    `skipped/`. Parts that are damaged, or whose images have been replaced since (by size and time of change of their
    files, then by content), are made anew.

    Args:
        rows (`datasets.Dataset`): what [`~seed_hf.data.rows.load_rows`] gives.
        image_tokenizer (`str` or `os.PathLike`): `"seed-mini"`, or folder or Hub id of an image tokenizer with its
            image processor, or of a pipeline that has both.
        output_dir (`str` or `os.PathLike`): folder to write; other splits can share it. Read it with
            [`~seed_hf.data.codes.read_codes`].
        split (`str`, defaults to `"train"`): name of the split in the output.
        source (`str`, defaults to `""`): what the data set is called in the description.
        revision (`str`, *optional*): commit, branch or tag, for a Hub id.
        columns (`Sequence[str]`, defaults to `()`): columns to keep beside `key`, `caption` and, where pictures have
            several, `captions`.
        augmented_views (`int`, defaults to 0): codes of so many mildly changed views in a further column
            `augmented_codes`. The original has none.
        batch_size (`int`, defaults to 64): pictures per forward pass.
        num_processes (`int`, defaults to 1): processes on this machine, dealt to its GPUs.
        num_workers (`int`, defaults to 0): further processes that read pictures, for each of these.
        rows_per_file (`int`, defaults to 8192): pictures per file: what a kill can cost each process.
        dtype (`str`, defaults to `"auto"`): of the weights, such as `"float16"`; as saved by default. Take that of
            inference, since half precision changes a few codes.
        max_unreadable_share (`float`, defaults to 0.01): stop beyond it.

    Returns:
        `dict[str, float]`: `num_images` and `num_skipped` in all, `num_encoded` and `seconds` of this call (images
        that other calls finished meanwhile included).

    Raises:
        ValueError: if `output_dir` holds codes of other rows, weights or settings, an argument is out of range, or
            weights are NaN or infinity.
        TooManyUnreadableSamplesError: beyond `max_unreadable_share`.

    Example:
        ```python
        import tempfile

        from seed_hf.data.rows import load_rows
        from seed_hf.data.codes import read_codes
        from seed_hf.data.encode import encode_rows
        from seed_hf.mini import mini_pipeline_path

        folder = tempfile.mkdtemp()
        rows = load_rows("training/data/emoji/*.parquet", "validation[:32]")
        encode_rows(rows, mini_pipeline_path(), folder, "validation")
        codes = read_codes(folder, "validation")["codes"][0]  # 32 integers
        ```
    """
    counts = {"batch_size": batch_size, "num_processes": num_processes, "rows_per_file": rows_per_file}
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"`{name}` is {value}; allowed: 1 or more.")
    folders = find_image_tokenizer(resolve_mini(image_tokenizer, "pipeline"), revision)
    config = SeedImageTokenizerConfig.from_pretrained(folders[0]).to_dict()
    description = {
        "source": source,
        "split": split,
        "num_rows": len(rows),
        "rows": rows_digest(rows),
        "image_tokenizer": str(image_tokenizer),
        "weights": weights_digest(*folders),
        "dtype": config.get("dtype") or "float32" if dtype == "auto" else dtype,
        "num_codes": config["num_query_tokens"],
        "codebook_size": config["codebook_size"],
        "augmented_views": augmented_views,
        "rows_per_file": rows_per_file,
        "columns": _kept_columns(rows, columns),
    }
    check_description(description_path(Path(output_dir), split), description)
    paths = part_paths(Path(output_dir), split, len(rows), rows_per_file)
    records = PartRecords(rows, rows_per_file, codes_identity(description), count_part)
    records.drop_stale(paths)
    started, before = time.monotonic(), count_encoded(paths)[0]
    job = partial(
        _encode_parts,
        num_processes=num_processes,
        rows=rows,
        records=records,
        folders=folders,
        paths=paths,
        description=description,
        loader_settings={"batch_size": batch_size, "num_workers": num_workers},
        skipped=SkippedSamples(max_share=max_unreadable_share),
    )
    if num_processes > 1:
        torch.multiprocessing.spawn(job, nprocs=num_processes)
    elif before + count_encoded(paths)[1] < len(rows):
        job(int(os.environ.get("LOCAL_RANK", 0)))
    num_images, num_skipped = count_encoded(paths)
    if num_images + num_skipped != len(rows):
        raise RuntimeError(f"{output_dir} holds {num_images} images and {num_skipped} skipped ones of {len(rows)}.")
    seconds = time.monotonic() - started
    done = {"num_images": num_images, "num_skipped": num_skipped, "num_encoded": num_images - before}
    return {**done, "seconds": seconds}


def encode_once(
    rows: "Dataset", image_tokenizer: str | os.PathLike, cache_dir: str | os.PathLike, split: str, **settings
) -> "Dataset":
    """Codes of rows, from a cache where they are in it; all columns but the picture are kept.

    Several processes can ask at once: they share the work.

    Args:
        rows (`datasets.Dataset`): what [`~seed_hf.data.rows.load_rows`] gives.
        image_tokenizer (`str` or `os.PathLike`): folder or Hub id.
        cache_dir (`str` or `os.PathLike`): holds a folder for each combination of weights and rows.
        split (`str`): name of the split.
        settings: further arguments of [`encode_rows`].

    Returns:
        `datasets.Dataset`: the columns of `rows` but `image`, and `codes` (`num_query_tokens` integers).
    """
    identity = f"{weights_digest(*find_image_tokenizer(image_tokenizer))}-{rows_digest(rows)}"
    folder = Path(cache_dir) / f"{identity}-{settings.get('augmented_views', 0)}"
    columns = [name for name in rows.column_names if name != "image"]
    encode_rows(rows, image_tokenizer, folder, split, columns=columns, **settings)
    return read_codes(folder, split)


def _kept_columns(rows: "Dataset", columns: Sequence[str]) -> list[str]:
    if unknown := [name for name in columns if name not in rows.column_names or name == "image"]:
        raise ValueError(f"`columns` names {unknown}; allowed: some of {rows.column_names} but 'image'.")
    several = "captions" in rows.column_names and max(map(len, rows["captions"])) > 1
    return list(dict.fromkeys(["key", "caption", *(["captions"] if several else []), *columns]))


def _encode_parts(
    index: int, num_processes, rows, records: PartRecords, folders, paths, description, loader_settings, skipped
) -> None:
    """What one process does: parts that nobody else has, until there are none."""
    device = f"cuda:{index % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"
    model = SeedImageTokenizer.from_pretrained(folders[0], dtype=description["dtype"]).eval().to(device)
    _check_weights(model, folders[0])
    encoder = _Encoder(model, SeedImageProcessor.from_pretrained(folders[1]), description["augmented_views"])
    # smoothing=0: images/s and the time left are means since the start, over all processes
    progress = tqdm(
        desc="codes",
        total=len(rows),
        initial=sum(count_encoded(paths)),
        unit="image",
        smoothing=0,
        mininterval=1,
        disable=index > 0,
    )
    for part in claim_parts(paths, start=index * len(paths) // num_processes):
        progress.update(max(0, sum(count_encoded(paths)) - progress.n))
        record, digests = records.start(part), []
        loader = DataLoader(_Views(rows, records.numbers(part), encoder), collate_fn=_collate, **loader_settings)
        skipped.log_file = skipped_path(paths[part])
        skipped.log_file.unlink(missing_ok=True)
        with write_whole(paths[part]) as temporary:
            found: dict[int, tuple[str, list]] = {}
            for good, pixel_values, errors, read in loader:
                digests += read
                skipped.num_read += len(read)
                codes = encoder.encode(pixel_values) if good else []
                for (number, key), views in zip(good, codes, strict=True):
                    if views is None:
                        errors.append(_no_codes(rows[number], key, model.dtype))
                    else:
                        found[number] = (key, views)
                for error in errors:
                    skipped.add(error)
                progress.update(len(read))
            table = _table_of_codes(rows.select(list(found)), list(found.values()), description, model.config)
            write_part(temporary, table, records.finish(record, digests))
    progress.update(len(rows) - progress.n)
    progress.close()


def _check_weights(model: SeedImageTokenizer, folder: str | os.PathLike) -> None:
    """Weights that are NaN would cost every image."""
    values = model.state_dict().items()
    if bad := [name for name, value in values if value.is_floating_point() and not value.isfinite().all()]:
        raise ValueError(
            f"`image_tokenizer` {str(folder)!r} has NaN or infinity in {len(bad)} weights, such as {bad[0]!r}; "
            f"allowed: finite values, and a `dtype` with room for them (it is {model.dtype})."
        )


def _no_codes(row: dict, key: str, dtype: torch.dtype) -> UnreadableSampleError:
    location = (row["image"] or {}).get("path") or ""
    reason = f"no codes: NaN or infinity in what it computes with {dtype}; `dtype` float32 has more room"
    return UnreadableSampleError(split_location(location)[0], key, reason)


class _Encoder:
    """Views of a picture, and their codes."""

    def __init__(self, model: SeedImageTokenizer, processor: SeedImageProcessor, augmented_views: int):
        self.model, self.processor, self.augmented_views = model, processor, augmented_views

    def views(self, row: dict, number: int) -> torch.Tensor:
        """`pixel_values` of the evaluation transform, then of augmented views, each from its own generator."""
        image, size = read_image(row), self.model.config.vision_config.image_size
        generators = [torch.Generator().manual_seed(derive_seed(1 + v, number)) for v in range(self.augmented_views)]
        views = [image, *(augment(image, size, generator, _AUGMENTATION) for generator in generators)]
        return self.processor(views, return_tensors="pt")["pixel_values"]

    @torch.no_grad()
    def encode(self, pixel_values: torch.Tensor) -> list[list[list[int]] | None]:
        """Codes of `(images, views, 3, height, width)`, as images x views x codes; `None` where a view has none."""
        codes = self.model.try_encode(pixel_values.flatten(0, 1).to(self.model.device, self.model.dtype))
        codes = codes.unflatten(0, pixel_values.shape[:2])
        bad = (codes < 0).flatten(1).any(1).tolist()
        return [None if is_bad else views for views, is_bad in zip(codes.tolist(), bad, strict=True)]


class _Views(torch.utils.data.Dataset):
    """Number, key and views of some rows; the error in place of views where the picture cannot be read."""

    def __init__(self, rows: "Dataset", numbers: range, encoder: _Encoder):
        self.rows, self.numbers, self.views = rows, numbers, encoder.views

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> tuple[int, str, torch.Tensor | UnreadableSampleError, bytes | None]:
        number, digest = self.numbers[index], None
        row = self.rows[number]
        key = row_key(row) or f"{number:09d}"
        try:
            data = read_image_bytes(row)
            digest = hashlib.sha256(data).digest()
            views = self.views({**row, "image": {**row["image"], "bytes": data}}, number)
        except UnreadableSampleError as error:
            views = UnreadableSampleError(error.shard, key, error.reason)
        return number, key, views, digest


def _collate(samples: list) -> tuple[list[tuple[int, str]], torch.Tensor | None, list, list[bytes | None]]:
    """Numbers and keys of good images, their views, the errors of the others; and the hashes of all files."""
    good = [sample for sample in samples if isinstance(sample[2], torch.Tensor)]
    errors = [views for _, _, views, _ in samples if isinstance(views, UnreadableSampleError)]
    pixel_values = torch.stack([views for _, _, views, _ in good]) if good else None
    return [(number, key) for number, key, _, _ in good], pixel_values, errors, [digest for *_, digest in samples]


def _table_of_codes(rows: "Dataset", found: list[tuple[str, list]], description: dict, config) -> "pa.Table":
    """Rows of one parquet file: 16 bits a code."""
    import pyarrow as pa
    from datasets import Features, List, Value

    codes = List(Value("uint16" if config.codebook_size <= 2**16 else "uint32"), length=config.num_query_tokens)
    columns = [name for name in description["columns"] if name != "key"]
    features = {"key": Value("string"), **{name: rows.features[name] for name in columns}, "codes": codes}
    table = {"key": [key for key, _ in found], **rows.select_columns(columns)[:]}
    table["codes"] = [views[0] for _, views in found]
    if description["augmented_views"]:
        features["augmented_codes"] = List(codes)
        table["augmented_codes"] = [views[1:] for _, views in found]
    return pa.Table.from_pydict(table, schema=Features(features).arrow_schema)


__all__ = ["encode_once", "encode_rows"]
