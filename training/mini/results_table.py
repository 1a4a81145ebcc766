"""Turn `model_cards/seed-mini-results.json` into the tables of the README and of the model card.

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
TARGETS = [ROOT / "README.md", ROOT / "model_cards" / "seed-mini.md"]


def main(argv: list[str] | None = None) -> None:
    """Update both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="Results to read.")
    parser.add_argument("--targets", type=Path, nargs="+", default=TARGETS, help="Files to update.")
    args = parser.parse_args(argv)
    # after parsing, so that --help needs no torch
    from seed_hf.cards.markdown import format_table, update_file

    table = format_table(json.loads(args.results.read_text(encoding="utf-8")))
    for target in args.targets:
        print(f"{target.name}: {'updated' if update_file(target, table) else 'up to date'}")


if __name__ == "__main__":
    main()
