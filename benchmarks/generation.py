"""Generated tokens per second of `SeedForCausalLM` against the same language model without it.

    python benchmarks/generation.py

Both decode greedily, with a cache, the same number of tokens after the same prompts; an image is 34 ordinary tokens to
the baseline. The baseline is the plain export of the same model (`to_plain_language_model`): an ordinary
`OPTForCausalLM` with the same weights, vocabulary and logits. Text shows what our wrapper and our grammar cost; images
what is saved where the grammar allows codes alone, or a single token. Images with guidance are compared with
transformers' own guidance of the plain export, which takes two forwards a token. For comparison, without a goal, the
language model as it was before it learned image tokens: its head has 8195 rows fewer.
"""

from functools import partial

import common
import torch
from transformers import OPTConfig

from seed_hf.models.configuration_seed import SeedConfig
from seed_hf.models.modeling_seed import SeedForCausalLM


GOALS = {"text": 1.02, "image": 0.92, "guided": 0.667}
IMAGE_LENGTH = 34  # <img>, 32 image tokens, </img>


def build(quick: bool, image_token_embedding: str) -> SeedForCausalLM:
    """A model of the size of OPT-125M, random weights."""
    sizes = {"hidden_size": 768, "word_embed_proj_dim": 768, "ffn_dim": 3072, "num_hidden_layers": 12}
    if quick:
        sizes = {"hidden_size": 96, "word_embed_proj_dim": 96, "ffn_dim": 192, "num_hidden_layers": 2}
    image_rows = 8195 if image_token_embedding == "learned" else 0
    text_config = OPTConfig(**sizes, num_attention_heads=12, vocab_size=50272 + image_rows)
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


def compare_guided(model, baseline_model, batch_size: int, rounds: int) -> dict:
    """Time images with guidance: one forward of twice the rows against two forwards a token."""
    prompt, negative = torch.randint(4, 1000, (batch_size, 16)), torch.randint(4, 1000, (batch_size, 12))
    options = {"attention_mask": torch.ones_like(prompt), "do_sample": False, "max_new_tokens": IMAGE_LENGTH}
    options |= {"guidance_scale": 3.0, "negative_prompt_ids": negative}
    ours = partial(model.generate, prompt, generation_mode="image", **options)
    return common.compare(ours, partial(baseline_model.generate, prompt, **options), rounds)


def measure(args) -> list[dict]:
    """One row per way of embedding image tokens, mode, batch size and baseline."""
    rows = []
    rounds, length = (3, 16) if args.quick else (5, 24)
    for image_token_embedding in ("projected_codes", "learned"):
        model = build(args.quick, image_token_embedding)
        export = model.to_plain_language_model()
        cases = [(mode, size, export) for size in (1, 4) for mode in ("text", "image")]
        if image_token_embedding == "projected_codes":
            cases += [("guided", size, export) for size in (1, 4)] + [("text", 1, model.language_model)]
        for mode, batch_size, baseline in cases:
            new_tokens = length if mode == "text" else IMAGE_LENGTH
            if mode == "guided":
                timed = compare_guided(model, baseline, batch_size, rounds)
            else:
                timed = compare_one(model, baseline, mode, batch_size, new_tokens, rounds)
            rows.append(as_row(image_token_embedding, mode, batch_size, new_tokens, timed, baseline is export))
    return rows


def as_row(image_token_embedding, mode: str, batch_size: int, new_tokens: int, timed: dict, is_export: bool) -> dict:
    """The line of one case; what is not compared with the plain export has no goal."""
    ours, baseline = (f"{batch_size * new_tokens / timed[name]:.1f} tokens/s" for name in ("ours_s", "baseline_s"))
    name = "image with guidance" if mode == "guided" else mode
    other = "two forwards" if mode == "guided" else "plain export" if is_export else "no image tokens"
    return common.row(
        f"{image_token_embedding}, {name}, batch {batch_size}",
        ours,
        f"{baseline} ({other})",
        timed["ratio"],
        f"time <= {GOALS[mode]} x" if is_export else "",
        timed["ratio"] <= GOALS[mode] if is_export else None,
        timed=timed,
    )


if __name__ == "__main__":
    common.run("generation", "Generation: tokens per second against the same language model alone", measure)
