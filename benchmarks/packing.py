"""Stage 3 on short samples: useful tokens a second of packed rows, against the padded batch of the original's layout.

    python benchmarks/packing.py

One training step (forward and backward) of a small OPT with LoRA in every linear layer, on samples as long as CC3M's.
The original (SEED-LLaMA's `multi_torchdata_pretrain.yaml` and `torchdata_train.py`) pads each sample of this data to
200 tokens and computes logits at every position; further rows say what packing alone gains, also over the padding of a
careful collator, to the longest sample of the batch. The vocabulary is as large as makes logits take the share of all
operations that they take in OPT-2.7B (5 %).
"""

from functools import partial

import common
import torch
from peft import LoraConfig, get_peft_model
from transformers import OPTConfig, OPTForCausalLM

from seed_hf import SeedConfig, SeedForCausalLM
from seed_hf.trainer.packing import collate_samples, model_inputs


ORIGINAL_LENGTH, ROW_LENGTH = 200, 256
# <s>, <img>, 32 codes, </img>, the three words of the prompt, and the end
TOKENS_BESIDE_CAPTION = 39
CAPTION_WORDS, CAPTION_DEVIATION = 10.3, 4.5  # Sharma et al. 2018, table 2
TOKENS_PER_WORD = 1.3


def draw_samples(count: int, vocab_size: int) -> list[dict]:
    """Samples whose captions are as long as CC3M's (log-normal); the caption and the end are the target."""
    generator = torch.Generator().manual_seed(0)
    variance = torch.log(torch.tensor(1 + (CAPTION_DEVIATION / CAPTION_WORDS) ** 2))
    mean = torch.log(torch.tensor(CAPTION_WORDS)) - variance / 2
    words = torch.exp(mean + variance.sqrt() * torch.randn(count, generator=generator))
    samples = []
    for caption in (words * TOKENS_PER_WORD).round().clamp(1, 32).int().tolist():
        ids = torch.randint(vocab_size, (TOKENS_BESIDE_CAPTION + caption,), generator=generator).tolist()
        labels = [-100] * (TOKENS_BESIDE_CAPTION - 1) + ids[TOKENS_BESIDE_CAPTION - 1 :]
        samples.append({"input_ids": ids, "labels": labels, "is_image_task": False})
    return samples


def build_model(quick: bool):
    """A small OPT as SEED uses it."""
    width, layers, words, codes = (64, 2, 500, 64) if quick else (512, 4, 1200, 200)
    sizes = {"hidden_size": width, "word_embed_proj_dim": width, "ffn_dim": 4 * width, "num_hidden_layers": layers}
    language_model = OPTForCausalLM(OPTConfig(**sizes, num_attention_heads=8, vocab_size=words, dropout=0.0))
    config = SeedConfig(text_config=language_model.config, codebook_size=codes, num_query_tokens=32, code_dim=32)
    model = SeedForCausalLM(config)
    lora = LoraConfig(r=16, lora_alpha=32, task_type="CAUSAL_LM", **model.lora_settings())
    return get_peft_model(model, lora), words


def train_step(model, inputs: dict, **settings) -> float:
    """Forward and backward; the loss."""
    loss = model(**inputs, use_cache=False, **settings).loss
    loss.backward()
    model.zero_grad()
    return loss.item()


def measure(args) -> list[dict]:
    """One row for each kind of padding."""
    model, words = build_model(args.quick)
    model.train()
    samples, rounds = draw_samples(8 if args.quick else 32, words), 3 if args.quick else 5
    useful = sum(len(sample["input_ids"]) for sample in samples)
    packed = model_inputs(collate_samples(samples, 0, ROW_LENGTH))
    longest = model_inputs(collate_samples(samples, 0))
    original = pad_to(longest, ORIGINAL_LENGTH)
    rows = []
    for name, inputs, settings, goal in (
        (f"padded to {ORIGINAL_LENGTH}, all logits (the original)", original, {}, 2.0),
        (f"padded to {ORIGINAL_LENGTH}, logits of targets", original, {"target_logits_only": True}, None),
        ("padded to the longest, logits of targets", longest, {"target_logits_only": True}, None),
    ):
        ours = partial(train_step, model, packed, target_logits_only=True)
        baseline = partial(train_step, model, inputs, **settings)
        timed = common.compare(ours, baseline, rounds)
        faster = 1 / timed["ratio"]
        rows.append(
            common.row(
                f"packed rows of {ROW_LENGTH}, against {name}",
                f"{useful / timed['ours_s']:.0f} useful tokens/s",
                f"{useful / timed['baseline_s']:.0f} useful tokens/s",
                timed["ratio"],
                "" if goal is None else f"<= {1 / goal}",
                None if goal is None else faster >= goal,
                useful_share={
                    "packed": useful / packed["input_ids"].numel(),
                    "baseline": useful / inputs["input_ids"].numel(),
                },
                losses=[ours(), baseline()],
                timed=timed,
            )
        )
    return rows


def pad_to(inputs: dict, length: int) -> dict:
    """The same batch with more padding."""
    values = {"input_ids": 0, "labels": -100, "attention_mask": 0}
    missing = length - inputs["input_ids"].shape[1]
    return {name: torch.nn.functional.pad(tensor, (0, missing), value=values[name]) for name, tensor in inputs.items()}


if __name__ == "__main__":
    common.run("packing", "Stage 3: packed rows against padded batches", measure)
