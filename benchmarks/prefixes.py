"""What the first k codes of an image say: retrieval and recognition over k, and a picture of it.

    python benchmarks/prefixes.py     # writes model_cards/seed-mini-prefixes.{json,md} and docs/images/prefixes.png

Codes are causal, so the first k of them are an image already; the mean of a place stands in for each of the rest.
Retrieval is from codes among the captions of the split. An image counts as recognised when the retrieval model,
looking at what is drawn from its first k codes, has its caption among its top 10 of all captions of the data set; one
image of each caption is taken for that. Flags, which look nearly the same in all styles, are left out.
"""

import argparse
import json
import time
from io import BytesIO
from pathlib import Path

import torch
from PIL import Image
from tqdm.auto import tqdm

from seed_hf.cards.markdown import format_table, update_file
from seed_hf.data.captioned_images import open_image
from seed_hf.data.rows import load_rows
from seed_hf.evaluation.retrieval import retrieval_scores
from seed_hf.evaluation.retrieval_metrics import retrieval_recall
from seed_hf.mini import mini_pictures_path, mini_pipeline_path
from seed_hf.provenance import describe_machine, describe_model, package_versions
from seed_hf.studio import Studio


ROOT = Path(__file__).resolve().parents[1]
SPLITS = {"test_drawings": "held-out drawings", "test_concepts": "held-out concepts"}
ALL_SPLITS = ("train", "validation", *SPLITS)
COUNTS = (1, 2, 4, 8, 12, 16, 24, 32)
SIDE = 64


def caption_features(studio: Studio) -> dict[str, torch.Tensor]:
    """Features of all captions of the data set, by caption."""
    rows = (row for split in ALL_SPLITS for row in load_rows("emoji", split).remove_columns("image"))
    captions = sorted({row["caption"] for row in rows if not row["is_flag"]})
    return dict(zip(captions, studio.text_features(captions), strict=True))


def recognised(studio: Studio, codes: torch.Tensor, captions: list[str], texts: dict[str, torch.Tensor]) -> float:
    """Percentage of pictures drawn from codes whose caption is in the top 10."""
    names, features = list(texts), torch.stack(list(texts.values()))
    images = []
    for start in range(0, len(codes), 64):
        part = codes[start : start + 64]
        pictures = studio.draw(part, range(start, start + len(part)))
        pixels = studio.pipeline.image_processor(pictures, return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            images.append(studio.image_tokenizer.get_image_features(pixels).pooler_output)
    owners = [[names.index(caption)] for caption in captions]
    return retrieval_recall(torch.cat(images), features, owners, ks=(10,))["i2t_r10"]


def measure(studio: Studio, split: str, limit: int, texts: dict[str, torch.Tensor]) -> dict[tuple[str, int], float]:
    """Scores of one split: (name, number of codes) -> percent."""
    rows = [row for row in load_rows("emoji", split) if not row["is_flag"]][: limit or None]
    captions = [row["caption"] for row in rows]
    images = [open_image(row) for row in rows]
    codes = torch.cat([studio.encode(images[start : start + 64]) for start in range(0, len(images), 64)])
    first = [captions.index(caption) for caption in sorted(set(captions))]
    scores = {}
    for count in tqdm(COUNTS, desc=split):
        features = torch.cat([studio.image_features(part[:, :count]) for part in codes.split(256)])
        recall = retrieval_scores(studio.image_tokenizer, studio.text_tokenizer, features, captions)
        scores["R@1, image to text", count] = recall["i2t_r1"]
        scores["R@10, image to text", count] = recall["i2t_r10"]
        shown = [captions[index] for index in first]
        scores["recognised", count] = recognised(studio, codes[first, :count], shown, texts)
    return scores


def as_rows(scores: dict[str, dict[tuple[str, int], float]]) -> list[dict]:
    """One row for each score and number of codes, with a number for each split."""
    keys = sorted(next(iter(scores.values())), key=lambda key: key[0])
    return [
        {"name": f"{name}, first {count}", "unit": "%", **{split: scores[split][name, count] for split in scores}}
        for name, count in keys
    ]


def draw_figure(studio: Studio, scores: dict[str, dict[tuple[str, int], float]], target: Path) -> None:
    """The curves, and some images over the number of codes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(13, 7), width_ratios=(1, 0.95), layout="constrained")
    for (split, measured), style in zip(scores.items(), ("-", "--"), strict=False):
        for name, colour in zip(dict.fromkeys(name for name, _ in measured), ("C0", "C1", "C2"), strict=True):
            values = [measured[name, count] for count in COUNTS]
            axes[0].plot(
                COUNTS, values, style, color=colour, marker="o", markersize=3, label=f"{name}, {SPLITS[split]}"
            )
    axes[0].set(xlabel="number of codes", ylabel="%", xticks=COUNTS, ylim=(0, 100))
    axes[0].legend(fontsize=7, loc="upper left")
    axes[1].imshow(strip(studio))
    middle = SIDE / 2
    axes[1].set_xticks([middle + SIDE * number for number in range(len(COUNTS) + 1)], ["image", *map(str, COUNTS)])
    axes[1].set_yticks([])
    axes[1].set_xlabel("drawn from the first codes")
    target.parent.mkdir(parents=True, exist_ok=True)
    file = BytesIO()
    figure.savefig(file, dpi=110)
    Image.open(file).convert("RGB").quantize(256).save(target, optimize=True)  # a third of the bytes


def strip(studio: Studio) -> Image.Image:
    """The shipped images, each beside what is drawn from its first codes, always from the same noise."""
    images = [Image.open(path).convert("RGB") for path in sorted(Path(mini_pictures_path()).glob("*.png"))]
    codes = studio.encode(images)
    columns = [images, *(studio.draw(codes[:, :count], [0] * len(codes)) for count in COUNTS)]
    sheet = Image.new("RGB", (SIDE * len(columns), SIDE * len(images)), "white")
    for column, pictures in enumerate(columns):
        for row, picture in enumerate(pictures):
            sheet.paste(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (column * SIDE, row * SIDE))
    return sheet


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Flags of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", nargs="+", default=list(SPLITS))
    parser.add_argument("--limit", type=int, default=0, help="number of images of each split; 0 = all")
    parser.add_argument("--output", type=Path, default=ROOT / "model_cards" / "seed-mini-prefixes.json")
    parser.add_argument("--figure", type=Path, default=ROOT / "docs" / "images" / "prefixes.png")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Measure every split; write the JSON, the table and the figure."""
    args, started = parse_args(argv), time.time()
    studio = Studio.load("seed-mini", "cpu")
    texts = caption_features(studio)
    scores = {split: measure(studio, split, args.limit, texts) for split in args.splits}
    report = {
        "command": "python benchmarks/prefixes.py",
        "splits": {split: SPLITS[split] for split in scores},
        "rows": as_rows(scores),
        "model": describe_model("seed-mini", Path(mini_pipeline_path())),
        "machine": describe_machine(),
        "minutes": round((time.time() - started) / 60, 1),
        "versions": package_versions(),
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(report, indent=2) + "\n")
    table = format_table(report)
    print(table)
    if (page := args.output.with_suffix(".md")).exists():
        update_file(page, table)
    draw_figure(studio, scores, args.figure)


if __name__ == "__main__":
    main()
