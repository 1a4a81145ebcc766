"""Put the image tokenizer repository of seed-mini together from what the training scripts left.

    python training/mini/assemble.py --image_tokenizer out/stage2 --decoder out/decoder --vae out/vae \
        --language_model out/stage3

Writes float16 safetensors, each file below `--max_file_size`; stores the text encoder's hidden states of "" for the
unconditional branch of guidance; copies the text tokenizer of the image tokenizer (captions for retrieval) along. Then
loads the folder again and draws one picture. The folder ships inside the package, so it has no copies of the package's
code, only files that name its classes.
"""

import argparse
import json
import shutil
from pathlib import Path


import seed_hf_script  # isort: skip  # noqa: F401

from seed_hf.trainer.flags import HelpFormatter


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Flags of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--image_tokenizer", type=Path, required=True, help="Folder that stage 2 wrote.")
    parser.add_argument("--decoder", type=Path, required=True, help="Folder that train_decoder.py wrote.")
    parser.add_argument("--vae", type=Path, required=True, help="Folder that train_vae.py wrote.")
    parser.add_argument("--output", type=Path, default=Path("seed_hf/mini/pipeline"), help="Folder to replace.")
    parser.add_argument("--language_model", type=Path, help="Folder that stage 3 wrote, to be stored in float16 too.")
    parser.add_argument(
        "--language_output", type=Path, default=Path("seed_hf/mini/language_model"), help="Folder to replace."
    )
    parser.add_argument(
        "--target_model",
        help="Text encoder that the decoder was trained with, unless it is that of --image_tokenizer.",
    )
    parser.add_argument(
        "--image_tokenizer_id", default="seed-mini", help="Where the language model is to find its image tokenizer."
    )
    parser.add_argument("--scheduler", default="DDIMScheduler", help="A scheduler class of diffusers.")
    parser.add_argument("--guidance_scale", type=float, default=2.0, help="Default of the pipeline's calls.")
    parser.add_argument("--num_inference_steps", type=int, default=12, help="Default of the pipeline's calls.")
    parser.add_argument("--max_file_size", type=float, default=16, help="Largest size of a weight file, in MB.")
    return parser.parse_args(argv)


if __name__ == "__main__":
    parse_args()  # `--help` and mistakes come before the imports that take seconds

import diffusers
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

from seed_hf import SeedForCausalLM, SeedImageProcessor, SeedImageTokenizer, SeedPipeline, SeedProcessor
from seed_hf.convert.pipeline import copy_text_tokenizer
from seed_hf.evaluation.text_encoders import load_text_encoder
from seed_hf.models.modeling_seed_empty_prompt import SeedEmptyPrompt


def load_scheduler(decoder: Path, class_name: str):
    """The scheduler that the decoder was trained with, with the settings of sampling, possibly as another class."""
    config = DDIMScheduler.load_config(decoder / "scheduler")
    needed = {"timestep_spacing": "trailing", "clip_sample": False}
    return getattr(diffusers, class_name).from_config({**config, **needed})


def build_pipeline(args: argparse.Namespace) -> SeedPipeline:
    """All components from their folders, in float32."""
    image_tokenizer = SeedImageTokenizer.from_pretrained(args.image_tokenizer).eval()
    target_model = None if args.target_model == "minilm" else args.target_model or args.image_tokenizer
    text_encoder = load_text_encoder(target_model, image_tokenizer.config.num_generation_tokens)
    unet_folder = args.decoder / "unet" if (args.decoder / "unet").is_dir() else args.decoder
    return SeedPipeline(
        image_tokenizer=image_tokenizer,
        image_processor=SeedImageProcessor.from_pretrained(args.image_tokenizer),
        unet=UNet2DConditionModel.from_pretrained(unet_folder).eval(),
        vae=AutoencoderKL.from_pretrained(args.vae).eval(),
        scheduler=load_scheduler(args.decoder, args.scheduler),
        empty_prompt=SeedEmptyPrompt.from_embeds(text_encoder([""])),
        guidance_scale=args.guidance_scale,
        num_inference_steps=args.num_inference_steps,
    )


