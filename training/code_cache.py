"""Codes of a whole data set, computed once: stage 3 never sees a picture (64 bytes a picture instead of 521 GFLOP).

python training/code_cache.py --image_tokenizer out/stage2 --dataset emoji --output_dir out/codes --splits train
"""

import argparse
import hashlib
import json
import os
from pathlib import Path

import torch
from datasets import Dataset
from datasets import Image as ImageFeature
from image_text_data import augment, load_rows, open_image
from tqdm.auto import tqdm

from seed_hf import SeedImageProcessor, SeedImageTokenizer
from seed_hf.training_data import derive_seed


# mild, since codes are to stay those of the same picture; see --augmented_views
_AUGMENTATION = {"crop_scale": 0.8, "flip_probability": 0.0, "rotation_degrees": 5.0, "color_jitter": 0.15}


def weights_hash(folder: str | Path) -> str:
    """Hash of the weights and the settings of the image tokenizer and of its transform."""
    digest = hashlib.sha256()
    folder = Path(folder)
    for path in sorted(path for path in folder.glob("*") if path.suffix in (".safetensors", ".json")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@torch.no_grad()
def compute_codes(
    image_tokenizer: SeedImageTokenizer, processor, rows: Dataset, augmented_views: int = 0, batch_size: int = 128
) -> list[list[list[int]]]:
    """Codes of each row: the evaluation transform first, then so many augmented views.

    Args:
        image_tokenizer ([`SeedImageTokenizer`]): In eval mode.
        processor ([`SeedImageProcessor`]): Its evaluation transform.
        rows (`datasets.Dataset`): With a column `image`, not decoded.
        augmented_views (`int`, defaults to 0): Further views. The original has none.
        batch_size (`int`, defaults to 128): Pictures per forward pass.

    Returns:
        `list[list[list[int]]]`: rows x views x codes.
    """
    size = image_tokenizer.config.vision_config.image_size
    settings = argparse.Namespace(**_AUGMENTATION)
    weight = next(image_tokenizer.parameters())
    codes = []
    for start in tqdm(range(0, len(rows), batch_size), desc="codes", mininterval=5):
        images = [
            open_image(row["image"]["bytes"]) for row in rows.select(range(start, min(start + batch_size, len(rows))))
        ]
        views = []
        for view in range(1 + augmented_views):
            shown = images
            if view:
                generators = [torch.Generator().manual_seed(derive_seed(view, start + i)) for i in range(len(images))]
                shown = [
                    augment(*pair, settings) for pair in zip(images, [size] * len(images), generators, strict=True)
                ]
            pixel_values = processor(shown, return_tensors="pt")["pixel_values"].to(weight.device, weight.dtype)
            views.append(image_tokenizer.encode(pixel_values).cpu())
        codes.extend(torch.stack(views, dim=1).tolist())
    return codes


def load_codes(
    dataset: str, split: str, image_tokenizer_folder: str, cache_dir: str | Path, augmented_views: int = 0
) -> Dataset:
    """
    Rows of a split without their pictures, with their codes; computed where no cache fits.

    The cache's name holds the hash of weights and transform, so a stale one is never read.

    Args:
        dataset (`str`): See [`load_rows`].
        split (`str`): Its split.
        image_tokenizer_folder (`str`): Image tokenizer with its image processor.
        cache_dir (`str` or `Path`): Where codes are kept.
        augmented_views (`int`, defaults to 0): See [`compute_codes`].

    Returns:
        `datasets.Dataset`: with a column `codes` (views x num_query_tokens).
    """
    name = hashlib.sha256(json.dumps([dataset, split, augmented_views]).encode()).hexdigest()[:8]
    path = Path(cache_dir) / f"{split}-{name}-{weights_hash(image_tokenizer_folder)}.parquet"
    if not path.is_file():
        rows = load_rows(dataset, split)
        rows = rows.cast_column("image", ImageFeature(decode=False))
        image_tokenizer = SeedImageTokenizer.from_pretrained(image_tokenizer_folder).eval()
        processor = SeedImageProcessor.from_pretrained(image_tokenizer_folder)
        codes = compute_codes(image_tokenizer, processor, rows, augmented_views)
        path.parent.mkdir(parents=True, exist_ok=True)
        # several processes may come here at once: each writes its own file, and what is read is always whole
        temporary = path.with_suffix(f".{os.getpid()}")
        rows.remove_columns("image").add_column("codes", codes).to_parquet(temporary)
        os.replace(temporary, path)
    return read_codes(path)


def read_codes(path: str | Path, split: str | None = None) -> Dataset:
    """
    Rows of a parquet file with a column `codes`.

    Args:
        path (`str` or `Path`): The file.
        split (`str`, *optional*): Keep the rows whose column `split` has this value.

    Raises:
        ValueError: There is no such column, or nothing is left.
    """
    rows = Dataset.from_parquet(str(path), cache_dir=str(Path(path).parent / ".cache"))
    if "codes" not in rows.column_names:
        raise ValueError(f"`codes` {str(path)!r} has the columns {rows.column_names}; a column 'codes' is needed.")
    if split is not None and "split" in rows.column_names:
        rows = rows.select([i for i, value in enumerate(rows["split"]) if value == split])
    if not len(rows):
        raise ValueError(f"`split` {split!r} leaves no row of {str(path)!r}.")
    return rows


def main(argv: list[str] | None = None) -> None:
    """Compute and keep the codes of some splits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image_tokenizer", required=True, help="folder of the image tokenizer and its processor")
    parser.add_argument("--dataset", required=True, help="'emoji', a glob of parquet files, or a datasets id")
    parser.add_argument("--splits", nargs="+", default=["train", "validation"])
    parser.add_argument("--augmented_views", type=int, default=0, help="further codes of each training picture")
    parser.add_argument("--output_dir", required=True)
    args = parser.parse_args(argv)
    for split in args.splits:
        views = args.augmented_views if split == "train" else 0
        load_codes(args.dataset, split, args.image_tokenizer, args.output_dir, views)


if __name__ == "__main__":
    main()
