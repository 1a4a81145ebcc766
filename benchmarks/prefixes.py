"""What the first k codes of an image say: retrieval, captions and recognition over k, and a figure of it.

    python benchmarks/prefixes.py     # writes model_cards/seed-mini-prefixes.{json,md} and docs/images/prefixes.png
    python benchmarks/prefixes.py --measures captions                                   # keeps the other numbers
    python benchmarks/prefixes.py --also "nested dropout=out/stage2-prefixes" --only_also      # other decoders

Codes are causal, so the first k of them are an image already; the mean of a place stands in for each of the rest.
Retrieval is from codes among the captions of the split. Captions are what the language model writes when the image in
its prompt ends after k codes. An image counts as recognised when the retrieval model, looking at what is drawn from
its first k codes, has its caption among its top 10 of all captions of the data set; one image of each caption is taken
for that. Flags, which look nearly the same in all styles, are left out. `--also` takes what training with
training/recipes/mini/stage2_prefixes.yaml gives: only the decoders differ, so codes and captions are the same.
"""

import argparse
import json
import shlex
import sys
import time
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import torch
from PIL import Image
from tqdm.auto import tqdm

from seed_hf.cards.markdown import format_number, update_file
from seed_hf.data.captioned_images import open_image
from seed_hf.data.rows import load_rows
from seed_hf.evaluation.retrieval_metrics import retrieval_recall
from seed_hf.image_tokenizers import seed_model
from seed_hf.inference import generate_texts
from seed_hf.loading import load_image_tokenizer
from seed_hf.mini import mini_language_model_path, mini_pictures_path, mini_pipeline_path
from seed_hf.provenance import describe_machine, describe_model, package_versions
from seed_hf.studio import Studio
from seed_hf.trainer.pairs import word_f1


ROOT = Path(__file__).resolve().parents[1]
SPLITS = {"test_drawings": "held-out drawings", "test_concepts": "held-out concepts"}
ALL_SPLITS = ("train", "validation", *SPLITS)
COUNTS = (1, 2, 4, 8, 12, 16, 24, 32)
DECODERS = ("reconstruction_decoder", "generation_decoder", "generation_head", "generation_prototypes")
SIDE = 64
Scores = dict[tuple[str, int], float]


@dataclass
class Drawings:
    """
    What is measured on.

    Args:
        captions (`list[str]`): One for each image.
        codes (`torch.LongTensor` of shape `(num_images, num_query_tokens)`): Codes of the images.
    """

    captions: list[str]
    codes: torch.Tensor


def caption_features(studio: Studio) -> dict[str, torch.Tensor]:
    """Features of all captions of the data set, by caption."""
    rows = (row for split in ALL_SPLITS for row in load_rows("emoji", split).remove_columns("image"))
    captions = sorted({row["caption"] for row in rows if not row["is_flag"]})
    return dict(zip(captions, studio.text_features(captions), strict=True))


def read_split(studio: Studio, split: str, limit: int) -> Drawings:
    """Captions and codes of a split."""
    rows = [row for row in load_rows("emoji", split) if not row["is_flag"]][: limit or None]
    codes = [studio.encode([open_image(row) for row in rows[start : start + 64]]) for start in range(0, len(rows), 64)]
    return Drawings([row["caption"] for row in rows], torch.cat(codes))


def recall(features: torch.Tensor, captions: list[str], texts: dict[str, torch.Tensor], k: int) -> float:
    """Percentage of images that have their caption among the top `k` of `texts`."""
    number_of = {caption: number for number, caption in enumerate(texts)}
    owners = [[number_of[caption]] for caption in captions]
    return retrieval_recall(features, torch.stack(list(texts.values())), owners, ks=(k,))[f"i2t_r{k}"]


def retrieval(studio: Studio, drawings: Drawings, count: int, texts: dict[str, torch.Tensor]) -> dict[str, float]:
    """Captions of the split, found by codes."""
    own = {caption: texts[caption] for caption in sorted(set(drawings.captions))}
    features = torch.cat([studio.image_features(part) for part in drawings.codes[:, :count].split(256)])
    return {f"R@{k}, image to text": recall(features, drawings.captions, own, k) for k in (1, 10)}


