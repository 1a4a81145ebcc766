"""seed-mini's autoencoder, in whose latents its picture decoder works."""

import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.utils.data import Dataset

from ...mini.pictures import Pictures, to_unit_range
from ..run import TrainingRun


PICTURES_AT_ONCE = 64


def build_autoencoder(size: int = 64, latent_channels: int = 16, widths: tuple[int, ...] = (16, 32, 64, 96)):
    """A stock `AutoencoderKL` that halves the picture `len(widths) - 1` times.

    Args:
        size (`int`, defaults to 64): Side of a picture in pixels.
        latent_channels (`int`, defaults to 16): Number of channels of the latents.
        widths (`tuple[int, ...]`): Number of channels at each resolution.
    """
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


class AutoencoderLoss(nn.Module):
    """Loss of an autoencoder in one forward pass, which is what several processes share the gradients of.

    Args:
        vae (`AutoencoderKL`): The autoencoder.
        kl_weight (`float`): Weight of the KL divergence.
    """

    def __init__(self, vae: AutoencoderKL, kl_weight: float):
        super().__init__()
        self.vae, self.kl_weight = vae, kl_weight

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """L1 between picture and reconstruction, plus `kl_weight` times the KL divergence per latent number.

        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 3, height, width)`): Pictures in [-1, 1].

        Returns:
            `tuple[torch.Tensor, dict[str, torch.Tensor]]`: The loss, and its parts and the PSNR by name.
        """
        moments = self.vae.quant_conv(self.vae.encoder(pixel_values))
        # The posterior is formed in float32: exp and log of bfloat16 numbers are too coarse for the KL term.
        mean, log_variance = moments.float().chunk(2, dim=1)
        log_variance = log_variance.clamp(-30.0, 20.0)
        latents = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        reconstruction = self.vae.decoder(self.vae.post_quant_conv(latents)).float()
        l1 = (reconstruction - pixel_values).abs().mean()
        kl = 0.5 * (mean.pow(2) + log_variance.exp() - 1.0 - log_variance).mean()
        psnr = -10.0 * torch.log10((reconstruction.detach() - pixel_values).pow(2).mean() / 4.0)
        return l1 + self.kl_weight * kl, {"l1": l1, "kl": kl, "psnr": psnr}


class PictureDataset(Dataset):
    """Pixels in [-1, 1].

    Args:
        pictures ([`~seed_hf.mini.pictures.Pictures`]): Pictures in memory.
    """

    def __init__(self, pictures: Pictures):
        self.pixels = pictures.pixels

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.pixels)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """One picture, `(3, height, width)`."""
        return {"pixel_values": to_unit_range(self.pixels[index])}


class AutoencoderStage:
    """The autoencoder's training, as [`~seed_hf.trainer.TrainingRun.fit`] takes it.

    Args:
        run ([`~seed_hf.trainer.TrainingRun`]): Run of an [`AutoencoderLoss`].
        pictures ([`~seed_hf.mini.pictures.Pictures`]): Pictures to train on.
        held_out ([`~seed_hf.mini.pictures.Pictures`]): Pictures to evaluate on.
    """

    def __init__(self, run: TrainingRun, pictures: Pictures, held_out: Pictures):
        self.run, self.vae = run, run.unwrapped_model.vae
        self.data, self.held_out = PictureDataset(pictures), held_out

    def compute_loss(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict]:
        """See [`AutoencoderLoss`]."""
        return self.run.model(batch["pixel_values"])

    def evaluate(self) -> dict[str, float]:
        """Mean over held-out pictures of the peak signal-to-noise ratio in dB of the clipped reconstruction."""
        values = []
        for part in self.held_out.pixels.split(PICTURES_AT_ONCE):
            target = to_unit_range(part).to(self.vae.device)
            error = self.vae.decode(self.vae.encode(target).latent_dist.mode()).sample.clamp(-1, 1) - target
            values.append(-10.0 * torch.log10(error.pow(2).mean(dim=(1, 2, 3)) / 4.0))
        return {"psnr": torch.cat(values).mean().item()}

    def save(self) -> None:
        """Saves the autoencoder in the output folder, with standardised latents."""
        standardise_latents(self.vae, self.data.pixels)
        self.vae.save_pretrained(self.run.args.output_dir)


@torch.no_grad()
def standardise_latents(vae: AutoencoderKL, pixels: torch.Tensor) -> None:
    """Centres every latent channel and makes the variance over all channels one, without changing reconstructions.

    The mean is folded into the two 1x1 convolutions, the scale into `config.scaling_factor`, so any pipeline that
    follows diffusers' convention finds latents ready for a diffusion model.

    Args:
        vae (`AutoencoderKL`): Changed in place.
        pixels (`torch.ByteTensor` of shape `(num_pictures, 3, height, width)`): Pictures to measure on.
    """
    parts = (to_unit_range(part).to(vae.device) for part in pixels.split(PICTURES_AT_ONCE))
    latents = torch.cat([vae.encode(part).latent_dist.mean for part in parts])
    mean = latents.mean(dim=(0, 2, 3))
    vae.quant_conv.bias[: len(mean)] -= mean
    vae.post_quant_conv.bias += vae.post_quant_conv.weight[:, :, 0, 0] @ mean
    spread = (latents - mean[:, None, None]).pow(2).mean().sqrt().item()
    vae.register_to_config(scaling_factor=1.0 / spread)
