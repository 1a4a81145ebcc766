"""`seed-hf eval`: the functions of [`seed_hf.evaluation`] on the command line."""

import argparse
from dataclasses import fields

from ..evaluation import (
    CAPTION_METRICS,
    EvaluationReport,
    RunSettings,
    evaluate_captions,
    evaluate_reconstruction,
    evaluate_retrieval,
    evaluate_vqa,
)


EXAMPLES = """examples:
  seed-hf eval retrieval seed-mini --dataset emoji --split test_concepts --output retrieval.json
  seed-hf eval retrieval owner/seed-1 --dataset flickr30k --output flickr30k.json   # dataset_flickr30k.json, pictures
  seed-hf eval retrieval owner/seed-1 --dataset coco --output coco.json             # dataset_coco.json, val2014/
  seed-hf eval reconstruction owner/seed-1 --dataset coco --clip openai/clip-vit-large-patch14 \\
      --text-encoder stable-diffusion-v1 --output reconstruction.json
  seed-hf eval caption owner/seed-opt-2.7b --dataset nocaps --split val --output nocaps.json
  seed-hf eval vqa owner/seed-opt-2.7b --dataset vqav2 --split val --num-processes 8 --work-dir run --output vqa.json
  seed-hf eval vqa owner/seed-opt-2.7b --dataset gqa --split testdev --output gqa.json
"""
_TASKS = {
    "retrieval": (evaluate_retrieval, "test", "Table 1: captions of pictures and pictures of captions, R@1/5/10"),
    "reconstruction": (evaluate_reconstruction, "test", "Table 2: CLIP similarity of pictures drawn from codes"),
    "caption": (evaluate_captions, "test", "Table 3: BLEU, METEOR, ROUGE-L, CIDEr, SPICE"),
    "vqa": (evaluate_vqa, "val", "Table 3: VQA accuracy, or exact match where there is one answer"),
}


def add_arguments(parser: argparse.ArgumentParser):
    """One sub-command for each task."""
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, EXAMPLES
    tasks = parser.add_subparsers(dest="task", required=True, metavar="task")
    for name, (_, split, text) in _TASKS.items():
        task = tasks.add_parser(name, help=text, description=text)
        task.add_argument("model", help="'seed-mini', a folder or a Hub id")
        task.add_argument("--revision", help="of the model on the Hub")
        task.add_argument(
            "--dataset", required=True, help="'emoji', a folder in the usual layout, parquet files, shards or a Hub id"
        )
        task.add_argument("--split", default=split, help=f"also with a slice, as 'test[:100]' (default: {split})")
        task.add_argument("--limit", type=int, help="the first rows only")
        outside_help = "also read images that the data set names by a path or URL outside of its own folder or source"
        task.add_argument("--allow-outside-paths", action="store_true", help=outside_help)
        unreadable_help = "stop when more than this share of the rows has no result (default: 0.01)"
        task.add_argument("--max-unreadable-share", type=float, default=0.01, help=unreadable_help)
        task.add_argument("--output", required=True, help="JSON file to write")
        task.add_argument("--work-dir", help="keeps what is computed: the same command after a kill goes on")
        task.add_argument("--batch-size", type=int, help="by default found: what fits the memory")
        task.add_argument("--num-processes", type=int, default=1, help="on this machine, dealt to its GPUs")
        _ARGUMENTS[name](task)


def _add_retrieval_arguments(parser: argparse.ArgumentParser):
    parser.add_argument("--max-text-tokens", type=int, default=32, help="captions are cut to it (default: 32)")
    parser.add_argument(
        "--merge-equal-captions",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="equal captions of different pictures are one text (default: where pictures have one caption each)",
    )
    parser.add_argument("--block-size", type=int, default=4096, help="compared at once (default: 4096)")
    parser.add_argument("--dtype", default="float32", help="of the weights (default: float32)")


def _add_reconstruction_arguments(parser: argparse.ArgumentParser):
    parser.add_argument("--clip", help="folder or Hub id; 'own': the image tokenizer's features, as a stand-in")
    parser.add_argument("--text-encoder", help="of the decoder, or its Stable Diffusion folder, for the upper bound")
    parser.add_argument("--num-inference-steps", type=int, help="default: the pipeline's")
    parser.add_argument("--guidance-scale", type=float, help="default: the pipeline's")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")


def _add_language_arguments(parser: argparse.ArgumentParser):
    parser.add_argument("--image-tokenizer", help="folder or Hub id, where the language model has none inside")
    parser.add_argument("--prompt", help="other words than the paper's; 'model': the processor's own")
    parser.add_argument("--num-beams", type=int, help="default: 5, for seed-mini 1")
    parser.add_argument("--max-new-tokens", type=int, help="default: as the original")
    parser.add_argument("--length-penalty", type=float, help="of beam search")
    parser.add_argument("--dtype", default="auto", help="of the weights (default: as saved, for seed-mini float32)")


def _add_caption_arguments(parser: argparse.ArgumentParser):
    _add_language_arguments(parser)
    parser.add_argument("--min-new-tokens", type=int, help="default: 8, for seed-mini none")
    parser.add_argument("--metrics", nargs="+", choices=CAPTION_METRICS, help="default: all that can be computed here")


def _add_vqa_arguments(parser: argparse.ArgumentParser):
    _add_language_arguments(parser)
    parser.add_argument("--seed", type=int, default=0, help="chooses the questions about emoji (default: 0)")


_ARGUMENTS = {
    "retrieval": _add_retrieval_arguments,
    "reconstruction": _add_reconstruction_arguments,
    "caption": _add_caption_arguments,
    "vqa": _add_vqa_arguments,
}


def run(args: argparse.Namespace):
    """Measures, writes the JSON and prints the scores."""
    values = {name: value for name, value in vars(args).items() if name not in ("command", "task", "output")}
    settings = RunSettings(**{field.name: values.pop(field.name) for field in fields(RunSettings)})
    report = _TASKS[args.task][0](settings=settings, **values)
    report.save(args.output)
    print_report(report)
    print(f"wrote {args.output}")


def print_report(report: EvaluationReport):
    """Scores, and what is missing."""
    width = max(map(len, report.scores))
    for name, value in report.scores.items():
        print(f"{name:{width}}  {value:.2f}")
    for name, reason in report.not_measured.items():
        print(f"not measured: {name}: {reason}")
    if report.data["num_skipped"]:
        print(f"{report.data['num_skipped']} images could not be read and are left out")


__all__ = ["add_arguments", "run"]
