"""Generated tokens per second of `SeedForCausalLM` against the same language model without it.

    python benchmarks/generation.py

Both decode greedily, with a cache, the same number of tokens after the same prompts; an image is 34 ordinary tokens to
the baseline. The baseline is the plain export of the same model (`to_plain_language_model`): an ordinary
`OPTForCausalLM` with the same weights, vocabulary and logits, so that the ratio is what our wrapper and our grammar
cost. For comparison, without a goal, the language model as it was before it learned image tokens: its head has 8195
rows fewer; and what guidance costs, against the same images without.
"""

from functools import partial

import common
import torch
from transformers import OPTConfig

from seed_hf.models.configuration_seed import SeedConfig
from seed_hf.models.modeling_seed import SeedForCausalLM


GOAL = 1.03
IMAGE_LENGTH = 34  # <img>, 32 image tokens, </img>


def build(quick: bool, image_token_embedding: str) -> SeedForCausalLM:
    """A model of the depth of OPT-125M and two thirds its width; half of it is the head."""
    sizes = {"hidden_size": 512, "word_embed_proj_dim": 512, "ffn_dim": 2048, "num_hidden_layers": 12}
    if quick:
        sizes = {"hidden_size": 64, "word_embed_proj_dim": 64, "ffn_dim": 128, "num_hidden_layers": 2}
    image_rows = 8195 if image_token_embedding == "learned" else 0
    text_config = OPTConfig(**sizes, num_attention_heads=8, vocab_size=50272 + image_rows)
    config = SeedConfig(text_config=text_config, image_token_embedding=image_token_embedding)
    model = SeedForCausalLM(config).eval()
    for generation_config in (model.generation_config, model.language_model.generation_config):
        # no end of text: both sides then run to `max_new_tokens` without a processor that forbids ending
        generation_config.update(eos_token_id=None, pad_token_id=1)
    return model


def compare_one(model, baseline_model, mode: str, batch_size: int, new_tokens: int, rounds: int) -> dict:
    """Time one mode and batch size; both sides generate exactly `new_tokens` tokens."""
    prompt = torch.randint(4, 1000, (batch_size, 16))
    options = {"attention_mask": torch.ones_like(prompt), "do_sample": False, "max_new_tokens": new_tokens}
    ours = partial(model.generate, prompt, generation_mode=mode, **options)
    baseline = partial(baseline_model.generate, prompt, **options)
    if not ours().shape == baseline().shape == (batch_size, 16 + new_tokens):
        raise RuntimeError("the two models generated different numbers of tokens")
    return common.compare(ours, baseline, rounds)


def measure_guidance(model, batch_size: int, rounds: int) -> dict:
    """Time images with guidance against images without."""
    prompt, negative = torch.randint(4, 1000, (batch_size, 16)), torch.randint(4, 1000, (1, 12))
    options = {"attention_mask": torch.ones_like(prompt), "do_sample": False, "generation_mode": "image"}
    without = partial(model.generate, prompt, **options)
    guided = partial(without, guidance_scale=3.0, negative_prompt_ids=negative)
    timed, tokens = common.compare(guided, without, rounds), batch_size * IMAGE_LENGTH
    ours, baseline = (f"{tokens / timed[name]:.1f} tokens/s" for name in ("ours_s", "baseline_s"))
    case = f"projected_codes, image with guidance, batch {batch_size}"
    return common.row(case, ours, f"{baseline} (no guidance)", timed["ratio"], "", None, timed=timed)


def measure(args) -> list[dict]:
    """One row per way of embedding image tokens, mode, batch size and baseline."""
    rows = []
    rounds, length = (3, 16) if args.quick else (5, 48)
    for image_token_embedding in ("projected_codes", "learned"):
        model = build(args.quick, image_token_embedding)
        export = model.to_plain_language_model()
        cases = [(mode, size, export, GOAL) for size in (1, 4) for mode in ("text", "image")]
        if image_token_embedding == "projected_codes":
            cases.append(("text", 1, model.language_model, None))
        for mode, batch_size, baseline, goal in cases:
            new_tokens = length if mode == "text" else IMAGE_LENGTH
            timed = compare_one(model, baseline, mode, batch_size, new_tokens, rounds)
            tokens = batch_size * new_tokens
            rows.append(
                common.row(
                    f"{image_token_embedding}, {mode}, batch {batch_size}",
                    f"{tokens / timed['ours_s']:.1f} tokens/s",
                    f"{tokens / timed['baseline_s']:.1f} tokens/s ({'plain export' if goal else 'no image tokens'})",
                    timed["ratio"],
                    f"time <= {goal} x" if goal else "",
                    timed["ratio"] <= goal if goal else None,
                    timed=timed,
                )
            )
        if image_token_embedding == "projected_codes":
            rows += [measure_guidance(model, batch_size, rounds) for batch_size in (1, 4)]
    return rows


if __name__ == "__main__":
    common.run("generation", "Generation: tokens per second against the same language model alone", measure)
