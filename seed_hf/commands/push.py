"""`seed-hf push`: [`~seed_hf.hub.push_folder`] on the command line."""

from typing import Annotated, Literal

import typer


EXAMPLES = """examples:
  seed-hf push my-model user/seed-opt --dry-run
  seed-hf push my-model user/seed-opt --create-pr --message "Trained for longer"
  seed-hf push out/stage3 user/seed-opt --private --ignore "checkpoint-*" "training_*" "metrics.*" "unreadable.*" logs
It uses the token of `hf auth login` or HF_TOKEN.
"""


def run(
    folder: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER",
            help="'seed-mini' for its pipeline, or folder of a model, adapter, pipeline or data set of codes.",
        ),
    ],
    repo_id: Annotated[
        str, typer.Argument(metavar="REPO_ID", help="Name as owner/name, or a name in your own namespace.")
    ],
    revision: Annotated[
        str | None, typer.Option(metavar="BRANCH", help="Branch, made if missing; by default the main one.")
    ] = None,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Open a pull request.")] = False,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    gated: Annotated[
        Literal["auto", "manual"] | None, typer.Option(metavar="auto|manual", help="Make users ask for access.")
    ] = None,
    message: Annotated[str, typer.Option(metavar="TEXT", help="Message of the commit.")] = "Upload with seed_hf",
    ignore: Annotated[list[str] | None, typer.Option(metavar="PATTERN...", help="Paths to leave out.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be sent, with sizes, and send nothing.")
    ] = False,
):
    """Uploads, and prints every file sent with its size."""
    if revision is not None and create_pr:
        raise typer.BadParameter("a pull request goes to the main branch.", param_hint="--revision")
    # inside `run`, so that `--help` does not wait for torch
    from ..hub import push_folder
    from ..hub.fetch import resolve_mini

    report = push_folder(
        resolve_mini(folder, "pipeline"),
        repo_id,
        revision=revision,
        create_pr=create_pr,
        private=private or None,
        gated=gated,
        commit_message=message,
        ignore_patterns=ignore or [],
        dry_run=dry_run,
    )
    print(report)


__all__ = ["run"]
