"""Nearest-code search alone: 64 x 32 vectors against 8192 codes of width 32, against `torch.cdist` and `argmin`.

python benchmarks/quantizer.py
"""

from functools import partial

import common
import torch

from seed_hf.models.configuration_seed_image_tokenizer import SeedImageTokenizerConfig
from seed_hf.models.modeling_seed_quantizer import SeedQuantizer


def measure(args) -> list[dict]:
    """One row per data type; the baseline is the shortest correct code anyone would write, in float32."""
    config = SeedImageTokenizerConfig(codebook_size=256 if args.quick else 8192)
    num_images, rounds = (4, 5) if args.quick else (64, 31)
    quantizer = SeedQuantizer(config).eval()
    vectors = torch.randn(num_images, config.num_query_tokens, config.code_dim)
    quantizer.embedding.weight.data.normal_()
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        quantizer.to(dtype)
        inputs, codebook = vectors.to(dtype), quantizer.embedding.weight.detach()

        @torch.no_grad()
        def baseline(inputs=inputs, codebook=codebook):
            return torch.cdist(inputs.float().flatten(0, 1), codebook.float()).argmin(1).view(inputs.shape[:-1])

        agreement = (quantizer.nearest(inputs) == baseline()).float().mean().item()
        timed = common.compare(partial(quantizer.nearest, inputs), baseline, rounds, warmup=3)
        rows.append(
            common.row(
                f"{str(dtype).removeprefix('torch.')}, {num_images * 32} vectors, {config.codebook_size} codes",
                f"{1000 * timed['ours_s']:.1f} ms",
                f"{1000 * timed['baseline_s']:.1f} ms (cdist, argmin)",
                timed["ratio"],
                "",
                None,
                codes_equal=agreement,
                timed=timed,
            )
        )
    return rows


if __name__ == "__main__":
    common.run("quantizer", "Quantizer alone: causal embeddings to codes", measure)