def save(pipeline: SeedPipeline, args: argparse.Namespace) -> None:
    """Writes the folder anew, so that no file of an earlier one stays; a card in it is kept."""
    if args.output.exists():
        if not (args.output / pipeline.config_name).is_file():
            raise ValueError(f"`--output` is {args.output}, which holds no pipeline; allowed: that, or a new folder.")
        for path in args.output.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "README.md":
                path.unlink()
    for component in (pipeline.unet, pipeline.vae):
        component.register_to_config(_name_or_path="")  # else the training machine's paths would be published
    pipeline.to(torch.float16).save_pretrained(args.output, max_shard_size=f"{args.max_file_size}MB")
    leave_code_out(args.output)
    name_classes(args.output)
    copy_text_tokenizer(args.image_tokenizer, args.output / "image_tokenizer")


def save_language_model(source: Path, output: Path, max_file_size: float, image_tokenizer_id: str) -> None:
    """The language model in float16, without the image tokenizer, with its processor; `output` is replaced."""
    model = SeedForCausalLM.from_pretrained(source, image_tokenizer=None)
    processor = SeedProcessor.from_pretrained(source)
    model.config.image_tokenizer_id = processor.tokenizer.image_tokenizer_id = image_tokenizer_id
    shutil.rmtree(output, ignore_errors=True)
    model.half().save_pretrained(output, max_shard_size=f"{max_file_size}MB")
    processor.save_pretrained(output)
    leave_code_out(output)
    # four thousand image tokens, written in nine lines each otherwise
    file = output / "tokenizer.json"
    tokens = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(tokens, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def leave_code_out(folder: Path) -> None:
    """The folder ships inside the package, so the copies of the package's code in it, and what names them, go."""
    for file in folder.rglob("*.py"):
        file.unlink()
    for file in folder.rglob("*config.json"):
        config = json.loads(file.read_text(encoding="utf-8"))
        if config.pop("auto_map", None):
            file.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


# All names: diffusers gives the code of all folders that it loads the same modules, and that of another may need any.
_MODULE_OF_THE_PACKAGE = '''"""For diffusers: a module of the package."""

from seed_hf.models import {0} as module


globals().update({{name: value for name, value in vars(module).items() if not name.startswith("__")}})
'''


def name_classes(folder: Path) -> None:
    """Writes files that stand for the package's modules where diffusers looks for code beside the weights."""
    index = json.loads((folder / SeedPipeline.config_name).read_text(encoding="utf-8"))
    for part, entry in index.items():
        if isinstance(entry, list) and entry[0] not in (None, "diffusers", "transformers"):
            place = folder if part == "_class_name" else folder / part
            (place / f"{entry[0]}.py").write_text(_MODULE_OF_THE_PACKAGE.format(entry[0]), encoding="utf-8")


def check_sizes(folder: Path, max_file_size: float) -> int:
    """Bytes of the whole folder; raises `ValueError` for a file that is too large."""
    sizes = {file: file.stat().st_size for file in folder.rglob("*") if file.is_file()}
    large = {str(file): size for file, size in sizes.items() if size > (max_file_size + 1) * 10**6}
    if large:
        raise ValueError(f"`--max_file_size` is {max_file_size} MB but a single tensor is larger: {large}.")
    return sum(sizes.values())


def check_picture(folder: Path) -> None:
    """Loads the pipeline and draws; raises `ValueError` for a picture with NaN."""
    pipeline = SeedPipeline.from_pretrained(folder)
    config = pipeline.image_tokenizer.config
    codes = torch.arange(config.num_query_tokens)[None] % config.codebook_size
    pixels = pipeline(codes=codes, num_inference_steps=2, output_type="pt").images
    if not bool(pixels.isfinite().all()):
        raise ValueError(f"`--output` {folder} draws a picture that is not finite; look at the weights.")


def main(argv: list[str] | None = None) -> None:
    """Build, save, check."""
    args = parse_args(argv)
    pipeline = build_pipeline(args)
    save(pipeline, args)
    total = check_sizes(args.output, args.max_file_size)
    check_picture(args.output)
    for name, component in pipeline.components.items():
        if isinstance(component, torch.nn.Module):
            print(f"{name}: {sum(parameter.numel() for parameter in component.parameters()) / 1e6:.2f} M parameters")
    print(f"{args.output}: {total / 1e6:.1f} MB")
    if args.language_model:
        save_language_model(args.language_model, args.language_output, args.max_file_size, args.image_tokenizer_id)
        total = check_sizes(args.language_output, args.max_file_size)
        print(f"{args.language_output}: {total / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
