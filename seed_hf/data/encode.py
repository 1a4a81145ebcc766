"""Codes of a whole data set, computed once: stage 3 never sees an image (64 bytes an image instead of 521 GFLOP)."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from ..image_tokenizers import ImageTokenizerFiles, find_image_tokenizer_files, load_image_tokenizer
from ..provenance import columns_digest, rows_digest, weights_digest
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
from .outputs import Output, open_output
from .part_records import PartRecords
from .resumable import check_description, check_positive, read_description, run_parts
from .row_parts import RowParts, Sample, without_codes
from .seeds import derive_seed


if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

# Mild, so that the codes stay those of the same image.
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
    image_size: int | None = None,
) -> dict[str, float]:
    """Encodes the images of a data set into parquet files, resumable and shared between processes.

    The rows are cut into parts of `rows_per_file`, one file each. Files appear whole or not at all, and the same call
    goes on with the parts that are missing: after a kill, or in more processes at once on this machine (for several
    machines there is [`~seed_hf.data.cluster.encode_pipeline`]). An image that cannot be read, or that half precision
    has no room for, is left out and listed under `skipped/`. Parts that are damaged, or whose images have been
    replaced since (by size and time of change of their files, then by content), are made anew.

    Args:
        rows (`datasets.Dataset`): Rows from [`~seed_hf.data.rows.load_rows`].
        image_tokenizer (`str` or `os.PathLike`): `"seed-mini"`, or folder or Hub id of an image tokenizer with its
            image processor, or of a pipeline that has both; or one of another library (see
            [`~seed_hf.image_tokenizers.load_image_tokenizer`]).
        output_dir (`str` or `os.PathLike`): Folder to write, also as a URL (`s3://`, `hf://`, ...), whose parts are
            sent as they are finished (to the Hub: in one commit at the end); other splits can share it. Read it with
            [`~seed_hf.data.codes.read_codes`].
        split (`str`, defaults to `"train"`): Name of the split in the output.
        source (`str`, defaults to `""`): Name of the data set in the description.
        revision (`str`, *optional*): Commit, branch or tag, for a Hub id.
        columns (`Sequence[str]`, defaults to `()`): Columns to keep beside `key`, `caption` and, where images have
            several, `captions`.
        augmented_views (`int`, defaults to 0): Number of mildly changed views, whose codes go to a column
            `augmented_codes`. The original has none.
        batch_size (`int`, defaults to 64): Number of images in a forward pass.
        num_processes (`int`, defaults to 1): Number of processes on this machine, dealt to its GPUs.
        num_workers (`int`, defaults to 0): Number of processes that read images for each of these.
        rows_per_file (`int`, defaults to 8192): Number of rows in a file, which a kill can cost each process.
        dtype (`str`, defaults to `"auto"`): Type of the weights, such as `"float16"`; by default as saved on a GPU,
            and float32 on a CPU, where half precision is slow. Take the type of inference, since half precision
            changes a few codes.
        max_unreadable_share (`float`, defaults to 0.01): Share of images that may be left out.
        image_size (`int`, *optional*): Side of the squares that images are made into, where the model has a choice.

    Returns:
        `dict[str, float]`: `num_images` and `num_skipped` in all, `num_encoded` and `seconds` of this call (images
        that other calls finished meanwhile included).

    Raises:
        ValueError: If `output_dir` holds codes of other rows, weights or settings, an argument is out of range, or
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
    check_positive(num_processes=num_processes)
    settings = {"columns": columns, "augmented_views": augmented_views, "rows_per_file": rows_per_file, "dtype": dtype}
    settings |= {"batch_size": batch_size, "num_workers": num_workers, "max_unreadable_share": max_unreadable_share}
    settings |= {"image_size": image_size}
    with open_output(output_dir) as output:
        encoder = plan_encoding(rows, image_tokenizer, output, split, source=source, revision=revision, **settings)
        paths = encoder.paths
        encoder.records.drop_stale(paths)
        started, before = time.monotonic(), count_encoded(paths)[0]
        with output.mirrored((skipped_path(path), path) for path in paths):
            run_parts(encoder, paths, encoder.records.sizes, num_processes)
        num_images, num_skipped = count_encoded(paths)
    if num_images + num_skipped != len(rows):
        raise RuntimeError(f"{output_dir} holds {num_images} images and {num_skipped} skipped ones of {len(rows)}.")
    seconds = time.monotonic() - started
    done = {"num_images": num_images, "num_skipped": num_skipped, "num_encoded": num_images - before}
    return {**done, "seconds": seconds}


