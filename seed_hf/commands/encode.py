"""`seed-hf encode`: [`~seed_hf.data.encode.encode_rows`] on the command line."""

from pathlib import Path
from typing import Annotated

import typer

from .flags import AllowOutsidePaths, ImageSize, MaxUnreadableShare
from .parsing import with_options


EXAMPLES = """examples:
  seed-hf encode out/stage2 "cc3m/cc3m-{split}-*.tar" codes --num-processes 8 --num-workers 4 --dtype float16
  seed-hf encode out/stage2 "cc3m/cc3m-{split}-*.tar" codes --split validation --push-to-hub user/cc3m-codes
Start the same command again after a kill: it goes on with what is missing. For many machines see
docs/guides/tokenize-a-data-set.md.
"""


def _encoding(
    columns: Annotated[
        list[str] | None, typer.Option(metavar="NAME...", help="Columns to keep beside key and caption.")
    ] = None,
    augmented_views: Annotated[int, typer.Option(metavar="NUMBER", help="Number of changed views to encode too.")] = 0,
    batch_size: Annotated[int, typer.Option(metavar="NUMBER", help="Number of images per forward pass.")] = 64,
    num_processes: Annotated[
        int, typer.Option(metavar="NUMBER", help="Number of processes on this machine, dealt to its GPUs.")
    ] = 1,
    num_workers: Annotated[
        int, typer.Option(metavar="NUMBER", help="Number of readers of images in each process.")
    ] = 0,
    rows_per_file: Annotated[
        int, typer.Option(metavar="NUMBER", help="Number of rows in a file, which a kill can cost.")
    ] = 8192,
    dtype: Annotated[
        str,
        typer.Option(
            metavar="DTYPE", help="Type of the weights: take that of inference; 'auto' is as saved, on a CPU float32."
        ),
    ] = "auto",
    max_unreadable_share: MaxUnreadableShare = 0.01,
    revision: Annotated[
        str | None, typer.Option(metavar="REVISION", help="Commit, branch or tag of the image tokenizer's repository.")
    ] = None,
    image_size: ImageSize = None,
):
    """Settings of [`~seed_hf.data.encode.encode_rows`]."""


@with_options(_encoding)
def run(
    image_tokenizer: Annotated[
        str,
        typer.Argument(
            metavar="IMAGE_TOKENIZER", help="'seed-mini', or folder or Hub id of an image tokenizer or a pipeline."
        ),
    ],
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="DATASET", help="Tar shards, parquet files, a folder, or a Hub id; {split} stands for --split."
        ),
    ],
    output: Annotated[
        str, typer.Argument(metavar="OUTPUT", help="Folder or URL (s3://, ...) to write; several splits may share it.")
    ],
    split: Annotated[
        str, typer.Option(metavar="SPLIT", help="Split to encode, also with a slice, as 'train[:1000]'.")
    ] = "train",
    allow_outside_paths: AllowOutsidePaths = False,
    index_processes: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="Processes that index tar shards; default: one for each core.")
    ] = None,
    push_to_hub: Annotated[
        str | None, typer.Option(metavar="USER/NAME", help="Upload to this data set repository afterwards.")
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Licence for the card; by default that of the weights if it is known, or else unknown."
        ),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    **settings,
):
    """Encodes, says how fast, and uploads if asked to."""
    # inside `run`, so that `--help` does not wait for torch
    from ..cards import write_card
    from ..cards.origins import find_origins
    from ..data.encode import encode_rows
    from ..data.reading import is_remote
    from ..data.rows import load_rows
    from ..hub import push_folder
    from ..hub.fetch import check_model_exists

    if Path(dataset).resolve() == Path(output).resolve():
        raise ValueError(f"`output` is {output!r}, the data set itself; allowed: another folder.")
    if push_to_hub and is_remote(output):
        raise ValueError(f"`output` is {output!r}; allowed with `push_to_hub`: a folder.")
    check_model_exists(image_tokenizer, settings["revision"])
    settings["columns"] = settings["columns"] or []
    # unusable rows are listed with the images that cannot be read; codes need no captions
    reading = {"keep_unusable": True, "captions": "optional", "allow_outside_paths": allow_outside_paths}
    reading["index_processes"] = index_processes
    rows = load_rows(dataset, split, max_unreadable_share=settings["max_unreadable_share"], **reading)
    done = encode_rows(rows, image_tokenizer, output, split, source=dataset, **settings)
    rate = done["num_encoded"] / done["seconds"] if done["num_encoded"] else 0
    print(
        f"{output}: {done['num_images']} images, {done['num_skipped']} skipped; "
        f"{done['num_encoded']} of them now, {rate:.1f} images/s"
    )
    if push_to_hub:
        write_card(output, push_to_hub, licence=licence or (None if find_origins(output)[0] else "unknown"))
        # hidden files are what a killed process left behind
        print(push_folder(output, push_to_hub, private=private or None, ignore_patterns=[".*", "*/.*"]))


__all__ = ["run"]