def captions(studio: Studio, drawings: Drawings, count: int, texts: dict[str, torch.Tensor]) -> dict[str, float]:
    """What the language model writes."""
    settings = {"batch_size": 64, "max_new_tokens": 20}
    prompt, codes = studio.processor.caption_prompt, drawings.codes[:, :count]
    written = generate_texts(studio.model, studio.processor, codes, prompt, **settings)
    pairs = list(zip(written, drawings.captions, strict=True))
    return {
        "captions, exact match": 100 * sum(a.strip() == b for a, b in pairs) / len(pairs),
        "captions, word F1": 100 * sum(word_f1(a, b) for a, b in pairs) / len(pairs),
    }


def recognised(studio: Studio, drawings: Drawings, count: int, texts: dict[str, torch.Tensor]) -> dict[str, float]:
    """Captions of the data set, found by what is drawn."""
    first = [drawings.captions.index(caption) for caption in sorted(set(drawings.captions))]
    features = []
    for part in torch.tensor(first).split(64):
        start = 64 * len(features)
        pictures = studio.draw(drawings.codes[part, :count], range(start, start + len(part)))
        pixels = studio.pipeline.image_processor(pictures, return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            features.append(studio.image_tokenizer.get_image_features(pixels).pooler_output)
    return {"recognised": recall(torch.cat(features), [drawings.captions[number] for number in first], texts, 10)}


MEASURES = {"retrieval": retrieval, "captions": captions, "recognised": recognised}


def measure(studio: Studio, drawings: Drawings, measures: list[str], texts: dict[str, torch.Tensor]) -> Scores:
    """Scores of one split: (name, number of codes) -> percent."""
    scores = {}
    for count in tqdm(COUNTS, desc=", ".join(measures), mininterval=5):
        for name in measures:
            scores |= {(key, count): value for key, value in MEASURES[name](studio, drawings, count, texts).items()}
    return scores


def with_decoders(studio: Studio, folder: str) -> Studio:
    """
    Puts the decoders of another image tokenizer into a studio.

    Raises:
        ValueError: More than the decoders differs.
    """
    model = seed_model(load_image_tokenizer(folder, "cpu"), "decoders to compare")
    own, others = studio.image_tokenizer.state_dict(), model.state_dict()
    shared = [name for name in own if not name.startswith(DECODERS)]
    if bad := [name for name in shared if name not in others or not torch.equal(own[name], others[name])]:
        raise ValueError(f"`--also` {folder!r} differs in {bad[0]}; allowed: other values of {DECODERS} only.")
    studio.pipeline.register_modules(image_tokenizer=model)
    return Studio(studio.pipeline, studio.image_generation, studio.text_tokenizer)


def as_rows(label: str, scores: dict[str, Scores], command: str) -> list[dict]:
    """One row for each score and number of codes, with a number for each split."""
    own = {} if label == "" else {"decoders": label}
    return [
        {
            "name": f"{name}, first {count}",
            "unit": "%",
            **own,
            **{split: scores[split][name, count] for split in scores},
            "command": command,
        }
        for name, count in sorted(next(iter(scores.values())), key=lambda key: key[0])
    ]


def kept_rows(path: Path, model: dict, new: list[dict]) -> list[dict]:
    """Rows that an earlier run measured of the same weights, and that this one has not."""
    report = json.loads(path.read_text()) if path.is_file() else {}
    measured = {(row.get("decoders"), row["name"]) for row in new}
    rows = report["rows"] if report.get("model") == model else []
    return [row for row in rows if (row.get("decoders"), row["name"]) not in measured]


def curves(rows: list[dict], split: str) -> dict[str, dict[int, float]]:
    """Numbers of a split by number of codes, by name of the score and of the decoders."""
    found = {}
    for row in rows:
        name, _, count = row["name"].rpartition(", first ")
        title = f"{name}, {row['decoders']}" if "decoders" in row else name
        found.setdefault(title, {})[int(count)] = row[split]
    return dict(sorted(found.items()))


def as_tables(report: dict) -> str:
    """A table for each split: a line for each score, a column for each number of codes."""
    lines = []
    for split, title in report["splits"].items():
        lines += [f"| {title}: first codes | {' | '.join(map(str, COUNTS))} |", f"| --- |{' ---: |' * len(COUNTS)}"]
        for name, values in curves(report["rows"], split).items():
            cells = [format_number(values.get(count), "%") for count in COUNTS]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    commands = dict.fromkeys(row["command"] for row in report["rows"])
    return "\n".join([*lines, f"Measured by {', '.join(f'`{command}`' for command in commands)}."]) + "\n"


def draw_figure(studio: Studio, report: dict, target: Path) -> None:
    """The curves, and some images over the number of codes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    splits = report["splits"]
    figure, axes = pyplot.subplot_mosaic(
        [[split, "strip"] for split in splits], figsize=(13, 7), width_ratios=(1, 0.95), layout="constrained"
    )
    for split, title in splits.items():
        found = curves(report["rows"], split)
        plain = [name for name in found if not any(name.startswith(f"{other}, ") for other in found)]
        for name, values in found.items():
            base = name if name in plain else next(other for other in plain if name.startswith(f"{other}, "))
            style = {"color": f"C{plain.index(base)}", "linestyle": "-" if base == name else "--"}
            axes[split].plot(values.keys(), values.values(), marker="o", markersize=3, label=name, **style)
        axes[split].set(title=title, ylabel="%", xticks=COUNTS, ylim=(0, 100))
    axes[split].set_xlabel("number of codes")
    figure.legend(*axes[split].get_legend_handles_labels(), fontsize=8, loc="outside lower left", ncols=4)
    axes["strip"].imshow(strip(studio))
    middle = SIDE / 2
    ticks = [middle + SIDE * number for number in range(len(COUNTS) + 1)]
    axes["strip"].set_xticks(ticks, ["image", *map(str, COUNTS)])
    axes["strip"].set_yticks([])
    axes["strip"].set_xlabel("drawn from the first codes")
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
    parser.add_argument("--measures", nargs="+", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--also", metavar="NAME=FOLDER", help="an image tokenizer with other decoders")
    parser.add_argument("--only_also", action="store_true", help="keep the numbers of seed-mini's own decoders")
    parser.add_argument("--output", type=Path, default=ROOT / "model_cards" / "seed-mini-prefixes.json")
    parser.add_argument("--figure", type=Path, default=ROOT / "docs" / "images" / "prefixes.png")
    args = parser.parse_args(argv)
    if args.also is not None and not all(args.also.partition("=")):
        parser.error(f"`--also` is {args.also!r}; allowed: NAME=FOLDER.")
    if args.only_also and args.also is None:
        parser.error("`--only_also` needs `--also`.")
    return args


def main(argv: list[str] | None = None) -> None:
    """Measure every split; write the JSON, the tables and the figure."""
    args, started = parse_args(argv), time.time()
    command = shlex.join(["python", "benchmarks/prefixes.py", *(sys.argv[1:] if argv is None else argv)])
    studio = Studio.load("seed-mini", "cpu")
    texts = caption_features(studio) if set(args.measures) - {"captions"} else {}
    drawings = {split: read_split(studio, split, args.limit) for split in args.splits}
    rows = []
    if not args.only_also:
        scores = {split: measure(studio, drawings[split], args.measures, texts) for split in drawings}
        rows += as_rows("", scores, command)
    if args.also is not None:
        label, _, folder = args.also.partition("=")
        other = with_decoders(studio, folder)
        # which the language model reads as they are
        measures = [name for name in args.measures if name != "captions"]
        scores = {split: measure(other, drawings[split], measures, texts) for split in drawings}
        rows += as_rows(label, scores, command)
    folders = [path for path in Path(mini_pipeline_path()).iterdir() if path.is_dir()]
    model = describe_model("seed-mini", *folders, Path(mini_language_model_path()))
    report = {
        "command": command,
        "splits": {split: SPLITS.get(split, split) for split in drawings},
        "rows": rows + kept_rows(args.output, model, rows),
        "model": model,
        "machine": describe_machine(),
        "minutes": round((time.time() - started) / 60, 1),
        "versions": package_versions(),
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(report, indent=2) + "\n")
    table = as_tables(report)
    print(table)
    if (page := args.output.with_suffix(".md")).exists():
        update_file(page, table)
    draw_figure(Studio.load("seed-mini", "cpu") if args.also else studio, report, args.figure)


if __name__ == "__main__":
    main()