def plan_encoding(
    rows: "Dataset",
    image_tokenizer: str | os.PathLike,
    output: Output,
    split: str = "train",
    *,
    source: str = "",
    revision: str | None = None,
    columns: Sequence[str] = (),
    augmented_views: int = 0,
    batch_size: int = 64,
    num_workers: int = 0,
    rows_per_file: int = 8192,
    dtype: str = "auto",
    max_unreadable_share: float = 0.01,
    image_size: int | None = None,
    share: tuple[int, int] = (0, 1),
) -> "_CodeParts":
    """Says what is to be encoded into which files, and fetches what is there already.

    Args:
        rows (`datasets.Dataset`): See [`encode_rows`], as for the arguments that follow.
        image_tokenizer (`str` or `os.PathLike`): Image tokenizer.
        output (`Output`): Where to write.
        split (`str`, defaults to `"train"`): Name of the split in the output.
        source (`str`, defaults to `""`): Name of the data set in the description.
        revision (`str`, *optional*): Commit, branch or tag, for a Hub id.
        columns (`Sequence[str]`, defaults to `()`): Columns to keep.
        augmented_views (`int`, defaults to 0): Number of changed views.
        batch_size (`int`, defaults to 64): Number of images in a forward pass.
        num_workers (`int`, defaults to 0): Number of processes that read images.
        rows_per_file (`int`, defaults to 8192): Number of rows in a file.
        dtype (`str`, defaults to `"auto"`): Type of the weights.
        max_unreadable_share (`float`, defaults to 0.01): Share of images that may be left out.
        image_size (`int`, *optional*): Side of the squares that images are made into, where the model has a choice.
        share (`tuple[int, int]`, defaults to `(0, 1)`): `(index, number)` of those who share the work without locks:
            the parts whose number leaves this remainder are fetched.

    Returns:
        `_CodeParts`: makes the parts.

    Raises:
        ValueError: If `output` holds codes of other rows, weights or settings, or an argument is out of range.
    """
    check_positive(batch_size=batch_size, rows_per_file=rows_per_file)
    files = find_image_tokenizer_files(image_tokenizer, revision, image_size)
    description = {
        "source": source,
        "split": split,
        "num_rows": len(rows),
        "rows": rows_digest(rows),
        "image_tokenizer": str(image_tokenizer),
        "weights": weights_digest(*files.folders),
        "dtype": _weights_dtype(files.dtype, dtype),
        "num_codes": files.num_codes,
        "codebook_size": files.codebook_size,
        "augmented_views": augmented_views,
        "rows_per_file": rows_per_file,
        "columns": _kept_columns(rows, columns),
    }
    file, paths = description_path(output.folder, split), part_paths(output.folder, split, len(rows), rows_per_file)
    own = paths[share[0] :: share[1]]
    output.fetch([file, *own, *map(skipped_path, own)])
    # what else is kept of the rows; older versions did not say
    if values := _digest_of_values(rows, description["columns"]):
        if not file.is_file() or "values" in read_description(file):
            description["values"] = values
    check_description(file, description)
    output.publish(file)
    records = PartRecords(rows, rows_per_file, codes_identity(description), count_part)
    return _CodeParts(files, paths, description, records, batch_size, num_workers, max_unreadable_share)


def _weights_dtype(saved: str, asked: str) -> str:
    if asked != "auto":
        return asked
    return saved if torch.cuda.is_available() else "float32"


