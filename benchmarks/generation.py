"""Generated tokens per second of `SeedForCausalLM` against the same language model without it.

    python benchmarks/generation.py

Both decode greedily, with a cache, the same number of tokens after the same prompts. The baseline is the language
model alone with its own vocabulary; ours has 8195 further logits, the projected codebook and the grammar. An image is
decoded by the baseline as 34 ordinary tokens.
"""

from functools import partial

import common
import torch
from transformers import OPTConfig, OPTForCausalLM

from seed_hf.configuration_seed import SeedConfig
from seed_hf.modeling_seed import SeedForCausalLM


GOAL = 1.03
IMAGE_LENGTH = 34  # <img>, 32 image tokens, </img>


def build(quick: bool, image_token_embedding: str) -> tuple[SeedForCausalLM, OPTForCausalLM]:
    """A model of the shape of OPT-125M, two thirds its width, and the bare language model with equal weights."""
    sizes = {"hidden_size": 512, "word_embed_proj_dim": 512, "ffn_dim": 2048, "num_hidden_layers": 12}
    if quick:
        sizes = {"hidden_size": 64, "word_embed_proj_dim": 64, "ffn_dim": 128, "num_hidden_layers": 2}
    text_config = OPTConfig(**sizes, num_attention_heads=8)
    bare = OPTForCausalLM(text_config).eval()
    rows = text_config.vocab_size
    if image_token_embedding == "learned":
        text_config = OPTConfig(**sizes, num_attention_heads=8, vocab_size=rows + 8195)
    config = SeedConfig(text_config=text_config, image_token_embedding=image_token_embedding)
    return SeedForCausalLM(config).eval(), bare


def measure(args) -> list[dict]:
    """One row per way of embedding image tokens, mode and batch size."""
    rows = []
    rounds, length = (3, 16) if args.quick else (9, 64)
    for image_token_embedding in ("projected_codes", "learned"):
        model, bare = build(args.quick, image_token_embedding)
        for batch_size in (1, 4):
            prompt = torch.randint(4, 1000, (batch_size, 16))
            for mode, new_tokens in (("text", length), ("image", IMAGE_LENGTH)):
                options = {"attention_mask": torch.ones_like(prompt), "do_sample": False}
                options |= {"min_new_tokens": new_tokens, "max_new_tokens": new_tokens}
                # in image mode `min_new_tokens` only forbids ending early, which the grammar does already
                ours_options = options if mode == "text" else {**options, "min_new_tokens": None}
                ours = partial(model.generate, prompt, generation_mode=mode, **ours_options)
                baseline = partial(bare.generate, prompt, **options)
                if not ours().shape == baseline().shape == (batch_size, 16 + new_tokens):
                    raise RuntimeError("the two models generated different numbers of tokens")
                timed = common.compare(ours, baseline, rounds)
                rows.append(
                    common.row(
                        f"{image_token_embedding}, {mode}, batch {batch_size}",
                        f"{batch_size * new_tokens / timed['ours_s']:.1f} tokens/s",
                        f"{batch_size * new_tokens / timed['baseline_s']:.1f} tokens/s",
                        timed["ratio"],
                        f"time <= {GOAL} x",
                        timed["ratio"] <= GOAL,
                        timed=timed,
                    )
                )
    return rows


if __name__ == "__main__":
    common.run("generation", "Generation: tokens per second against the same language model alone", measure)
