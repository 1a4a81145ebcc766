"""How likely the language model finds the second half of an image's codes, by where it comes from.

    python benchmarks/edits.py     # puts the table into docs/guides/codes-as-a-medium.md

Bits a code, given the image's name and the first half of its codes. A rewritten tail is greedy (`continue_codes`), a
varied one has a quarter of its codes replaced by near ones (`variations`), a mixed one is another image's (`mix`), and
a random one takes any code that may stand at its place. Flags are left out.
"""

import argparse
import math
from pathlib import Path

import torch

from seed_hf.cards.markdown import format_table, update_file
from seed_hf.data.captioned_images import open_image
from seed_hf.data.rows import load_rows
from seed_hf.edits import code_log_probs, continue_codes, mix, variations
from seed_hf.studio import Studio


PAGE = Path(__file__).resolve().parents[1] / "docs" / "guides" / "codes-as-a-medium.md"
SPLITS = {"test_drawings": "held-out drawings", "test_concepts": "held-out concepts"}


def tails(studio: Studio, codes: torch.Tensor, names: list[str]) -> dict[str, torch.Tensor]:
    """Codes with the same first half, by where the second half comes from."""
    keep, generator = studio.num_codes // 2, torch.Generator().manual_seed(0)
    columns = [
        torch.randint(places.start, places.stop, (len(codes),), generator=generator)
        for places in studio.codes_of_place
    ]
    varied = mix(codes, variations(studio.image_tokenizer, codes, strength=0.25, seed=0), keep)
    return {
        "rewritten by the language model": continue_codes(studio.pipeline, codes, keep, names),
        "the image's own": codes,
        "the image's own, varied": varied,
        "another image's": mix(codes, codes.roll(1, 0), keep),
        "random": mix(codes, torch.stack(columns, dim=1), keep),
    }


def measure(studio: Studio, split: str, limit: int) -> dict[str, float]:
    """Bits a code of each kind of tail."""
    rows = [row for row in load_rows("emoji", split) if not row["is_flag"]]
    rows = rows[:: max(1, len(rows) // limit)][:limit]
    names, keep = [row["caption"] for row in rows], studio.num_codes // 2
    kinds = tails(studio, studio.encode([open_image(row) for row in rows]), names)
    log_probs = {kind: code_log_probs(studio.pipeline, codes, names)[:, keep:] for kind, codes in kinds.items()}
    return {kind: -values.mean().item() / math.log(2) for kind, values in log_probs.items()}


def main(argv: list[str] | None = None) -> None:
    """Measure, and put the table into the guide."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=128, help="number of images of each split, spread over it")
    parser.add_argument("--output", type=Path, default=PAGE, help="page with the markers of the table")
    args = parser.parse_args(argv)
    studio = Studio.load("seed-mini", "cpu")
    scores = {split: measure(studio, split, args.limit) for split in SPLITS}
    kinds = next(iter(scores.values()))
    rows = [{"name": kind, "unit": "bits", **{split: scores[split][kind] for split in scores}} for kind in kinds]
    table = format_table({"splits": SPLITS, "rows": rows, "command": "python benchmarks/edits.py"})
    print(table)
    update_file(args.output, table, "tails")


if __name__ == "__main__":
    main()
