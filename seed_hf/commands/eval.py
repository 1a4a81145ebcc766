"""`seed-hf eval`: the functions of [`seed_hf.evaluation`] on the command line."""

import os
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated

import typer

from .flags import AllowOutsidePaths, MaxUnreadableShare, Seed
from .parsing import with_options


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
Split = Annotated[str, typer.Option(metavar="SPLIT", help="Split to evaluate, also with a slice, as 'test[:100]'.")]


def _shared(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="'seed-mini', a folder or a Hub id.")],
    dataset: Annotated[
        str,
        typer.Option(
            metavar="DATASET", help="'emoji', a folder in the usual layout, parquet files, shards or a Hub id."
        ),
    ],
    output: Annotated[str, typer.Option(metavar="FILE", help="JSON file to write.")],
    revision: Annotated[
        str | None, typer.Option(metavar="REVISION", help="Commit, branch or tag of the model on the Hub.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="Number of rows to evaluate, from the first; by default all.")
    ] = None,
    allow_outside_paths: AllowOutsidePaths = False,
    max_unreadable_share: MaxUnreadableShare = 0.01,
    work_dir: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER", help="Folder that keeps what is computed: the same command after a kill goes on."
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="Number of images at once; by default what fits the memory.")
    ] = None,
    num_processes: Annotated[
        int, typer.Option(metavar="NUMBER", help="Number of processes on this machine, dealt to its GPUs.")
    ] = 1,
):
    """What all tasks take."""


def _writing(
    image_tokenizer: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Folder or Hub id, where the language model has none inside.")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Other words than the paper's; 'model': the processor's own.")
    ] = None,
    num_beams: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="Number of beams; by default 5, for seed-mini 1.")
    ] = None,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", help="Number of tokens to write at most; by default as the original."),
    ] = None,
    length_penalty: Annotated[
        float | None,
        typer.Option(metavar="NUMBER", help="Exponent of the length in beam search; by default the model's."),
    ] = None,
    dtype: Annotated[
        str, typer.Option(metavar="DTYPE", help="Type of the weights; 'auto' is as saved, for seed-mini float32.")
    ] = "auto",
):
    """What the tasks of language models take."""


@with_options(_shared)
def _retrieval(
    split: Split = "test",
    max_text_tokens: Annotated[
        int, typer.Option(metavar="NUMBER", help="Number of tokens that captions are cut to.")
    ] = 32,
    merge_equal_captions: Annotated[
        bool | None,
        typer.Option(
            "--merge-equal-captions/--no-merge-equal-captions",
            help="Equal captions of different images are one text; by default where images have one caption each.",
        ),
    ] = None,
    block_size: Annotated[int, typer.Option(metavar="NUMBER", help="Number of images compared at once.")] = 4096,
    dtype: Annotated[str, typer.Option(metavar="DTYPE", help="Type of the weights.")] = "float32",
    **shared,
):
    own = {"max_text_tokens": max_text_tokens, "merge_equal_captions": merge_equal_captions, "block_size": block_size}
    _evaluate("evaluate_retrieval", split=split, dtype=dtype, **own, **shared)


@with_options(_shared)
def _reconstruction(
    split: Split = "test",
    clip: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Folder or Hub id; 'own': the image tokenizer's features, as a stand-in."),
    ] = None,
    text_encoder: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="The decoder's text encoder, or its Stable Diffusion folder, for the upper bound."
        ),
    ] = None,
    num_inference_steps: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="Number of denoising steps; by default the pipeline's.")
    ] = None,
    guidance_scale: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="Strength of guidance; by default the pipeline's.")
    ] = None,
    seed: Seed = 0,
    **shared,
):
    own = {"clip": clip, "text_encoder": text_encoder, "seed": seed}
    own |= {"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale}
    _evaluate("evaluate_reconstruction", split=split, **own, **shared)


def _check_metrics(names: list[str] | None) -> list[str] | None:
    if wrong := set(names or ()) - set(CAPTION_METRICS):
        raise typer.BadParameter(f"{', '.join(sorted(wrong))}; allowed: {', '.join(CAPTION_METRICS)}.")
    return names


@with_options(_shared)
@with_options(_writing)
def _caption(
    split: Split = "test",
    min_new_tokens: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", help="Number of tokens to write at least; by default 8, for seed-mini none."),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME...",
            callback=_check_metrics,
            help=f"Of {', '.join(CAPTION_METRICS)}; by default all that can be computed here.",
        ),
    ] = None,
    **shared,
):
    _evaluate("evaluate_captions", split=split, min_new_tokens=min_new_tokens, metrics=metrics, **shared)


@with_options(_shared)
@with_options(_writing)
def _vqa(
    split: Split = "val",
    seed: Annotated[int, typer.Option(metavar="SEED", help="Chooses the questions about emoji.")] = 0,
    **shared,
):
    _evaluate("evaluate_vqa", split=split, seed=seed, **shared)


LEAVES = {
    "retrieval": ("Table 1: captions of images and images of captions, R@1/5/10.", _retrieval),
    "reconstruction": ("Table 2: CLIP similarity of pictures drawn from codes.", _reconstruction),
    "caption": ("Table 3: BLEU, METEOR, ROUGE-L, CIDEr, SPICE.", _caption),
    "vqa": ("Table 3: VQA accuracy, or exact match where there is one answer.", _vqa),
}


def _evaluate(function: str, output: str, **values):
    """Measures, writes the JSON and prints the scores."""
    # inside a function, so that `--help` does not wait for torch
    from .. import evaluation
    from ..hub.fetch import check_model_exists

    check_model_exists(values["model"], values["revision"])
    if os.path.isdir(output):
        raise ValueError(f"`--output` is the folder {output!r}; allowed: a file.")
    settings = evaluation.RunSettings(
        **{field.name: values.pop(field.name) for field in fields(evaluation.RunSettings)}
    )
    report = getattr(evaluation, function)(settings=settings, **values)
    print_report(report)
    report.save(output)
    print(f"wrote {output}")


def print_report(report: "EvaluationReport"):
    """Scores, and what is missing."""
    width = max(map(len, report.scores))
    for name, value in report.scores.items():
        print(f"{name:{width}}  {value:.2f}")
    for name, reason in report.not_measured.items():
        print(f"not measured: {name}: {reason}")
    if report.data["num_skipped"]:
        print(f"{report.data['num_skipped']} images could not be read and are left out")


__all__ = ["CAPTION_METRICS", "LEAVES", "print_report"]
