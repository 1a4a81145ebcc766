"""Toy weights in every form that `seed-hf convert` reads, to try its commands without the released ones.

    python tests/tiny/releases.py toy

docs/ecosystem.md goes on from there.
"""

import sys
import tempfile
from pathlib import Path

import torch
from transformers import Blip2ForImageTextRetrieval, Blip2Model

from seed_hf.convert import write_original
from tiny.checkpoints import save_blip2, save_plain
from tiny.decoders import build_stable_diffusion, build_unclip
from tiny.pictures import build_image_tokenizer


def write_toy_releases(folder: Path):
    """SEED-1 and SEED-2, BLIP-2 in both layouts, SEED-LLaMA's form, and the decoders of both."""
    for kind, head in (("seed-1", "text"), ("seed-2", "mlp")):
        model = build_image_tokenizer(head)
        with tempfile.TemporaryDirectory() as saved:
            model.save_pretrained(saved)
            write_original(saved, folder / kind)
        # the commands are for the published sizes, and are told of others
        model.config.save_pretrained(folder / kind)
    stage_1 = torch.load(folder / "seed-1" / "causal_qformer.pth", weights_only=True)["model"]
    stage_1["itm_head.bias"] = torch.zeros(2)
    torch.save({"model": stage_1, "epoch": 9}, folder / "blip2_pretrained.pth")
    save_blip2(folder / "blip2-itm", Blip2ForImageTextRetrieval)
    save_blip2(folder / "blip2", Blip2Model)
    save_plain(folder / "seed-llama")
    build_stable_diffusion().save_pretrained(folder / "stable-diffusion-v1")
    build_unclip().save_pretrained(folder / "stable-unclip")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    write_toy_releases(Path(sys.argv[1]))