def encode_once(
    rows: "Dataset", image_tokenizer: str | os.PathLike, cache_dir: str | os.PathLike, split: str, **settings
) -> "Dataset":
    """Reads the codes of rows from a cache, encoding them first if need be; keeps all columns but the image.

    Several processes can ask at once: they share the work.

    Args:
        rows (`datasets.Dataset`): Rows from [`~seed_hf.data.rows.load_rows`].
        image_tokenizer (`str` or `os.PathLike`): Folder or Hub id.
        cache_dir (`str` or `os.PathLike`): Holds a folder for each combination of weights and rows.
        split (`str`): Name of the split.
        settings: further arguments of [`encode_rows`].

    Returns:
        `datasets.Dataset`: the columns of `rows` but `image`, and `codes` (`num_query_tokens` integers).
    """
    columns = [name for name in rows.column_names if name != "image"]
    files = find_image_tokenizer_files(image_tokenizer)
    dtype = _weights_dtype(files.dtype, settings.get("dtype", "auto"))
    parts = [weights_digest(*files.folders), rows_digest(rows)]
    parts += [_digest_of_values(rows, columns), str(settings.get("augmented_views", 0))]
    parts += [] if dtype == "float32" else [dtype]
    folder = Path(cache_dir) / "-".join(filter(None, parts))
    encode_rows(rows, image_tokenizer, folder, split, columns=columns, **settings)
    return read_codes(folder, split)


def _digest_of_values(rows: "Dataset", columns: Sequence[str]) -> str:
    """Of the columns that the digest of the rows leaves out; empty if there are none."""
    names = [name for name in columns if name not in ("key", "caption")]
    return columns_digest(rows, names) if names else ""


def _kept_columns(rows: "Dataset", columns: Sequence[str]) -> list[str]:
    if unknown := [name for name in columns if name not in rows.column_names or name == "image"]:
        raise ValueError(f"`columns` names {unknown}; allowed: some of {rows.column_names} but 'image'.")
    several = "captions" in rows.column_names and _most_captions(rows) > 1
    return list(dict.fromkeys(["key", "caption", *(["captions"] if several else []), *columns]))


def _most_captions(rows: "Dataset") -> int:
    """Number of captions of the image that has most, without making a list of each."""
    import pyarrow.compute as pc

    batches = rows.select_columns("captions").with_format("arrow").iter(100_000)
    return max(pc.max(pc.list_value_length(batch["captions"])).as_py() or 0 for batch in batches)


