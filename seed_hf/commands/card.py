"""`seed-hf card`: [`~seed_hf.cards.write_card`] on the command line."""

from typing import Annotated

import typer


EXAMPLES = """examples:
  seed-hf card seed-1-pipeline user/seed-1 --evaluation retrieval.json reconstruction.json
  seed-hf card out/stage3 user/seed-opt --licence other --licence-name opt-175b --licence-link https://... \\
      --base-model facebook/opt-2.7b --evaluation nocaps.json vqa.json --dataset-id nocaps=owner/nocaps
  seed-hf card out/stage1 user/qformer --licence mit --power-watts 400 --carbon-intensity 380
  seed-hf card seed-mini user/seed-mini --licence apache-2.0 --output seed-mini-card
Scores come from evaluation reports of the same weights only; there is no flag for a score.
"""


def run(
    folder: Annotated[
        str, typer.Argument(metavar="FOLDER", help="'seed-mini', or folder of a model, adapter, pipeline or codes.")
    ],
    repo_id: Annotated[
        str, typer.Argument(metavar="REPO_ID", help="Name that the repository is going to have, as owner/name.")
    ],
    licence: Annotated[
        str | None,
        typer.Option(metavar="ID", help="The Hub's identifier; not needed if the weights have a known origin."),
    ] = None,
    licence_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the licence, with --licence other.")
    ] = None,
    licence_link: Annotated[
        str | None, typer.Option(metavar="URL", help="Address of the licence, with --licence other.")
    ] = None,
    base_model: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Id on the Hub; by default what an adapter or the training log names."),
    ] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(metavar="ID...", help="Ids on the Hub of the training data.")
    ] = None,
    language: Annotated[
        list[str] | None, typer.Option(metavar="CODE...", help="Languages of the text; by default en.")
    ] = None,
    training: Annotated[
        list[str] | None, typer.Option(metavar="FOLDER...", help="Output folders of the training runs, in order.")
    ] = None,
    evaluation: Annotated[
        list[str] | None, typer.Option(metavar="FILE...", help="JSON files that seed-hf eval wrote.")
    ] = None,
    report: Annotated[
        str | None, typer.Option(metavar="FILE", help="JSON file that seed-hf report wrote about these weights.")
    ] = None,
    dataset_id: Annotated[list[str] | None, typer.Option(metavar="NAME=ID...", help="Ids of evaluation data.")] = None,
    power_watts: Annotated[
        float | None, typer.Option(metavar="WATTS", help="Power in training; by default by the machine in the log.")
    ] = None,
    carbon_intensity: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="In g CO2eq/kWh; by default the world's average.")
    ] = None,
    output: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Folder to write to; by default the folder itself.")
    ] = None,
    notes: Annotated[
        str | None, typer.Option(metavar="FILE", help="Markdown file with further sections, without results.")
    ] = None,
):
    """Writes the card, and says where."""
    # inside `run`, so that `--help` does not wait for torch
    from ..cards import write_card
    from ..hub.fetch import MINI_NAME, resolve_mini

    if folder == MINI_NAME and output is None:
        raise ValueError(
            "`--output` is missing; allowed with 'seed-mini': a folder, since the installed one is not changed."
        )
    write_card(
        resolve_mini(folder, "pipeline"),
        repo_id,
        licence=licence,
        licence_name=licence_name,
        licence_link=licence_link,
        base_model=base_model,
        datasets=dataset or [],
        languages=language or ["en"],
        training=training or [],
        evaluations=evaluation or [],
        dataset_ids=dict(pair.partition("=")[::2] for pair in dataset_id or []),
        power_watts=power_watts,
        carbon_intensity=carbon_intensity,
        notes=notes,
        output=output,
        report=report,
    )
    print(f"wrote {output or folder}/README.md with the results of {len(evaluation or [])} evaluations")


__all__ = ["run"]
