"""Measure seed-mini on what it has never seen, and write model_cards/seed-mini-results.json.

    python training/mini/evaluate_mini.py && python training/mini/results_table.py

Held-out drawings are of concepts that training has shown in other styles; held-out concepts are shown nowhere.
Flags, which are near-duplicates over styles, are left out unless a row says otherwise. Retrieval is among the
captions of the split. A picture counts as recognised when the retrieval model, looking at it, has its concept among
its top 10 of all captions of the data set without flags; one drawing of each caption is taken for that. Because that
model was trained with what it judges, a second judge that was not (`seed_hf.mini.judge`) looks at the same pictures;
its gallery holds all drawings of three sets and never the drawing that a picture was made from.
"""

import argparse
import json
import platform
import time
from pathlib import Path


import seed_hf_script  # isort: skip  # noqa: F401

from seed_hf.hub.fetch import MINI_NAME, resolve_mini
from seed_hf.trainer.flags import HelpFormatter


SPLITS = {"test_drawings": "held-out drawings", "test_concepts": "held-out concepts"}
ALL_SPLITS = ("train", "validation", *SPLITS)
RESULTS = Path(__file__).parents[2] / "model_cards" / "seed-mini-results.json"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Flags of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument(
        "--pipeline",
        default=resolve_mini(MINI_NAME, "pipeline"),
        help="Folder of an image tokenizer with its picture decoder.",
    )
    parser.add_argument(
        "--language_model",
        default=resolve_mini(MINI_NAME, "language_model"),
        help="Folder of a language model; empty: leave it out.",
    )
    parser.add_argument(
        "--splits",
        nargs="+",
        choices=ALL_SPLITS,
        default=list(SPLITS),
        help="Splits to evaluate (validation while tuning).",
    )
    parser.add_argument("--limit", type=int, default=0, help="Number of images per split; 0: all.")
    parser.add_argument("--num_inference_steps", type=int, default=12, help="Steps of the picture decoder.")
    parser.add_argument("--guidance_scale", type=float, default=2.0, help="Guidance of the picture decoder.")
    parser.add_argument("--batch_size", type=int, default=64, help="Number of images at once.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the first picture.")
    parser.add_argument(
        "--gallery_styles",
        nargs="*",
        default=["twemoji", "noto", "fluent-flat"],
        help="Drawing sets that the independent judge knows; none: leave it out.",
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="JSON file to write.")
    return parser.parse_args(argv)


if __name__ == "__main__":
    parse_args()  # `--help` and mistakes come before the imports that take seconds

import torch
from tqdm.auto import tqdm
from transformers import AutoTokenizer

from seed_hf.data.captioned_images import open_image
from seed_hf.data.rows import load_rows
from seed_hf.evaluation.retrieval import retrieval_scores
from seed_hf.evaluation.retrieval_metrics import codebook_use
from seed_hf.inference import generate_texts, text_features
from seed_hf.mini import mini_image_generation, mini_language_model
from seed_hf.mini.judge import NearestDrawings
from seed_hf.models.pipeline_seed import SeedPipeline
from seed_hf.provenance import package_versions
from seed_hf.trainer.pairs import word_f1


def batches(items: list, size: int, name: str):
    """Slices of a list, with a progress bar."""
    return tqdm([items[i : i + size] for i in range(0, len(items), size)], desc=name, mininterval=5)


class Evaluation:
    """Models, and the features that all measures share."""

    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.pipeline = SeedPipeline.from_pretrained(args.pipeline)
        self.pipeline.set_progress_bar_config(disable=True)
        self.model = self.pipeline.image_tokenizer.eval()
        self.tokenizer = AutoTokenizer.from_pretrained(args.pipeline, subfolder="image_tokenizer")
        rows = [row for split in ALL_SPLITS for row in load_rows("emoji", split) if not row["is_flag"]]
        self.all_captions = sorted({row["caption"] for row in rows})
        gallery = [row for row in rows if row["style"] in args.gallery_styles]
        self.numbers = {row["image"]["path"]: number for number, row in enumerate(gallery)}
        self.independent = None
        if gallery:
            self.independent = NearestDrawings(map(open_image, gallery), [row["caption"] for row in gallery])
        self.all_texts = self.features_of_texts(self.all_captions)
        self.language_model = self.processor = None
        if args.language_model:
            self.language_model, self.processor = mini_language_model(args.language_model, args.pipeline)

    @torch.no_grad()
    def features_of_texts(self, texts: list[str]) -> torch.Tensor:
        """L2-normalised features of captions."""
        return text_features(self.model, self.tokenizer, texts)

    def pixels(self, images: list) -> torch.Tensor:
        """`pixel_values` of images."""
        return self.pipeline.image_processor(images, return_tensors="pt")["pixel_values"]

    @torch.no_grad()
    def recognised(self, images: list, captions: list[str]) -> float:
        """Percentage of images whose caption is in the top 10 of all captions of the data set."""
        features = [
            self.model.get_image_features(self.pixels(part)).pooler_output
            for part in batches(images, 256, "recognise")
        ]
        top = (torch.cat(features) @ self.all_texts.t()).topk(10).indices
        own = torch.tensor([self.all_captions.index(caption) for caption in captions])
        return 100 * (top == own[:, None]).any(1).float().mean().item()

    def recognised_by_both(
        self, what: str, images: list, captions: list[str], paths: list[str] | None = None
    ) -> dict[tuple[str, str], float]:
        """Both judges' percentages; `paths` tell of which drawings the images are made, which then have no say."""
        results = {(f"recognised, {what}", "%"): self.recognised(images, captions)}
        if self.independent is not None:
            own = [self.numbers.get(path) for path in paths or [""] * len(images)]
            found = self.independent.ranks(images, captions, own) < 10
            results[f"recognised by the independent judge, {what}", "%"] = 100 * found.float().mean().item()
        return results

    def draw(self, codes: torch.Tensor) -> list:
        """Pictures drawn from codes."""
        pictures = []
        for part in batches(list(codes), self.args.batch_size, "draw"):
            generator = [torch.Generator().manual_seed(self.args.seed + len(pictures) + i) for i in range(len(part))]
            pictures += self.pipeline(
                codes=torch.stack(list(part)),
                num_inference_steps=self.args.num_inference_steps,
                guidance_scale=self.args.guidance_scale,
                generator=generator,
            ).images
        return pictures

    def codes_of_prompts(self, captions: list[str]) -> torch.Tensor:
        """Codes that the language model writes for captions."""
        self.pipeline.register_modules(language_model=self.language_model, processor=self.processor)
        codes = []
        for part in batches(captions, self.args.batch_size, "write codes"):
            codes.append(self.pipeline.encode_prompt(part, **mini_image_generation(self.processor)))
        return torch.cat(codes)


