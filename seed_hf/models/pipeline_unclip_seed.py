"""What SEED-2 adds to [`SeedPipeline`]: one image embedding as the class labels of a stable unCLIP UNet."""

from typing import Any

import torch
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.utils.torch_utils import randn_tensor


def check_unclip(components: dict[str, Any], noise_level: Any) -> None:
    """Raises `ValueError` for a missing component or a noise level that the noising scheduler does not have."""
    for name in ("empty_prompt", "image_normalizer", "image_noising_scheduler"):
        if components[name] is None:
            raise ValueError(f"`{name}` is None; allowed with a SEED-2 image tokenizer: this component given.")
    num_levels = components["image_noising_scheduler"].config.num_train_timesteps
    if not isinstance(noise_level, int) or not 0 <= noise_level < num_levels:
        raise ValueError(f"`noise_level` is {noise_level!r}; allowed: an integer in [0, {num_levels}).")


def noise_image_embeds(
    embeds: torch.FloatTensor, normalizer, noising_scheduler, noise_level: int = 0, generator=None
) -> torch.FloatTensor:
    r"""
    Stable unCLIP's condition: the noised image embedding and, behind it, the embedding of the noise level.

    Args:
        embeds (`torch.FloatTensor` of shape `(num_images, embedding_dim)`): Image embeddings.
        normalizer (`StableUnCLIPImageNormalizer`): Mean and deviation of image embeddings.
        noising_scheduler (`SchedulerMixin`): Adds the noise.
        noise_level (`int`, defaults to 0): A timestep of it; 0 adds a little, too.
        generator (`torch.Generator` or a list with one for each image, *optional*): Makes the noise repeatable.

    Returns:
        `torch.FloatTensor` of shape `(num_images, 2 * embedding_dim)`.

    Source: `noise_image_embeddings` of stable unCLIP, Ho et al. 2022 (cascaded diffusion).
    """
    embeds = normalizer.scale(embeds.to(normalizer.mean.dtype))
    noise = randn_tensor(embeds.shape, generator=generator, device=embeds.device, dtype=embeds.dtype)
    levels = torch.full((embeds.shape[0],), noise_level, device=embeds.device, dtype=torch.long)
    embeds = normalizer.unscale(noising_scheduler.add_noise(embeds, noise, levels))
    level_embeds = get_timestep_embedding(levels, embeds.shape[-1], flip_sin_to_cos=True, downscale_freq_shift=0)
    return torch.cat([embeds, level_embeds.to(embeds.dtype)], dim=1)
