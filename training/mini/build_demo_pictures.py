"""Write the held-out drawings and the list of captions that `python -m seed_hf.demo` shows.

    python training/mini/build_demo_pictures.py

The drawings were chosen for what they show and how they are drawn, before any result of seed-mini was seen.
"""

import argparse
import io
import json
import shutil
from pathlib import Path


import seed_hf_script  # isort: skip  # noqa: F401

from seed_hf.trainer.flags import HelpFormatter


FOLDER = Path(__file__).parents[2] / "seed_hf" / "mini" / "pictures"
# (split, caption, style)
CHOSEN = [
    ("test_drawings", "turtle", "twemoji"),
    ("test_drawings", "strawberry", "emojitwo"),
    ("test_drawings", "rainbow", "twemoji"),
    ("test_drawings", "guitar", "emojitwo"),
    ("test_drawings", "octopus", "noto"),
    ("test_drawings", "racing car", "fluent-3d"),
    ("test_drawings", "doughnut", "twemoji"),
    ("test_drawings", "crown", "fluent-flat"),
    ("test_drawings", "face with tears of joy", "emojitwo"),
    ("test_drawings", "green heart", "twemoji"),
    ("test_concepts", "cactus", "noto"),
    ("test_concepts", "owl", "twemoji"),
]


def main(argv: list[str] | None = None) -> None:
    """Write PNG files, `pictures.json`, `captions.txt` and the attribution."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=FOLDER, help="Folder to write.")
    args = parser.parse_args(argv)
    # after parsing, so that --help needs no torch
    import pyarrow.parquet as pq
    from PIL import Image

    from seed_hf.hub.fetch import emoji_folder
    from seed_hf.mini.emoji import SPLITS

    args.output_dir.mkdir(parents=True, exist_ok=True)
    rows = {split: pq.read_table(emoji_folder() / f"{split}.parquet").to_pylist() for split in SPLITS}
    entries = []
    for split, caption, style in CHOSEN:
        (row,) = (row for row in rows[split] if (row["caption"], row["style"]) == (caption, style))
        file = f"{caption.replace(' ', '-')}.png"
        picture = Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")
        picture.save(args.output_dir / file, optimize=True)
        entries.append({"file": file, "caption": caption, "style": style, "split": split, "license": row["license"]})
    (args.output_dir / "pictures.json").write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    captions = sorted({row["caption"] for part in rows.values() for row in part if not row["is_flag"]})
    (args.output_dir / "captions.txt").write_text("\n".join(captions) + "\n", encoding="utf-8")
    shutil.copyfile(emoji_folder() / "ATTRIBUTION.md", args.output_dir / "ATTRIBUTION.md")


if __name__ == "__main__":
    main()
