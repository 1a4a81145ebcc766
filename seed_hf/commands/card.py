"""`seed-hf card`: [`~seed_hf.cards.write_card`] on the command line."""

import argparse


EXAMPLES = """examples:
  seed-hf card seed-1-pipeline user/seed-1 --evaluation retrieval.json reconstruction.json
  seed-hf card out/stage3 user/seed-opt --licence other --licence-name opt-175b --licence-link https://... \\
      --base-model facebook/opt-2.7b --evaluation nocaps.json vqa.json --dataset-id nocaps=owner/nocaps
  seed-hf card out/stage1 user/qformer --licence mit --power-watts 400 --carbon-intensity 380
  seed-hf card seed-mini user/seed-mini --licence apache-2.0 --output seed-mini-card
Scores come from evaluation reports of the same weights only; there is no flag for a score.
"""


def add_arguments(parser: argparse.ArgumentParser):
    """Adds the arguments of the sub-command."""
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, EXAMPLES
    parser.add_argument("folder", help="'seed-mini', or folder of a model, adapter, pipeline or codes")
    parser.add_argument("repo_id", help="name that the repository is going to have, as owner/name")
    parser.add_argument("--licence", help="the Hub's identifier; not needed if the weights have a known origin")
    parser.add_argument("--licence-name", help="name of the licence, with --licence other")
    parser.add_argument("--licence-link", help="address of the licence, with --licence other")
    parser.add_argument("--base-model", help="id on the Hub (default: what an adapter or the training log names)")
    parser.add_argument("--dataset", nargs="*", default=[], help="ids on the Hub of the training data")
    parser.add_argument("--language", nargs="*", default=["en"], help="languages of the text (default: en)")
    parser.add_argument("--training", nargs="*", default=[], help="output folders of the training runs, in order")
    parser.add_argument("--evaluation", nargs="*", default=[], help="JSON files that seed-hf eval wrote")
    parser.add_argument("--dataset-id", nargs="*", default=[], metavar="NAME=ID", help="ids of evaluation data")
    parser.add_argument("--power-watts", type=float, help="power in training (default: by the machine in the log)")
    parser.add_argument("--carbon-intensity", type=float, help="g CO2eq/kWh (default: the world's average)")
    parser.add_argument("--output", help="folder to write to (default: the folder itself)")
    parser.add_argument("--notes", help="Markdown file with further sections, without results")


def run(args: argparse.Namespace):
    """Writes the card, and says where."""
    # inside `run`, so that `--help` does not wait for torch
    from ..cards import write_card
    from ..hub.fetch import MINI_NAME, resolve_mini

    if args.folder == MINI_NAME and args.output is None:
        raise ValueError(
            "`--output` is missing; allowed with 'seed-mini': a folder, since the installed one is not changed."
        )
    write_card(
        resolve_mini(args.folder, "pipeline"),
        args.repo_id,
        licence=args.licence,
        licence_name=args.licence_name,
        licence_link=args.licence_link,
        base_model=args.base_model,
        datasets=args.dataset,
        languages=args.language,
        training=args.training,
        evaluations=args.evaluation,
        dataset_ids=dict(pair.partition("=")[::2] for pair in args.dataset_id),
        power_watts=args.power_watts,
        carbon_intensity=args.carbon_intensity,
        notes=args.notes,
        output=args.output,
    )
    print(f"wrote {args.output or args.folder}/README.md with the results of {len(args.evaluation)} evaluations")


__all__ = ["add_arguments", "run"]
