"""`seed-hf convert`: released or foreign weights to folders of this package, and back."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from .parsing import with_options


if TYPE_CHECKING:
    from ..convert.key_tables import KeyReport


EXAMPLES = """examples:
  seed-hf convert seed-1 eva_vit_g.pth causal_qformer.pth seed_tokenizer.pth --output seed-1
  seed-hf convert seed-1 eva_vit_g.pth causal_qformer.pth --output stage-1 \\
      --allow-missing "quantizer.*" --allow-missing "*_decoder.*" --allow-missing "generation_head.*"
  seed-hf convert seed-2 eva_vit_g.pth seed_quantizer.pt --output seed-2
  seed-hf convert blip-2 blip2-itm-vit-g --output stage-1-start
  seed-hf convert seed-llama seed-llama-8b --tokenizer seed-tokenizer --output seed-llama-hf
  seed-hf convert pipeline seed-2 --decoder owner/unclip@<commit> --fallback mirror/unclip@<commit> --output seed-2-hf
  seed-hf convert original seed-1 --output back-again
"""


Output = Annotated[str, typer.Option(metavar="FOLDER", help="Folder to write; new or empty.")]
AllowUnknown = Annotated[
    list[str] | None,
    typer.Option(metavar="PATTERN", help="Names in the files that may be left over; may be repeated."),
]


def _image_tokenizer(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATHS...", help="Files .pth, .pt, .bin or .safetensors, index of shards, or folder."),
    ],
    output: Output,
    config: Annotated[
        str | None,
        typer.Option(
            metavar="PATH", help="Folder or file with the configuration, if its sizes are not the published ones."
        ),
    ] = None,
    text_tokenizer: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Folder or Hub id of the Q-Former's text tokenizer, to save as well."),
    ] = None,
    allow_unknown: AllowUnknown = None,
    allow_missing: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Our names of weights that may start fresh; may be repeated."),
    ] = None,
):
    """What all image tokenizers take."""


InferenceOnly = Annotated[bool, typer.Option("--inference-only", help="Leave out the parts that only training needs.")]


@with_options(_image_tokenizer)
def _seed_1(inference_only: InferenceOnly = False, **values):
    _convert_image_tokenizer("seed-1", inference_only=inference_only, **values)


@with_options(_image_tokenizer)
def _seed_2(inference_only: InferenceOnly = False, **values):
    _convert_image_tokenizer("seed-2", inference_only=inference_only, **values)


@with_options(_image_tokenizer)
def _blip_2(
    keep_query_feed_forward: Annotated[
        bool, typer.Option("--keep-query-feed-forward", help="Take BLIP-2's own instead of copies of the text ones.")
    ] = False,
    **values,
):
    _convert_image_tokenizer("blip-2", keep_query_feed_forward=keep_query_feed_forward, **values)


def _convert_image_tokenizer(kind: str, config: str | None, output: str, **values):
    # inside functions, so that `--help` does not wait for torch
    from ..convert.image_tokenizer import convert_image_tokenizer
    from ..models.configuration_seed_image_tokenizer import SeedImageTokenizerConfig

    patterns = {name: values.pop(name) or [] for name in ("allow_unknown", "allow_missing")}
    config = None if config is None else SeedImageTokenizerConfig.from_pretrained(config)
    print_report(convert_image_tokenizer(kind=kind, config=config, output=output, **patterns, **values))
    print(f"wrote {output}")


def _seed_llama(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Plain language model of transformers.")],
    output: Output,
    tokenizer: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Folder or Hub id, if the model's folder has none.")
    ] = None,
    codebook_size: Annotated[int, typer.Option(metavar="NUMBER", help="Number of codes.")] = 8192,
    num_query_tokens: Annotated[int, typer.Option(metavar="NUMBER", help="Number of codes of an image.")] = 32,
    image_tokenizer_id: Annotated[
        str | None, typer.Option(metavar="ID", help="Repository of the image tokenizer and decoder of its codes.")
    ] = None,
    image_tokenizer_revision: Annotated[
        str | None, typer.Option(metavar="REVISION", help="Revision of that repository.")
    ] = None,
    allow_unknown: AllowUnknown = None,
):
    values = {**locals(), "allow_unknown": allow_unknown or []}
    from ..convert.language_model import convert_language_model

    print_report(convert_language_model(**values))
    print(f"wrote {output}")


def _pipeline(
    image_tokenizer: Annotated[
        str, typer.Argument(metavar="IMAGE_TOKENIZER", help="Folder of the converted image tokenizer.")
    ],
    decoder: Annotated[str, typer.Option(metavar="DECODER", help="Stable Diffusion folder, or owner/name@revision.")],
    output: Output,
    fallback: Annotated[
        list[str] | None, typer.Option(metavar="DECODER", help="Another place to get it from; may be repeated.")
    ] = None,
    allow_unknown: AllowUnknown = None,
):
    # inside functions, so that `--help` does not wait for torch; diffusers is imported only for this
    from ..convert.pipeline import assemble_pipeline

    places = {"decoder": decoder, "fallbacks": fallback or [], "output": output}
    reports = assemble_pipeline(image_tokenizer=image_tokenizer, allow_unknown=allow_unknown or [], **places)
    for name, report in reports.items():
        print_report(report, f"{name}: ")
    print(f"wrote {output}")


def _original(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Image tokenizer or converted language model.")],
    output: Output,
):
    from ..convert.image_tokenizer import write_original
    from ..convert.language_model import write_original_language_model
    from ..hub.kinds import repository_kind

    is_language_model = repository_kind(folder) == "language-model"
    (write_original_language_model if is_language_model else write_original)(folder=folder, output=output)
    print(f"wrote {output}")


LEAVES = {
    "seed-1": ("SEED-1: EVA ViT, causal_qformer.pth, seed_tokenizer.pth, or some of them.", _seed_1),
    "seed-2": ("SEED-2: seed_quantizer.pt, and the EVA ViT if it has its own file.", _seed_2),
    "blip-2": ("BLIP-2 of transformers (a folder) or LAVIS (files), as the start of stage 1.", _blip_2),
    "seed-llama": ("A plain language model with image tokens.", _seed_llama),
    "pipeline": ("An image tokenizer and Stable Diffusion to a SeedPipeline.", _pipeline),
    "original": ("A folder of this package back to the original's files.", _original),
}


def print_report(report: "KeyReport", before: str = ""):
    """Prints how many keys there are of each kind, with the reason."""
    print(f"{before}{len(report.used)} weights used")
    for what, keys in (("dropped", report.dropped), ("fresh", report.fresh)):
        reasons = list(keys.values())
        for reason in dict.fromkeys(reasons):
            names = [name for name, why in keys.items() if why == reason]
            print(f"{before}{len(names)} {what}: {reason} ({json.dumps(names[0])}{', ...' if len(names) > 1 else ''})")
