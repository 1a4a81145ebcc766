"""Images per second of `SeedImageTokenizer.encode` at full size, against the original and the bare modules.

    python benchmarks/encode.py

The weights are random; nothing of the speed depends on them. `original_encoder.py` rebuilds what the original
computes, in float32. The bare modules are transformers' own, called in sequence with the same weights of the ViT and a
Q-Former of the same configuration, without mask or codebook. All sides are timed in turns, in one process.
"""

import copy
from functools import partial

import common
import torch
from original_encoder import OriginalEncoder
from transformers import Blip2QFormerModel

from seed_hf import SeedImageTokenizer, SeedImageTokenizerConfig
from seed_hf.packed import pack_vision_model


# speed of one side over that of another that is to be reached at a batch size, or at any (0)
GOALS = {
    ("ours", "original", 1): 1.0,
    ("ours", "original", 4): 1.25,
    ("packed", "original", 1): 1.0,
    ("ours", "bare", 0): 0.95,
    ("int8", "ours", 0): 1.6,
}
NAMES = {
    "ours": "",
    "packed": ", packed",
    "int8": ", int8 ViT",
    "original": "the original's modules",
    "bare": "bare modules",
}


def build(config: SeedImageTokenizerConfig, dtype: torch.dtype) -> SeedImageTokenizer:
    """The model with cheap random weights: made on the meta device, so that nothing is initialised twice."""
    with torch.device("meta"):
        model = SeedImageTokenizer(config)
    model = model.to(dtype).to_empty(device="cpu").eval()
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point():
                tensor.uniform_(-0.02, 0.02)
    return model


def make_bare(model: SeedImageTokenizer):
    """transformers' modules in sequence: what encoding costs at least."""
    with torch.device("meta"):
        qformer = Blip2QFormerModel(model.config.qformer_config)
    qformer.load_state_dict(model.causal_qformer.qformer.state_dict(), assign=True)
    qformer.eval()

    @torch.no_grad()
    def bare(pixel_values):
        features = model.vision_model(pixel_values).last_hidden_state
        queries = model.causal_qformer.query_tokens.expand(len(pixel_values), -1, -1)
        return qformer(query_embeds=queries, encoder_hidden_states=features).last_hidden_state

    return bare


def make_packed(model: SeedImageTokenizer, weights: str) -> SeedImageTokenizer:
    """The model with a packed ViT; the weights of all else are shared."""
    shared = {id(parameter): parameter for parameter in model.parameters()}
    return pack_vision_model(copy.deepcopy(model, shared), weights)


def make_sides(model: SeedImageTokenizer) -> dict:
    """What is timed, by name; each takes `pixel_values`."""
    sides = {"ours": model.encode, "bare": make_bare(model)}
    if model.dtype == torch.float32:
        packed = {
            name: make_packed(model, weights).encode for name, weights in (("packed", "float32"), ("int8", "int8"))
        }
        sides |= {"original": OriginalEncoder(model).encode, **packed}
    return sides


def make_rows(timed: dict, dtype: torch.dtype, batch_size: int) -> list[dict]:
    """A row for each goal at a batch size."""
    rows = []
    for (ours, baseline, size), goal in GOALS.items():
        if size not in (0, batch_size) or not {ours, baseline} <= timed.keys():
            continue
        summary = common.summarise(timed[ours], timed[baseline])
        speed = 1 / summary["ratio"]
        rows.append(
            common.row(
                f"{str(dtype).removeprefix('torch.')}, batch {batch_size}{NAMES[ours]}",
                f"{batch_size / summary['ours_s']:.3g} images/s",
                f"{batch_size / summary['baseline_s']:.3g} images/s ({NAMES[baseline] or 'float32'})",
                speed,
                f">= {goal}",
                speed >= goal,
                better="higher",
                timed=summary,
            )
        )
    return rows


def measure(args) -> list[dict]:
    """Rows for each data type and batch size."""
    config = SeedImageTokenizerConfig()
    if args.quick:
        vision = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
        qformer = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
        config = SeedImageTokenizerConfig(vision_config=vision, qformer_config=qformer)
    size = config.vision_config.image_size
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        model = sides = None  # frees the model of the data type before: two would need 7 GB
        model = build(config, dtype)
        sides = make_sides(model)
        # float32 takes 12 CPU seconds an image on a machine without a float32 matrix unit
        batch_size_rounds = ((1, 3), (4, 1)) if dtype == torch.float32 else ((1, 5), (4, 3))
        for batch_size, rounds in batch_size_rounds:
            pixels = torch.randn(batch_size, 3, size, size, dtype=dtype)
            calls = {name: partial(side, pixels) for name, side in sides.items()}
            rows += make_rows(common.time_in_turns(calls, rounds, warmup=batch_size == 1), dtype, batch_size)
    return rows


if __name__ == "__main__":
    common.run("encode", "Encoding at full size: images to codes", measure)
