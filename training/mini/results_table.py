"""Turn `model_cards/seed-mini-results.json` into the tables of docs/numbers.md, the model card and the README.

    python training/mini/results_table.py

The file is written by `training/mini/evaluate_mini.py`:

    {
      "command": "python training/mini/evaluate_mini.py",
      "splits": {"test_drawings": "held-out drawings", "test_concepts": "held-out concepts"},
      "rows": [
        {"name": "R@1, image to text, causal embeddings", "unit": "%", "test_drawings": 12.3, "test_concepts": 4.5,
         "chance": 0.2}
      ]
    }

`chance`, `note` and a `command` of its own are optional in a row; a split without a number shows a dash.
"""

import argparse
import json
from pathlib import Path


import seed_hf_script  # isort: skip  # noqa: F401

from seed_hf.trainer.flags import HelpFormatter


ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "model_cards" / "seed-mini-results.json"
TARGETS = [ROOT / "docs" / "numbers.md", ROOT / "model_cards" / "seed-mini.md"]
# the rows that the README shows, between its <!-- headline --> marks
HEADLINE = (
    "R@1, image to text, causal embeddings",
    "R@1, image to text, codes",
    "codes in use",
    "recognised, reconstructions",
    "captions, exact match",
    "recognised, drawn from the caption",
)


def headline(results: dict) -> dict:
    """The results with the rows of [`HEADLINE`] only."""
    rows = {row["name"]: row for row in results["rows"]}
    return results | {"rows": [rows[name] for name in HEADLINE]}


def main(argv: list[str] | None = None) -> None:
    """Update all three files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="Results to read.")
    parser.add_argument("--targets", type=Path, nargs="+", default=TARGETS, help="Files to update.")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md", help="File with the short table to update.")
    args = parser.parse_args(argv)
    # after parsing, so that --help needs no torch
    from seed_hf.cards.markdown import format_table, update_file

    results = json.loads(args.results.read_text(encoding="utf-8"))
    tables = [(target, results, "results") for target in args.targets] + [(args.readme, headline(results), "headline")]
    for target, rows, mark in tables:
        print(f"{target.name}: {'updated' if update_file(target, format_table(rows), mark) else 'up to date'}")


if __name__ == "__main__":
    main()
