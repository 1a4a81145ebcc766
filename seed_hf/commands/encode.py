"""`seed-hf encode`: [`~encoding_seed.encode_rows`] on the command line."""

import argparse

from ..cards import write_card
from ..data.encode import encode_rows
from ..data.rows import load_rows
from ..hub import push_folder


EXAMPLES = """examples:
  seed-hf encode out/stage2 "cc3m/cc3m-{split}-*.tar" codes --num-processes 8 --num-workers 4 --dtype float16
  seed-hf encode out/stage2 "cc3m/cc3m-{split}-*.tar" codes --split validation --push-to-hub user/cc3m-codes
Start the same command again after a kill, or on more machines that share the folder: it goes on with what is missing.
"""


def add_arguments(parser: argparse.ArgumentParser):
    """Adds the arguments of the sub-command."""
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, EXAMPLES
    parser.add_argument("image_tokenizer", help="'seed-mini', or folder or Hub id of an image tokenizer or a pipeline")
    parser.add_argument("dataset", help="tar shards, parquet files, a folder, or a Hub id; {split} stands for --split")
    parser.add_argument("output", help="folder to write; several splits may share it")
    parser.add_argument("--split", default="train", help="possibly with a slice, as 'train[:1000]' (default: train)")
    parser.add_argument("--columns", nargs="*", default=[], help="columns to keep beside key and caption")
    parser.add_argument("--augmented-views", type=int, default=0, help="codes of so many changed views (default: 0)")
    parser.add_argument("--batch-size", type=int, default=64, help="pictures per forward pass (default: 64)")
    parser.add_argument("--num-processes", type=int, default=1, help="on this machine, dealt to its GPUs (default: 1)")
    parser.add_argument("--num-workers", type=int, default=0, help="readers of pictures per process (default: 0)")
    parser.add_argument("--rows-per-file", type=int, default=8192, help="what a kill costs at most (default: 8192)")
    parser.add_argument("--dtype", default="auto", help="of the weights; take that of inference (default: as saved)")
    parser.add_argument("--max-unreadable-share", type=float, default=0.01, help="stop beyond it (default: 0.01)")
    outside_help = "also read what the data set names by a path or URL outside of its own folder or source"
    parser.add_argument("--allow-outside-paths", action="store_true", help=outside_help)
    parser.add_argument("--revision", help="of the image tokenizer's repository")
    parser.add_argument("--push-to-hub", metavar="USER/NAME", help="upload to this data set repository afterwards")
    parser.add_argument("--licence", default="unknown", help="of captions and codes, for its card (default: unknown)")
    parser.add_argument("--private", action="store_true", help="if that repository is new")


def run(args: argparse.Namespace):
    """Encodes, says how fast, and uploads if asked to."""
    names = ["augmented_views", "batch_size", "num_processes", "num_workers", "rows_per_file", "dtype", "columns"]
    names += ["max_unreadable_share", "revision"]
    # what is of no use is listed with the images that cannot be read; codes need no captions
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