def evaluate_split(evaluation: Evaluation, split: str) -> dict[tuple[str, str], float]:
    """All measures of one split: (name, unit) -> number."""
    args, model = evaluation.args, evaluation.model
    rows = list(load_rows("emoji", split))[: args.limit or None]
    captions = [row["caption"] for row in rows]
    plain = torch.tensor([not row["is_flag"] for row in rows])
    images = [open_image(row) for row in rows]
    with torch.no_grad():
        pixels = torch.cat([evaluation.pixels(part) for part in batches(images, 256, "read")])
        codes = torch.cat([model.encode(part) for part in pixels.split(256)])
        features = {
            "causal embeddings": torch.cat(
                [model.get_image_features(part).pooler_output for part in pixels.split(256)]
            ),
            "codes": torch.cat([model.get_image_features(codes=part).pooler_output for part in codes.split(256)]),
        }
        results = {("pictures", ""): int(plain.sum())}
        kept = [caption for caption, keep in zip(captions, plain, strict=True) if keep]
        results["distinct captions", ""] = len(set(kept))
        for source, feature in features.items():
            scores = retrieval_scores(model, evaluation.tokenizer, feature[plain], kept)
            for key, name in (("i2t", "image to text"), ("t2i", "text to image")):
                for depth in (1, 5, 10):
                    results[f"R@{depth}, {name}, {source}", "%"] = scores[f"{key}_r{depth}"]
            if not plain.all():
                scores = retrieval_scores(model, evaluation.tokenizer, feature, captions)
                results[f"R@1, image to text, {source}, with flags", "%"] = scores["i2t_r1"]
    codes, originals = codes[plain], [image for image, keep in zip(images, plain, strict=True) if keep]
    use = codebook_use(codes, model.config.codebook_size)
    results["codes in use", "%"], results["perplexity of the codes", ""] = use["codes_used"], use["perplexity"]
    results["different codes among the 32 of an image", ""] = use["distinct_codes"]
    first = [kept.index(name) for name in sorted(set(kept))]  # one drawing for each caption
    shown = [kept[i] for i in first]
    unflagged = [row["image"]["path"] for row in rows if not row["is_flag"]]
    paths = [unflagged[i] for i in first]
    drawings, redrawn = [originals[i] for i in first], evaluation.draw(codes[first])
    results |= evaluation.recognised_by_both("the drawings themselves", drawings, shown, paths)
    results |= evaluation.recognised_by_both("reconstructions", redrawn, shown, paths)
    if evaluation.language_model is not None:
        results |= evaluate_language(evaluation, codes, kept)
    return results


def evaluate_language(
    evaluation: Evaluation, codes: torch.Tensor, captions: list[str]
) -> dict[tuple[str, str], float]:
    """Measures captions written from codes, and pictures drawn from captions."""
    settings = {"batch_size": evaluation.args.batch_size, "max_new_tokens": 20}
    prompt = evaluation.processor.caption_prompt
    written = generate_texts(evaluation.language_model, evaluation.processor, codes, prompt, **settings)
    pairs = list(zip(written, captions, strict=True))
    results = {
        ("captions, exact match", "%"): 100 * sum(a.strip() == b for a, b in pairs) / len(pairs),
        ("captions, word F1", "%"): 100 * sum(word_f1(a, b) for a, b in pairs) / len(pairs),
    }
    names = sorted(set(captions))
    pictures = evaluation.draw(evaluation.codes_of_prompts(names))
    return results | evaluation.recognised_by_both("drawn from the caption", pictures, names)


def main(argv: list[str] | None = None) -> None:
    """Measure every split and write the JSON."""
    args = parse_args(argv)
    started = time.time()
    evaluation = Evaluation(args)
    by_split = {split: evaluate_split(evaluation, split) for split in args.splits}
    names = dict.fromkeys(key for results in by_split.values() for key in results)
    rows = [
        {"name": name, "unit": unit, **{split: results.get((name, unit)) for split, results in by_split.items()}}
        for name, unit in names
    ]
    report = {
        "command": "python training/mini/evaluate_mini.py",
        "splits": {split: SPLITS.get(split, split) for split in args.splits},
        "rows": rows,
        "settings": {
            k: v for k, v in vars(args).items() if k in ("num_inference_steps", "guidance_scale", "seed", "limit")
        },
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, CPU",
        "minutes": round((time.time() - started) / 60, 1),
        "versions": package_versions(),
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(report, indent=2) + "\n")
    for row in rows:
        print(row["name"], *(row[split] for split in args.splits), sep="\t")


if __name__ == "__main__":
    main()
