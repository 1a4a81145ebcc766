"""Train the small autoencoder whose latents seed-mini's picture decoder works in.

    python training/train_vae.py --recipe training/recipes/mini/vae.yaml --output_dir out/vae

SEED takes Stable Diffusion's autoencoder and UNet off the shelf; no such weights come with a PyPI package, so the mini
trains its own: a stock `AutoencoderKL` (64 x 64 pixels -> 16 channels of 8 x 8), with an L1 loss and a very small KL
term. At the end its latents are centred per channel and `scaling_factor` is set so that their variance is one.
"""

import argparse


import seed_hf_script  # isort: skip  # noqa: F401

import torch
from diffusers import AutoencoderKL
from torch.utils.data import Dataset
from transformers import set_seed

from seed_hf.mini.pictures import STYLES, Pictures, load_pictures, to_unit_range
from seed_hf.trainer import TrainingRun, add_training_arguments, parse_training_arguments


def build_autoencoder(size: int = 64, latent_channels: int = 16, widths: tuple[int, ...] = (16, 32, 64, 96)):
    """A stock `AutoencoderKL` that halves the picture `len(widths) - 1` times."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=widths,
        layers_per_block=1,
        latent_channels=latent_channels,
        norm_num_groups=8,
        sample_size=size,
        mid_block_add_attention=False,
        scaling_factor=1.0,
        force_upcast=False,
    )


class PictureDataset(Dataset):
    """Pixels in [-1, 1]."""

    def __init__(self, pictures: Pictures):
        self.pixels = pictures.pixels

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.pixels)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """One picture, `(3, height, width)`."""
        return {"pixel_values": to_unit_range(self.pixels[index])}


def autoencoder_loss(vae: AutoencoderKL, batch: dict[str, torch.Tensor], kl_weight: float):
    """L1 between picture and reconstruction, plus `kl_weight` times the KL divergence per latent number."""
    pixels = batch["pixel_values"]
    moments = vae.quant_conv(vae.encoder(pixels))
    # The posterior is formed in float32: exp and log of bfloat16 numbers are too coarse for the KL term.
    mean, log_variance = moments.float().chunk(2, dim=1)
    log_variance = log_variance.clamp(-30.0, 20.0)
    latents = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
    reconstruction = vae.decoder(vae.post_quant_conv(latents)).float()
    l1 = (reconstruction - pixels).abs().mean()
    kl = 0.5 * (mean.pow(2) + log_variance.exp() - 1.0 - log_variance).mean()
    psnr = -10.0 * torch.log10((reconstruction.detach() - pixels).pow(2).mean() / 4.0)
    return l1 + kl_weight * kl, {"l1": l1.item(), "kl": kl.item(), "psnr": psnr.item()}


@torch.no_grad()
def standardise_latents(vae: AutoencoderKL, pixels: torch.Tensor, batch_size: int = 64) -> None:
    """Centres every latent channel and makes the variance over all channels one, without changing reconstructions.

    The mean is folded into the two 1x1 convolutions, the scale into `config.scaling_factor`, so any pipeline that
    follows diffusers' convention finds latents ready for a diffusion model.

    Args:
        vae (`AutoencoderKL`): changed in place.
        pixels (`torch.ByteTensor` of shape `(num_pictures, 3, height, width)`): pictures to measure on.
        batch_size (`int`, *optional*, defaults to 64): pictures per forward pass.
    """
    parts = (to_unit_range(part).to(vae.device) for part in pixels.split(batch_size))
    latents = torch.cat([vae.encode(part).latent_dist.mean for part in parts])
    mean = latents.mean(dim=(0, 2, 3))
    vae.quant_conv.bias[: len(mean)] -= mean
    vae.post_quant_conv.bias += vae.post_quant_conv.weight[:, :, 0, 0] @ mean
    spread = (latents - mean[:, None, None]).pow(2).mean().sqrt().item()
    vae.register_to_config(scaling_factor=1.0 / spread)


@torch.no_grad()
def measure_psnr(vae: AutoencoderKL, pixels: torch.Tensor, batch_size: int = 64) -> float:
    """Mean over pictures of the peak signal-to-noise ratio in dB of the clipped reconstruction."""
    values = []
    for part in pixels.split(batch_size):
        target = to_unit_range(part).to(vae.device)
        error = vae.decode(vae.encode(target).latent_dist.mode()).sample.clamp(-1, 1) - target
        values.append(-10.0 * torch.log10(error.pow(2).mean(dim=(1, 2, 3)) / 4.0))
    return torch.cat(values).mean().item()


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Flags of this script and of every training script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_training_arguments(parser)
    parser.set_defaults(learning_rate=1e-3, warmup_steps=50, max_steps=600, weight_decay=0.0, max_grad_norm=1.0)
    parser.add_argument("--dataset", default="emoji", help="'emoji', or a glob of parquet files")
    parser.add_argument("--styles", nargs="+", default=list(STYLES), help="best first: one picture per caption")
    parser.add_argument("--skip_flags", action="store_true", help="many near-duplicates: spend the time on the rest")
    parser.add_argument("--size", type=int, default=64, help="side of a picture in pixels")
    parser.add_argument("--kl_weight", type=float, default=1e-4, help="weight of the KL term")
    return parse_training_arguments(parser, argv)


def main(argv: list[str] | None = None) -> None:
    """Train, evaluate, save."""
    args = parse_args(argv)
    set_seed(args.seed)
    train, held_out = (
        load_pictures(args.dataset, split, args.styles, args.size, flags=not args.skip_flags)
        for split in ("train", "validation")
    )
    vae = build_autoencoder(args.size)
    run = TrainingRun(args, vae)

    def save_final():
        standardise_latents(vae, train.pixels)
        vae.save_pretrained(args.output_dir)

    run.fit(
        run.make_batches(PictureDataset(train)),
        lambda batch: autoencoder_loss(run.model, batch, args.kl_weight),
        evaluate=lambda: {"psnr": measure_psnr(vae, held_out.pixels)},
        save_final=save_final,
    )


if __name__ == "__main__":
    main()
