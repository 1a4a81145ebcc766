"""Stable Diffusion and an image tokenizer to a [`SeedPipeline`] repository, streamed from file to file."""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import diffusers
import torch
from diffusers.pipelines.stable_diffusion import StableUnCLIPImageNormalizer
from huggingface_hub import is_offline_mode, snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from transformers import AutoTokenizer, CLIPTextModel
from transformers.utils import logging

from ..hub.secrets import hide_credentials
from ..models.configuration_seed_image_tokenizer import SeedImageTokenizerConfig
from ..models.image_processing_seed import SeedImageProcessor
from ..models.modeling_seed_empty_prompt import SeedEmptyPrompt
from ..models.modeling_seed_image_tokenizer import SeedImageTokenizer
from ..models.pipeline_seed import SeedPipeline
from .checkpoint_files import Checkpoint, Shard, checkpoint_files, plan_shards, write_shards
from .key_tables import KeyReport, Layout, check_shapes, match_keys
from .record import RECORD_FILE, check_output


logger = logging.get_logger(__name__)

# The original's settings: (guidance scale, steps).
SEED_1_CALL, SEED_2_CALL = (7.5, 50), (10.0, 20)
# The first folders of Stable Diffusion v1 use older names in the VAE's attention.
DECODER_LAYOUT = Layout(
    rows=[
        *((f"*.attentions.#.{old}.*", f"*.attentions.#.{new}.*")
          for old, new in (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0"))),
        ("*", "*"),
    ]
)  # fmt: skip
COMPONENTS = ("unet", "vae", "scheduler", "text_encoder", "tokenizer", "image_normalizer", "image_noising_scheduler")


def assemble_pipeline(
    image_tokenizer: str | os.PathLike,
    decoder: str | os.PathLike,
    output: str | os.PathLike,
    fallbacks: Iterable[str | os.PathLike] = (),
    allow_unknown: Iterable[str] = (),
) -> dict[str, KeyReport]:
    r"""
    Puts an image tokenizer and a Stable Diffusion decoder together as a repository that `SeedPipeline` loads.

    The text encoder runs once, on `""`, and is left out. Safety checker, feature extractor and image encoder are left
    out, too. It takes memory as [`convert_image_tokenizer`] does, and for the text encoder.

    Args:
        image_tokenizer (`str | os.PathLike`): Folder of a [`SeedImageTokenizer`], such as [`convert_image_tokenizer`]
            writes.
        decoder (`str | os.PathLike`): Folder of Stable Diffusion v1 (SEED-1) or stable unCLIP 2.1 (SEED-2), or
            `"owner/name@revision"` on the Hub. A Hub id without a revision is refused, since its vendor has taken
            such repositories down and a branch can move.
        output (`str | os.PathLike`): Folder to write; new or empty.
        fallbacks (`Iterable[str | os.PathLike]`): Other places for the decoder, tried in this order.
        allow_unknown (`Iterable[str]`): Patterns of names in the UNet or the VAE that may be left over.

    Returns:
        `dict[str, KeyReport]`: Reports of `"unet"` and `"vae"`; `conversion.json` also says which decoder was taken,
        and of which commit.

    Raises:
        ValueError: The decoder cannot be had, or does not fit the image tokenizer, or its weights do not fit its
            configuration.

    Source: `models/seed_llama_tokenizer.py` and the demo of the original, for scheduler, guidance and steps.
    """
    output, image_tokenizer = check_output(output), Path(image_tokenizer)
    source, taken = fetch_decoder(decoder, fallbacks)
    config = SeedImageTokenizerConfig.from_pretrained(image_tokenizer)
    image_size = config.vision_config.image_size
    with torch.device("meta"):
        models = {
            name: model_class.from_config(model_class.load_config(source / name))
            for name, model_class in (("unet", diffusers.UNet2DConditionModel), ("vae", diffusers.AutoencoderKL))
        }
        tokenizer = SeedImageTokenizer(config)
    small = _small_components(source, config)
    guidance_scale, num_inference_steps = SEED_1_CALL if config.generation_head == "text" else SEED_2_CALL
    pipeline = SeedPipeline(
        image_tokenizer=tokenizer,
        image_processor=SeedImageProcessor(size={"height": image_size, "width": image_size}),
        guidance_scale=guidance_scale,
        num_inference_steps=num_inference_steps,
        **models,
        **small,
    )
    plans = {name: _plan_model(model, source / name, allow_unknown) for name, model in models.items()}
    for name, (_, shards) in plans.items():
        write_shards(output / name, shards, "diffusion_pytorch_model")
        models[name].save_config(output / name)
    _copy_image_tokenizer(image_tokenizer, output / "image_tokenizer")
    for name in ("image_processor", *small):
        getattr(pipeline, name).save_pretrained(output / name)
    left_out = sorted(path.name for path in source.iterdir() if path.is_dir() and not (output / path.name).exists())
    record = {"kind": "pipeline", **taken, "left_out": left_out}
    reports = {name: report for name, (report, _) in plans.items()}
    record |= {name: report.dropped for name, report in reports.items()}
    (output / RECORD_FILE).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    pipeline.save_config(output)
    return reports


def fetch_decoder(
    decoder: str | os.PathLike, fallbacks: Iterable[str | os.PathLike] = ()
) -> tuple[Path, dict[str, str | list[str]]]:
    r"""
    Gets a decoder from the first of several places that has it.

    Args:
        decoder (`str | os.PathLike`): A folder, or `"owner/name@revision"`.
        fallbacks (`Iterable[str | os.PathLike]`): Other places, tried in this order.

    Returns:
        `tuple[Path, dict]`: A local folder, and what to record about it: `decoder`, `revision`, `commit`, `failed`.

    Raises:
        ValueError: A Hub id has no revision, or no place has the decoder; the error says why for each.
    """
    candidates, failed = [str(decoder), *map(str, fallbacks)], []
    for candidate in candidates:
        if not os.path.isdir(candidate) and "@" not in candidate:
            shown = hide_credentials(candidate)
            raise ValueError(f"`decoder` or `fallbacks` has {shown!r}; allowed: a folder, or owner/name@revision.")
    for candidate in candidates:
        if os.path.isdir(candidate):
            return Path(candidate), {"decoder": os.path.basename(os.path.abspath(candidate)), "failed": failed}
        repository, _, revision = candidate.rpartition("@")
        try:
            folder = _download(repository, revision)
        except (HfHubHTTPError, OSError, ValueError) as error:
            # it is written down, and published with the pipeline
            failed.append(hide_credentials(f"{candidate}: {type(error).__name__}: {str(error).splitlines()[0]}"))
            logger.warning(f"The decoder cannot be had from {failed[-1]}")
            continue
        return folder, {"decoder": repository, "revision": revision, "commit": folder.name, "failed": failed}
    raise ValueError(f"`decoder` and `fallbacks` cannot be had: {failed}; allowed: at least one that can.")


def _download(repository: str, revision: str) -> Path:
    """Fetches configurations and safetensors, and pickles of components that have nothing else; no fp16 twins."""
    twins = ["*.fp16.*", "*.non_ema.*"]
    patterns = ["model_index.json"] + [f"{name}/*.{ending}" for name in COMPONENTS for ending in ("json", "txt")]
    patterns += [f"{name}/*.safetensors" for name in COMPONENTS]
    # huggingface_hub 1 asks the server for the files of a commit that lies in the cache, even when it is offline
    settings = {"revision": revision, "ignore_patterns": twins, "local_files_only": is_offline_mode()}
    folder = Path(snapshot_download(repository, allow_patterns=patterns, **settings))
    with_weights = ("unet", "vae", "text_encoder", "image_normalizer")
    present = [folder / name for name in with_weights if (folder / name).is_dir()]
    bare = [path.name for path in present if not any(path.glob("*.safetensors"))]
    if bare:
        pickles = [f"{name}/*.bin*" for name in bare]
        snapshot_download(repository, allow_patterns=pickles, **settings)
    return folder


def _small_components(source: Path, config: SeedImageTokenizerConfig) -> dict:
    """Schedulers, the empty prompt, and the normalizer of image embeddings, which diffusers and transformers load."""
    index = json.loads((source / "model_index.json").read_text(encoding="utf-8"))

    def load_scheduler(name: str):
        return getattr(diffusers, index[name][1]).from_pretrained(source, subfolder=name)

    small = {"scheduler": load_scheduler("scheduler"), "empty_prompt": _encode_empty_prompt(source)}
    if config.generation_head == "text":
        return small
    missing = [name for name in ("image_normalizer", "image_noising_scheduler") if name not in index]
    if missing:
        raise ValueError(f"`decoder` has no {missing}; allowed with a SEED-2 image tokenizer: stable unCLIP.")
    small["image_normalizer"] = StableUnCLIPImageNormalizer.from_pretrained(source, subfolder="image_normalizer")
    small["image_noising_scheduler"] = load_scheduler("image_noising_scheduler")
    return small


@torch.no_grad()
def _encode_empty_prompt(source: Path) -> SeedEmptyPrompt:
    """Last hidden state of the text encoder for `""`, padded as Stable Diffusion pads."""
    tokenizer = AutoTokenizer.from_pretrained(source / "tokenizer")
    text_encoder, info = CLIPTextModel.from_pretrained(
        source / "text_encoder", dtype=torch.float32, output_loading_info=True
    )
    if info["missing_keys"] or info["mismatched_keys"]:
        raise ValueError(f"`decoder` has a text encoder without {sorted(info['missing_keys'])}; allowed: a whole one.")
    length = text_encoder.config.max_position_embeddings
    inputs = tokenizer("", padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return SeedEmptyPrompt.from_embeds(text_encoder(inputs["input_ids"]).last_hidden_state)


def _plan_model(model, source: Path, allow_unknown: Iterable[str]) -> tuple[KeyReport, list[Shard]]:
    """What becomes of the weights of a UNet or VAE, pickled or not; nothing is read yet."""
    checkpoint, target = Checkpoint([source]), model.state_dict()
    report = match_keys(checkpoint.meta, target, DECODER_LAYOUT)
    report.allow(unknown=allow_unknown)
    check_shapes(report, {name: checkpoint.meta[keys[0]] for name, keys in report.used.items()}, target)
    report.check(source.name)
    return report, plan_shards(checkpoint, report.used, target, lambda _, tensors: tensors[0])


_TEXT_TOKENIZER = ("tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt")


def _copy_image_tokenizer(source: Path, output: Path):
    output.mkdir(parents=True)
    files = checkpoint_files(source)
    index = source / "model.safetensors.index.json"
    for path in [source / "config.json", *files, *([index] if len(files) > 1 else [])]:
        shutil.copyfile(path, output / path.name)
    copy_text_tokenizer(source, output)


def copy_text_tokenizer(source: Path, output: Path):
    """
    Copies the tokenizer of an image tokenizer's text side, where it has one.

    Args:
        source (`Path`): Folder of an image tokenizer.
        output (`Path`): Folder that is there.
    """
    for path in (path for pattern in _TEXT_TOKENIZER for path in source.glob(pattern)):
        shutil.copyfile(path, output / path.name)


__all__ = ["assemble_pipeline", "copy_text_tokenizer", "fetch_decoder"]
