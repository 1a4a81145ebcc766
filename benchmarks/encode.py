"""Images per second of `SeedImageTokenizer.encode` at full size against the bare ViT and Q-Former modules.

    python benchmarks/encode.py

The weights are random; nothing of the speed depends on them. The bare modules are transformers' own, called in
sequence with the same weights of the ViT and a Q-Former of the same configuration, without mask or codebook.
"""

from functools import partial

import common
import torch
from transformers import Blip2QFormerModel

from seed_hf import SeedImageTokenizer, SeedImageTokenizerConfig


GOAL = 0.95


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


def measure(args) -> list[dict]:
    """One row per data type and batch size."""
    config = SeedImageTokenizerConfig()
    if args.quick:
        vision = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
        qformer = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
        config = SeedImageTokenizerConfig(vision_config=vision, qformer_config=qformer)
    size = config.vision_config.image_size
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        model = bare = None  # frees the model of the data type before: two would need 7 GB
        model = build(config, dtype)
        bare = make_bare(model)
        # float32 takes 12 CPU seconds an image on a machine without a float32 matrix unit
        batch_size_rounds = ((1, 3), (4, 1)) if dtype == torch.float32 else ((1, 5), (4, 3))
        for batch_size, rounds in batch_size_rounds:
            pixels = torch.randn(batch_size, 3, size, size, dtype=dtype)
            timed = common.compare(
                partial(model.encode, pixels), partial(bare, pixels), rounds, warmup=batch_size == 1
            )
            speed = 1 / timed["ratio"]
            rows.append(
                common.row(
                    f"{str(dtype).removeprefix('torch.')}, batch {batch_size}",
                    f"{batch_size / timed['ours_s']:.3g} images/s",
                    f"{batch_size / timed['baseline_s']:.3g} images/s",
                    speed,
                    f">= {GOAL} of the bare modules",
                    speed >= GOAL,
                    better="higher",
                    timed=timed,
                )
            )
    return rows


if __name__ == "__main__":
    common.run("encode", "Encoding at full size: images to codes", measure)
