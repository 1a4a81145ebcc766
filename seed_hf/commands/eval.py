"""`seed-hf eval`: the functions of [`seed_hf.evaluation`] on the command line."""

import argparse
from dataclasses import fields
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from ..evaluation import EvaluationReport


EXAMPLES = """examples:
  seed-hf eval retrieval seed-mini --dataset emoji --split test_concepts --output retrieval.json
  seed-hf eval retrieval owner/seed-1 --dataset flickr30k --output flickr30k.json   # dataset_flickr30k.json, images
  seed-hf eval retrieval owner/seed-1 --dataset coco --output coco.json             # dataset_coco.json, val2014/
  seed-hf eval reconstruction owner/seed-1 --dataset coco --clip openai/clip-vit-large-patch14 \\
      --text-encoder stable-diffusion-v1 --output reconstruction.json
  seed-hf eval caption owner/seed-opt-2.7b --dataset nocaps --split val --output nocaps.json
  seed-hf eval vqa owner/seed-opt-2.7b --dataset vqav2 --split val --num-processes 8 --work-dir run --output vqa.json
  seed-hf eval vqa owner/seed-opt-2.7b --dataset gqa --split testdev --output gqa.json
"""
# those of `seed_hf.evaluation`, whose import takes seconds
CAPTION_METRICS = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr", "SPICE")
_TASKS = {
    "retrieval": ("evaluate_retrieval", "test", "Table 1: captions of images and images of captions, R@1/5/10"),
    "reconstruction": ("evaluate_reconstruction", "test", "Table 2: CLIP similarity of pictures drawn from codes"),
    "caption": ("evaluate_captions", "test", "Table 3: BLEU, METEOR, ROUGE-L, CIDEr, SPICE"),
    "vqa": ("evaluate_vqa", "val", "Table 3: VQA accuracy, or exact match where there is one answer"),
}


def add_arguments(parser: argparse.ArgumentParser):
    """One sub-command for each task."""
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, EXAMPLES
    tasks = parser.add_subparsers(dest="task", required=True, metavar="task")
    for name, (_, split, text) in _TASKS.items():
        task = tasks.add_parser(name, help=text, description=text)
        add = task.add_argument
        add("model", help="'seed-mini', a folder or a Hub id")
        add("--revision", help="commit, branch or tag of the model on the Hub")
        add(
            "--dataset", required=True, help="'emoji', a folder in the usual layout, parquet files, shards or a Hub id"
        )
        add("--split", default=split, help=f"split to evaluate, also with a slice, as 'test[:100]' (default: {split})")
        add("--limit", type=int, help="number of rows to evaluate, from the first (default: all)")
        outside_help = "also read images that the data set names by a path or URL outside of its own folder or source"
        add("--allow-outside-paths", action="store_true", help=outside_help)
        unreadable_help = "share of the rows that may be left without a result (default: 0.01)"
        add("--max-unreadable-share", type=float, default=0.01, help=unreadable_help)
        add("--output", required=True, help="JSON file to write")
        add("--work-dir", help="folder that keeps what is computed: the same command after a kill goes on")
        add("--batch-size", type=int, help="number of images at once (default: what fits the memory)")
        add("--num-processes", type=int, default=1, help="number of processes on this machine, dealt to its GPUs")
        _ARGUMENTS[name](task)


def _add_retrieval_arguments(parser: argparse.ArgumentParser):
    add = parser.add_argument
    add("--max-text-tokens", type=int, default=32, help="number of tokens that captions are cut to (default: 32)")
    add(
        "--merge-equal-captions",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="equal captions of different images are one text (default: where images have one caption each)",
    )
    add("--block-size", type=int, default=4096, help="number of images compared at once (default: 4096)")
    add("--dtype", default="float32", help="type of the weights (default: float32)")


def _add_reconstruction_arguments(parser: argparse.ArgumentParser):
    add = parser.add_argument
    add("--clip", help="folder or Hub id; 'own': the image tokenizer's features, as a stand-in")
    add("--text-encoder", help="the decoder's text encoder, or its Stable Diffusion folder, for the upper bound")
    add("--num-inference-steps", type=int, help="number of denoising steps (default: the pipeline's)")
    add("--guidance-scale", type=float, help="strength of guidance (default: the pipeline's)")
    add("--seed", type=int, default=0, help="seed of the noise (default: 0)")


def _add_language_arguments(parser: argparse.ArgumentParser):
    add = parser.add_argument
    add("--image-tokenizer", help="folder or Hub id, where the language model has none inside")
    add("--prompt", help="other words than the paper's; 'model': the processor's own")
    add("--num-beams", type=int, help="number of beams (default: 5, for seed-mini 1)")
    add("--max-new-tokens", type=int, help="number of tokens to write at most (default: as the original)")
    add("--length-penalty", type=float, help="exponent of the length in beam search (default: the model's)")
    add("--dtype", default="auto", help="type of the weights (default: as saved, for seed-mini float32)")


def _add_caption_arguments(parser: argparse.ArgumentParser):
    _add_language_arguments(parser)
    add = parser.add_argument
    add("--min-new-tokens", type=int, help="number of tokens to write at least (default: 8, for seed-mini none)")
    add("--metrics", nargs="+", choices=CAPTION_METRICS, help="default: all metrics that can be computed here")


def _add_vqa_arguments(parser: argparse.ArgumentParser):
    _add_language_arguments(parser)
    add = parser.add_argument
    add("--seed", type=int, default=0, help="chooses the questions about emoji (default: 0)")


_ARGUMENTS = {
    "retrieval": _add_retrieval_arguments,
    "reconstruction": _add_reconstruction_arguments,
    "caption": _add_caption_arguments,
    "vqa": _add_vqa_arguments,
}


def run(args: argparse.Namespace):
    """Measures, writes the JSON and prints the scores."""
    # inside `run`, so that `--help` does not wait for torch
    from .. import evaluation

    values = {name: value for name, value in vars(args).items() if name not in ("command", "task", "output")}
    settings = evaluation.RunSettings(
        **{field.name: values.pop(field.name) for field in fields(evaluation.RunSettings)}
    )
    report = getattr(evaluation, _TASKS[args.task][0])(settings=settings, **values)
    report.save(args.output)
    print_report(report)
    print(f"wrote {args.output}")


def print_report(report: "EvaluationReport"):
    """Scores, and what is missing."""
    width = max(map(len, report.scores))
    for name, value in report.scores.items():
        print(f"{name:{width}}  {value:.2f}")
    for name, reason in report.not_measured.items():
        print(f"not measured: {name}: {reason}")
    if report.data["num_skipped"]:
        print(f"{report.data['num_skipped']} images could not be read and are left out")


__all__ = ["add_arguments", "run"]
