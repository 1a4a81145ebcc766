"""Released image tokenizers to folders of [`SeedImageTokenizer`] and back, streamed from file to file."""

import os
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedModel

from ..licences import LICENCES
from ..models.configuration_seed_image_tokenizer import SeedImageTokenizerConfig
from ..models.modeling_seed_image_tokenizer import SeedImageTokenizer
from .blip2_keys import blip2_config, blip2_layout, copy_text_feed_forward
from .checkpoint_files import Checkpoint, Shard, cut_shards, plan_shards, tensor_bytes, write_shards
from .key_tables import KeyReport
from .record import check_output, read_record, save_config, write_record
from .seed_keys import SEED_LAYOUT, join_tensors, original_keys, plan_seed, split_tensor


KINDS = ("seed-1", "seed-2", "blip-2")
# Weights that SEED has no use for, kept beside the others for the way back.
UNUSED_STEM = "original_only"
VISION_PREFIX = "visual_encoder."
STAGE_1_PREFIXES = ("query_tokens", "ln_vision", "Qformer", "vision_proj", "text_proj", "temp")
# Files that the original reads: (name, level, prefix that the file leaves out, prefixes of the keys in it).
ORIGINAL_FILES = {
    "seed-1": [
        ("eva_vit_g.pth", None, VISION_PREFIX, (VISION_PREFIX,)),
        ("causal_qformer.pth", "model", "", STAGE_1_PREFIXES),
        ("seed_tokenizer.pth", "model", "", ("",)),
    ],
    "seed-2": [("seed_quantizer.pt", None, "", ("",))],
}


def convert_image_tokenizer(
    paths: list[str | os.PathLike],
    output: str | os.PathLike,
    kind: str,
    config: SeedImageTokenizerConfig | None = None,
    inference_only: bool = False,
    keep_query_feed_forward: bool = False,
    text_tokenizer: str | os.PathLike | None = None,
    allow_unknown: Iterable[str] = (),
    allow_missing: Iterable[str] = (),
) -> KeyReport:
    r"""
    Turns released weights into a folder that `SeedImageTokenizer.from_pretrained` loads.

    Nothing is written unless every key is accounted for. Weights are mapped and not copied on their way from
    file to file, so memory stays below 1.2 times the largest input file. They keep their dtype; the folder says
    float32, so that half-precision parts are widened when it is loaded.

    Args:
        paths (`list[str | os.PathLike]`): Files or folders; see [`Checkpoint`]. `"seed-1"`: the EVA ViT,
            `causal_qformer.pth`, `seed_tokenizer.pth`. `"seed-2"`: `seed_quantizer.pt`, and the EVA ViT if that file
            does not hold it. `"blip-2"`: a folder of `Blip2ForImageTextRetrieval` or `Blip2Model`, or LAVIS' file and
            the EVA ViT.
        output (`str | os.PathLike`): Folder to write; new or empty.
        kind (`str`): `"seed-1"`, `"seed-2"` or `"blip-2"`.
        config ([`SeedImageTokenizerConfig`], *optional*): Configuration of a model of another size; by default it has
            the published sizes and the parts that the files hold.
        inference_only (`bool`, defaults to `False`): Leave out the parts that only training and retrieval need: text
            side, projections and reconstruction decoder.
        keep_query_feed_forward (`bool`, defaults to `False`): With `"blip-2"`, take BLIP-2's query feed-forwards
            instead of copies of the text ones.
        text_tokenizer (`str | os.PathLike`, *optional*): Folder or Hub id of the Q-Former's text tokenizer, saved
            beside the weights for training.
        allow_unknown (`Iterable[str]`): Patterns of the original's names that may be left over.
        allow_missing (`Iterable[str]`): Patterns of our names that may be missing; these weights start fresh.

    Returns:
        [`KeyReport`]: What became of every key, as `conversion.json` also says.

    Raises:
        ValueError: An argument is wrong, a file cannot be read safely, or a key is unknown, missing or of another
            shape.
    """
    if kind not in KINDS:
        raise ValueError(f"`kind` is {kind!r}; allowed: {KINDS}.")
    output = check_output(output)
    checkpoint = Checkpoint(paths, prefix=vision_prefix)
    layout = SEED_LAYOUT
    if kind == "blip-2":
        layout = blip2_layout(checkpoint.meta)
        config = config or blip2_config(paths)
    config = config or published_config(kind, checkpoint.meta, inference_only)
    target, report = plan_seed(checkpoint.meta, config, layout)
    if kind == "blip-2" and not keep_query_feed_forward:
        copy_text_feed_forward(report)
    report.allow(allow_unknown, allow_missing)
    report.check("paths")
    words = None if text_tokenizer is None else AutoTokenizer.from_pretrained(text_tokenizer)
    with torch.device("meta"):
        model = SeedImageTokenizer(config)
    shards = plan_shards(checkpoint, report.used, target, lambda _, tensors: join_tensors(tensors))
    fresh = {name: tensor_bytes(target[name]) for name in report.fresh}
    fresh_shards = cut_shards([Shard(partial(fresh_weights, model), fresh)], checkpoint.largest_file_bytes)
    write_shards(output, [*shards, *fresh_shards])
    unused = {key: tensor_bytes(checkpoint.meta[key]) for key in report.dropped if kind != "blip-2"}
    if unused:
        shard = Shard(lambda names: {name: checkpoint[name] for name in names}, unused)
        write_shards(output, [shard], UNUSED_STEM, max_shard_bytes=sum(unused.values()))
    if words is not None:
        words.save_pretrained(output)
    write_record(output, kind, checkpoint, report, licence=LICENCES[kind].summary)
    save_config(model, output, torch.float32)
    return report


