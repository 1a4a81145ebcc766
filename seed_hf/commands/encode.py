"""`seed-hf encode`: [`~seed_hf.data.encode.encode_rows`] on the command line."""

import argparse
from pathlib import Path


EXAMPLES = """examples:
  seed-hf encode out/stage2 "cc3m/cc3m-{split}-*.tar" codes --num-processes 8 --num-workers 4 --dtype float16
  seed-hf encode out/stage2 "cc3m/cc3m-{split}-*.tar" codes --split validation --push-to-hub user/cc3m-codes
Start the same command again after a kill, or on more machines that share the folder: it goes on with what is missing.
"""


def add_arguments(parser: argparse.ArgumentParser):
    """Adds the arguments of the sub-command."""
    add = parser.add_argument
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, EXAMPLES
    add("image_tokenizer", help="'seed-mini', or folder or Hub id of an image tokenizer or a pipeline")
    add("dataset", help="tar shards, parquet files, a folder, or a Hub id; {split} stands for --split")
    add("output", help="folder to write; several splits may share it")
    add("--split", default="train", help="split to encode, also with a slice, as 'train[:1000]' (default: train)")
    add("--columns", nargs="*", default=[], help="columns to keep beside key and caption")
    add("--augmented-views", type=int, default=0, help="number of changed views to encode too (default: 0)")
    add("--batch-size", type=int, default=64, help="images per forward pass (default: 64)")
    add("--num-processes", type=int, default=1, help="processes on this machine, dealt to its GPUs (default: 1)")
    add("--num-workers", type=int, default=0, help="number of readers of images in each process (default: 0)")
    add("--rows-per-file", type=int, default=8192, help="rows in a file, which a kill can cost (default: 8192)")
    add("--dtype", default="auto", help="type of the weights; take that of inference (default: as saved)")
    add(
        "--max-unreadable-share", type=float, default=0.01, help="share of images that may be left out (default: 0.01)"
    )
    outside_help = "also read what the data set names by a path or URL outside of its own folder or source"
    add("--allow-outside-paths", action="store_true", help=outside_help)
    add("--revision", help="commit, branch or tag of the image tokenizer's repository")
    add("--push-to-hub", metavar="USER/NAME", help="upload to this data set repository afterwards")
    add("--licence", default="unknown", help="licence of captions and codes, for the card (default: unknown)")
    add("--private", action="store_true", help="make a new repository private")


def run(args: argparse.Namespace):
    """Encodes, says how fast, and uploads if asked to."""
    # inside `run`, so that `--help` does not wait for torch
    from ..cards import write_card
    from ..data.encode import encode_rows
    from ..data.rows import load_rows
    from ..hub import push_folder

    if Path(args.dataset).resolve() == Path(args.output).resolve():
        raise ValueError(f"`output` is {args.output!r}, the data set itself; allowed: another folder.")
    names = ["augmented_views", "batch_size", "num_processes", "num_workers", "rows_per_file", "dtype", "columns"]
    names += ["max_unreadable_share", "revision"]
    # unusable rows are listed with the images that cannot be read; codes need no captions
    reading = {"keep_unusable": True, "captions": "optional", "allow_outside_paths": args.allow_outside_paths}
    rows = load_rows(args.dataset, args.split, max_unreadable_share=args.max_unreadable_share, **reading)
    settings = {name: getattr(args, name) for name in names}
    done = encode_rows(rows, args.image_tokenizer, args.output, args.split, source=args.dataset, **settings)
    rate = done["num_encoded"] / done["seconds"] if done["num_encoded"] else 0
    print(
        f"{args.output}: {done['num_images']} images, {done['num_skipped']} skipped; "
        f"{done['num_encoded']} of them now, {rate:.1f} images/s"
    )
    if args.push_to_hub:
        write_card(args.output, args.push_to_hub, licence=args.licence)
        # hidden files are what a killed process left behind
        print(push_folder(args.output, args.push_to_hub, private=args.private or None, ignore_patterns=[".*", "*/.*"]))


__all__ = ["add_arguments", "run"]
