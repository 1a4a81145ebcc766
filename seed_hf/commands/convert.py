"""`seed-hf convert`: released or foreign weights to folders of this package, and back."""

import argparse
import json
from typing import TYPE_CHECKING


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


def add_arguments(parser: argparse.ArgumentParser):
    """Adds one sub-command for each kind of input."""
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, EXAMPLES
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="kind")
    for kind, text in (
        ("seed-1", "SEED-1: EVA ViT, causal_qformer.pth, seed_tokenizer.pth, or some of them"),
        ("seed-2", "SEED-2: seed_quantizer.pt, and the EVA ViT if it has its own file"),
        ("blip-2", "BLIP-2 of transformers (a folder) or LAVIS (files), as the start of stage 1"),
    ):
        _add_image_tokenizer_arguments(_add_kind(kinds, kind, text), kind)
    _add_language_model_arguments(_add_kind(kinds, "seed-llama", "a plain language model with image tokens"))
    _add_pipeline_arguments(_add_kind(kinds, "pipeline", "an image tokenizer and Stable Diffusion to a SeedPipeline"))
    back = _add_kind(kinds, "original", "a folder of this package back to the original's files")
    back.add_argument("folder", help="image tokenizer or converted language model")


def _add_kind(kinds, name: str, text: str) -> argparse.ArgumentParser:
    parser = kinds.add_parser(name, help=text, description=text)
    parser.add_argument("--output", required=True, help="folder to write; new or empty")
    return parser


def _add_image_tokenizer_arguments(parser: argparse.ArgumentParser, kind: str):
    parser.add_argument("paths", nargs="+", help=".pth, .pt, .bin, .safetensors, index of shards, or folder")
    parser.add_argument(
        "--config", help="folder or file with the configuration, if its sizes are not the published ones"
    )
    parser.add_argument("--text-tokenizer", help="folder or Hub id of the Q-Former's text tokenizer, to save as well")
    _add_allowed(parser)
    parser.add_argument(
        "--allow-missing",
        action="append",
        default=[],
        metavar="PATTERN",
        help="our names of weights that may start fresh",
    )
    if kind == "blip-2":
        parser.add_argument(
            "--keep-query-feed-forward",
            action="store_true",
            help="take BLIP-2's own instead of copies of the text ones",
        )
    else:
        parser.add_argument(
            "--inference-only", action="store_true", help="leave out the parts that only training needs"
        )


def _add_language_model_arguments(parser: argparse.ArgumentParser):
    parser.add_argument("folder", help="plain language model of transformers")
    parser.add_argument("--tokenizer", help="folder or Hub id, if the model's folder has none")
    parser.add_argument("--codebook-size", type=int, default=8192, help="number of codes (default 8192)")
    parser.add_argument("--num-query-tokens", type=int, default=32, help="number of codes of an image (default 32)")
    parser.add_argument("--image-tokenizer-id", help="repository of the image tokenizer and decoder of its codes")
    parser.add_argument("--image-tokenizer-revision", help="revision of that repository")
    _add_allowed(parser)


def _add_pipeline_arguments(parser: argparse.ArgumentParser):
    parser.add_argument("image_tokenizer", help="folder of the converted image tokenizer")
    parser.add_argument("--decoder", required=True, help="Stable Diffusion folder, or owner/name@revision")
    parser.add_argument(
        "--fallback",
        action="append",
        default=[],
        metavar="DECODER",
        help="another place to get it from; may be repeated",
    )
    _add_allowed(parser)


def _add_allowed(parser: argparse.ArgumentParser):
    parser.add_argument(
        "--allow-unknown",
        action="append",
        default=[],
        metavar="PATTERN",
        help="names in the files that may be left over",
    )


def run(args: argparse.Namespace):
    """Converts and prints what became of the keys."""
    # inside `run`, so that `--help` does not wait for torch
    from ..convert.image_tokenizer import convert_image_tokenizer, write_original
    from ..convert.language_model import convert_language_model, write_original_language_model
    from ..hub.kinds import repository_kind
    from ..models.configuration_seed_image_tokenizer import SeedImageTokenizerConfig

    values = {name: value for name, value in vars(args).items() if name not in ("command", "kind")}
    if args.kind == "pipeline":
        # diffusers is imported only for this
        from ..convert.pipeline import assemble_pipeline

        for name, report in assemble_pipeline(fallbacks=values.pop("fallback"), **values).items():
            print_report(report, f"{name}: ")
    elif args.kind == "seed-llama":
        print_report(convert_language_model(**values))
    elif args.kind == "original":
        is_language_model = repository_kind(args.folder) == "language-model"
        (write_original_language_model if is_language_model else write_original)(**values)
    else:
        if args.config is not None:
            values["config"] = SeedImageTokenizerConfig.from_pretrained(args.config)
        print_report(convert_image_tokenizer(kind=args.kind, **values))
    print(f"wrote {args.output}")


def print_report(report: "KeyReport", before: str = ""):
    """Prints how many keys there are of each kind, with the reason."""
    print(f"{before}{len(report.used)} weights used")
    for what, keys in (("dropped", report.dropped), ("fresh", report.fresh)):
        reasons = list(keys.values())
        for reason in dict.fromkeys(reasons):
            names = [name for name, why in keys.items() if why == reason]
            print(f"{before}{len(names)} {what}: {reason} ({json.dumps(names[0])}{', ...' if len(names) > 1 else ''})")