def vision_prefix(names: Iterable[str]) -> str:
    """The prefix for the names of a file: the EVA ViT's own file uses names that decoder blocks have too."""
    return VISION_PREFIX if "patch_embed.proj.weight" in names else ""


def published_config(kind: str, source: Mapping[str, torch.Tensor], inference_only: bool = False):
    r"""
    Gives the configuration of the published sizes, with the parts that the files hold.

    Args:
        kind (`str`): `"seed-1"` or `"seed-2"`.
        source (`Mapping[str, torch.Tensor]`): Names and shapes in the files.
        inference_only (`bool`, defaults to `False`): Leave out the parts that only training and retrieval need.

    Returns:
        [`SeedImageTokenizerConfig`]: The configuration.
    """
    # a stage-1 checkpoint has no codebook yet: the model is to train one, for which it reconstructs
    reconstructs = "pos_embed" in source or "quantize.embedding.weight" not in source
    fields = {
        "use_text_tower": "text_proj.weight" in source and not inference_only,
        "use_reconstruction_decoder": reconstructs and not inference_only,
    }
    words = source.get("Qformer.bert.embeddings.word_embeddings.weight")
    if words is not None:
        # LAVIS adds a begin token to BERT's 30522 words
        fields["qformer_config"] = {"vocab_size": words.shape[0]}
    if kind == "seed-2":
        is_mlp = "image_down.0.weight" in source
        fields |= {"generation_head": "mlp" if is_mlp else "qformer", "generation_dim": 1024}
        layers = {key.split(".")[4] for key in source if key.startswith("Reverse_Qformer.bert.encoder.layer.")}
        if not is_mlp and layers:
            # 12 in the original's inference code, 4 in its training code
            fields["reverse_qformer_config"] = {"num_hidden_layers": len(layers)}
    return SeedImageTokenizerConfig(**fields)


@torch.no_grad()
def fresh_weights(model: PreTrainedModel, names: list[str], seed: int = 0) -> dict[str, torch.Tensor]:
    r"""
    Initialises some weights as a new model initialises them.

    Args:
        model (`PreTrainedModel`): The model, which is and stays on the meta device.
        names (`list[str]`): Names of the parameters to make.
        seed (`int`, defaults to 0): Seed of the random numbers.

    Returns:
        `dict[str, torch.Tensor]`: The weights by name, on the CPU.
    """
    owners = {name: model.get_submodule(name.rpartition(".")[0]) for name in names}
    for owner in owners.values():
        owner.to_empty(device="cpu", recurse=False)
    modules = dict(model.named_modules())
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        # children before parents, each by the rules of the model that it belongs to; the meta device ignores it
        for name in reversed(modules):
            parents = [name.rsplit(".", depth)[0] for depth in range(1, name.count(".") + 1)]
            model_of = next((m for p in (name, *parents) if isinstance(m := modules[p], PreTrainedModel)), model)
            model_of._init_weights(modules[name])
    result = {name: getattr(owner, name.rpartition(".")[2]).detach() for name, owner in owners.items()}
    for owner in owners.values():
        owner.to_empty(device="meta", recurse=False)
    return result


