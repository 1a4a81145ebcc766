"""`seed-hf push`: [`~seed_hf.hub.push_folder`] on the command line."""

import argparse


EXAMPLES = """examples:
  seed-hf push out/stage3 user/seed-opt --dry-run
  seed-hf push out/stage3 user/seed-opt --private --ignore "checkpoint-*" logs
  seed-hf push out/stage3 user/seed-opt --create-pr --message "Trained for longer"
It uses the token of `hf auth login` or HF_TOKEN.
"""


def add_arguments(parser: argparse.ArgumentParser):
    """Adds the arguments of the sub-command."""
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, EXAMPLES
    parser.add_argument("folder", help="folder of a model, adapter, pipeline or data set of codes")
    parser.add_argument("repo_id", help="owner/name, or a name in your own namespace")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--revision", help="branch, made if missing (default: the main one)")
    where.add_argument("--create-pr", action="store_true", help="open a pull request")
    parser.add_argument("--private", action="store_true", default=None, help="make a new repository private")
    parser.add_argument("--gated", choices=("auto", "manual"), help="make users ask for access")
    parser.add_argument("--message", default="Upload with seed_hf", help="message of the commit")
    parser.add_argument("--ignore", nargs="*", default=[], metavar="PATTERN", help="paths to leave out")
    parser.add_argument("--dry-run", action="store_true", help="list what would be sent, with sizes, and send nothing")


def run(args: argparse.Namespace):
    """Uploads, and prints every file sent with its size."""
    # inside `run`, so that `--help` does not wait for torch
    from ..hub import push_folder

    report = push_folder(
        args.folder,
        args.repo_id,
        revision=args.revision,
        create_pr=args.create_pr,
        private=args.private,
        gated=args.gated,
        commit_message=args.message,
        ignore_patterns=args.ignore,
        dry_run=args.dry_run,
    )
    print(report)


__all__ = ["add_arguments", "run"]
