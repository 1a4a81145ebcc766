"""Images per second of `SeedImageTokenizer.encode` at full width, against the original and the bare modules.

    python benchmarks/encode.py

The weights are random; nothing of the speed depends on them. The ViT has a fifth of its blocks, which are all alike:
with all of them, weights of several sides push each other out of memory, and who comes first pays for it. What the
original computes, in float32, is rebuilt in `original_encoder.py`. The bare modules are transformers' own, called in
sequence with the same weights of the ViT and a Q-Former of the same configuration, without mask or codebook. All sides
are timed in turns, in one process.
"""

import copy
from collections import defaultdict
from functools import partial

import common
import torch
from original_encoder import OriginalEncoder
from transformers import Blip2QFormerModel

from seed_hf import SeedImageTokenizer, SeedImageTokenizerConfig
from seed_hf.packed import pack_vision_model
from seed_hf.trainer.launch import choose_precision


NUM_BLOCKS = 8
# where weights lie in memory changes the ratio of two sides by up to a tenth
NUM_BUILDS = 3
# speed of one side over that of another that is to be reached at a batch size, or at any (0)
GOALS = {
    ("ours", "original", 1): 1.0,
    ("ours", "original", 4): 1.25,
    ("packed", "original", 1): 1.0,
    ("ours", "bare", 0): 0.95,
    ("int8", "ours", 0): 1.6,
    ("compiled", "ours", 0): 1.0,
}
NAMES = {
    "ours": "",
    "packed": ", packed",
    "int8": ", int8 ViT",
    "compiled": ", compiled",
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


def make_sides(model: SeedImageTokenizer, compiler: str) -> dict:
    """What is timed, by name; each takes `pixel_values`."""
    compiled = torch.compile(model.encode, backend=compiler)
    sides = {"ours": model.encode, "bare": make_bare(model), "compiled": compiled}
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
    config, compiler = SeedImageTokenizerConfig(vision_config={"num_hidden_layers": NUM_BLOCKS}), "inductor"
    if args.quick:
        compiler = "aot_eager"  # as far as the code that it would write
        vision = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
        qformer = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
        config = SeedImageTokenizerConfig(vision_config=vision, qformer_config=qformer)
    side, batch_sizes = config.vision_config.image_size, (1, 4)
    rows = []
    # without units for bfloat16, a CPU takes minutes an image
    for dtype in (torch.float32, torch.bfloat16) if choose_precision("auto") == "bf16" else (torch.float32,):
        timed = {batch_size: defaultdict(list) for batch_size in batch_sizes}
        for _ in range(1 if args.quick else NUM_BUILDS):
            sides = make_sides(build(config, dtype), compiler)
            for batch_size in batch_sizes:
                pixels = torch.randn(batch_size, 3, side, side, dtype=dtype)
                compared = {name for *pair, size in GOALS if size in (0, batch_size) for name in pair}
                calls = {name: partial(encode, pixels) for name, encode in sides.items() if name in compared}
                calls["compiled"]()  # compiles for this batch size
                for name, times in common.time_in_turns(calls, rounds=2, warmup=batch_size == 1).items():
                    timed[batch_size][name] += times
        rows += [row for batch_size in batch_sizes for row in make_rows(timed[batch_size], dtype, batch_size)]
    return rows


if __name__ == "__main__":
    common.run("encode", f"Encoding at full width, {NUM_BLOCKS} of 39 blocks: images to codes", measure)