# ---------------------------------------------------------------------------------------------------- the way back
def _way_back(folder: Path) -> tuple[str, Checkpoint, dict[str, tuple[str, int, int]]]:
    """The kind of the original, our weights, and original name -> (our name, index of the part, number of parts)."""
    config = SeedImageTokenizerConfig.from_pretrained(folder)
    record = read_record(folder)
    unused = [folder / f"{UNUSED_STEM}.safetensors"] if (folder / f"{UNUSED_STEM}.safetensors").is_file() else []
    checkpoint = Checkpoint([folder, *unused])
    kind = "seed-1" if config.generation_head == "text" else "seed-2"
    if record.get("kind") == kind:
        # a fresh part was not in the original, and is not made up for the way back
        used = record["used"]
    else:
        used = original_keys(config, list(Checkpoint([folder])))
    places = {key: (name, index, len(keys)) for name, keys in used.items() for index, key in enumerate(keys)}
    return kind, checkpoint, places | {key: (key, 0, 1) for key in record.get("dropped", ()) if key in checkpoint}


def _revert(checkpoint: Checkpoint, place: tuple[str, int, int]) -> torch.Tensor:
    name, index, num_parts = place
    part = split_tensor(checkpoint.copy(name), num_parts)[index]
    return part if num_parts == 1 else part.clone()


def original_state_dict(folder: str | os.PathLike) -> dict[str, torch.Tensor]:
    r"""
    Turns a folder that [`convert_image_tokenizer`] or training wrote back into the original's state dict.

    Args:
        folder (`str | os.PathLike`): Folder of a [`SeedImageTokenizer`].

    Returns:
        `dict[str, torch.Tensor]`: Weights of all files, with names of the ViT that begin with `visual_encoder.`. For
        a converted folder they are what was converted, bit for bit; for a trained one, the names are those of the
        original's inference code.

    Raises:
        ValueError: A weight that the original has no name for.
    """
    _, checkpoint, places = _way_back(Path(folder))
    return {key: _revert(checkpoint, place) for key, place in places.items()}


def write_original(folder: str | os.PathLike, output: str | os.PathLike) -> list[Path]:
    r"""
    Writes the files that the original's code reads.

    Args:
        folder (`str | os.PathLike`): Folder of a [`SeedImageTokenizer`].
        output (`str | os.PathLike`): Folder to write; new or empty.

    Returns:
        `list[Path]`: The files: `eva_vit_g.pth`, `causal_qformer.pth` and `seed_tokenizer.pth` for SEED-1,
        `seed_quantizer.pt` for SEED-2.

    Raises:
        ValueError: A weight that the original has no name for.
    """
    output = check_output(output)
    kind, checkpoint, places = _way_back(Path(folder))
    output.mkdir(parents=True, exist_ok=True)
    written = []
    for filename, level, left_out, prefixes in ORIGINAL_FILES[kind]:
        own = {key: places.pop(key) for key in list(places) if key.startswith(prefixes)}
        if own:
            written.append(output / filename)
            _save_pickle({key.removeprefix(left_out): own[key] for key in own}, checkpoint, level, written[-1])
    return written


def _save_pickle(places: dict[str, tuple[str, int, int]], checkpoint: Checkpoint, level: str | None, path: Path):
    # a function of its own, so that the weights of one file are let go before those of the next are read
    tensors = {key: _revert(checkpoint, place) for key, place in places.items()}
    torch.save({level: tensors} if level else tensors, path)


__all__ = ["convert_image_tokenizer", "original_state_dict", "published_config", "write_original"]