class _CodeParts(RowParts):
    """Codes of views of images: as the evaluation transform has them, then augmented ones."""

    title = "codes"

    def __init__(self, files: ImageTokenizerFiles, paths: list[Path], description: dict, *settings):
        super().__init__(*settings)
        self.files, self.paths, self.description = files, paths, description

    def load(self, device: str) -> None:
        """Loads the image tokenizer."""
        self.model = load_image_tokenizer(self.files, dtype=self.description["dtype"]).to(device)
        _check_weights(self.model.model, self.files.model)
        # what the processor makes of each of the 256 values of a channel, so that readers can pass on bytes
        values = np.broadcast_to(np.arange(256, dtype=np.uint8), (3, 1, 256))
        settings = {"do_resize": False, "do_center_crop": False, "do_pad": False, "return_tensors": "pt"}
        values = self.model.image_processor(values, input_data_format="channels_first", **settings)["pixel_values"]
        self.values = values.flatten().to(self.model.device, self.model.dtype)

    def prepare(self, image: Image.Image, number: int) -> np.ndarray:
        """Makes the pixels of all views, in bytes, the augmented ones each from its own generator."""
        size, views = self.model.image_size, range(1, 1 + self.description["augmented_views"])
        generators = [torch.Generator().manual_seed(derive_seed(view, number)) for view in views]
        images = [image, *(augment(image, size, generator, _AUGMENTATION) for generator in generators)]
        return self.to_bytes(images)

    def to_bytes(self, images: list[Image.Image]) -> np.ndarray:
        """Does what the processor does before it looks at values: views x 3 x height x width."""
        processor, size = self.model.image_processor, self.model.image_processor.size
        only_resizes = processor.do_resize and not processor.do_center_crop and not processor.do_pad
        # an array: a tensor would take a file descriptor for each image on its way between processes
        if not (only_resizes and size.height and size.width and isinstance(processor.resample, int)):
            settings = {"do_rescale": False, "do_normalize": False, "return_tensors": "np"}
            return processor(images, **settings)["pixel_values"]
        # the processor's checks of its settings cost more than reading a small image
        resized = [np.asarray(image.resize((size.width, size.height), processor.resample)) for image in images]
        return np.ascontiguousarray(np.stack(resized).transpose(0, 3, 1, 2))

    def stage(self, samples: list[Sample]) -> None:
        """Copies the pixels of a batch to the GPU from page-locked memory, which its computing does not wait for."""
        if samples and self.model.device.type == "cuda":
            pixels = torch.from_numpy(np.stack([sample.row["image"] for sample in samples])).pin_memory()
            for sample, views in zip(samples, pixels.to(self.model.device, non_blocking=True), strict=True):
                sample.row["image"] = views

    @torch.inference_mode()
    def predict(self, samples: list[Sample]) -> list[list[list[int]] | str]:
        """Computes views x codes for each image, or says why there are none."""
        pixel_values = self.to_pixel_values(samples)
        codes = self.model.try_encode(pixel_values.flatten(0, 1)).unflatten(0, pixel_values.shape[:2])
        return without_codes(codes.tolist(), codes, self.model.dtype)

    def to_pixel_values(self, samples: list[Sample]) -> torch.Tensor:
        """Looks up the values of all pixels: images x views x 3 x height x width."""
        pixels = torch.stack([torch.as_tensor(sample.row["image"]) for sample in samples])
        channels = torch.arange(3, dtype=torch.int32, device=pixels.device).view(3, 1, 1)
        return self.values[pixels.int() + 256 * channels]

    def begin(self, part: int) -> None:
        """Lists what is left out beside the part."""
        self.skipped.log_file = skipped_path(self.paths[part])
        self.skipped.log_file.unlink(missing_ok=True)

    def to_table(self, samples: list[Sample]) -> "pa.Table":
        """Makes the rows of one parquet file: 16 bits a code."""
        import pyarrow as pa
        from datasets import Features, List, Value

        good = [sample for sample in samples if sample.error is None]
        model, rows = self.model, self.records.rows.select([sample.number for sample in good])
        codes = List(Value("uint16" if model.codebook_size <= 2**16 else "uint32"), length=model.num_codes)
        columns = [name for name in self.description["columns"] if name != "key"]
        features = {"key": Value("string"), **{name: rows.features[name] for name in columns}, "codes": codes}
        table = {"key": [sample.row["key"] for sample in good], **rows.select_columns(columns)[:]}
        table["codes"] = [sample.prediction[0] for sample in good]
        if self.description["augmented_views"]:
            features["augmented_codes"] = List(codes)
            table["augmented_codes"] = [sample.prediction[1:] for sample in good]
        return pa.Table.from_pydict(table, schema=Features(features).arrow_schema)


def _check_weights(model: torch.nn.Module, folder: str | os.PathLike) -> None:
    """Refuses weights that are NaN, which would cost every image."""
    values = model.state_dict().items()
    if bad := [name for name, value in values if value.is_floating_point() and not value.isfinite().all()]:
        raise ValueError(
            f"`image_tokenizer` {str(folder)!r} has NaN or infinity in {len(bad)} weights, such as {bad[0]!r}; "
            f"allowed: finite values, and a `dtype` with room for them (it is {model.dtype})."
        )


__all__ = ["encode_once", "encode_rows", "plan_encoding"]
