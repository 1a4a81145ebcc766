"""Toy picture pipelines for the tests: real classes of width 32, random weights, fixed seed, made in milliseconds."""

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, UNet2DConditionModel
from diffusers.pipelines.stable_diffusion import StableUnCLIPImageNormalizer
from PIL import Image

from seed_hf import (
    SeedForCausalLM,
    SeedImageProcessor,
    SeedImageTokenizer,
    SeedPipeline,
    SeedProcessor,
    SeedTokenizer,
)
from seed_hf.models.modeling_seed_empty_prompt import SeedEmptyPrompt
from tiny.image_tokenizer import tiny_image_tokenizer
from tiny.language import build_base_tokenizer, build_language_model


CODEBOOK_SIZE = 16
NUM_QUERY_TOKENS = 4
NUM_GENERATION_TOKENS = 6
GENERATION_DIM = 32
IMAGE_SIZE = 28
PICTURE_SIZE = 16


def build_image_tokenizer(generation_head: str = "text", seed: int = 0) -> SeedImageTokenizer:
    """The toy image tokenizer with few codes and weights that tell different images, and codes, clearly apart."""
    sizes = {"codebook_size": CODEBOOK_SIZE, "num_query_tokens": NUM_QUERY_TOKENS, "generation_dim": GENERATION_DIM}
    model = tiny_image_tokenizer(
        seed, generation_head=generation_head, num_generation_tokens=NUM_GENERATION_TOKENS, **sizes
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and not name.startswith("quantizer"):
                parameter.normal_(std=0.2)
    return model


def build_unet(generation_head: str = "text", seed: int = 0) -> UNet2DConditionModel:
    """One resolution, cross-attention in every block; for SEED-2 with class labels as stable unCLIP has them."""
    torch.manual_seed(seed)
    unclip = generation_head != "text"
    return UNet2DConditionModel(
        sample_size=PICTURE_SIZE // 2,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(32,),
        norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        cross_attention_dim=GENERATION_DIM,
        attention_head_dim=4,
        class_embed_type="projection" if unclip else None,
        projection_class_embeddings_input_dim=2 * GENERATION_DIM if unclip else None,
    ).eval()


def build_vae(seed: int = 0, **kwargs) -> AutoencoderKL:
    """Halves the picture once."""
    torch.manual_seed(seed)
    return AutoencoderKL(
        block_out_channels=(16, 32),
        norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        sample_size=PICTURE_SIZE,
        scaling_factor=0.5,
        **kwargs,
    ).eval()


def build_scheduler() -> DDIMScheduler:
    """As seed-mini's."""
    return DDIMScheduler(prediction_type="v_prediction", timestep_spacing="trailing", clip_sample=False)


def build_pipeline(generation_head: str = "text", **components) -> SeedPipeline:
    """SEED-1 (`"text"`) or SEED-2 (`"mlp"`, `"qformer"`); components can be replaced."""
    torch.manual_seed(1)
    num_tokens = NUM_GENERATION_TOKENS if generation_head == "text" else 5
    parts = {
        "image_tokenizer": build_image_tokenizer(generation_head),
        "image_processor": SeedImageProcessor(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}),
        "unet": build_unet(generation_head),
        "vae": build_vae(),
        "scheduler": build_scheduler(),
        "empty_prompt": SeedEmptyPrompt.from_embeds(torch.randn(num_tokens, GENERATION_DIM)),
        "num_inference_steps": 2,
    }
    if generation_head != "text":
        parts["image_normalizer"] = StableUnCLIPImageNormalizer(GENERATION_DIM)
        parts["image_noising_scheduler"] = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    pipeline = SeedPipeline(**{**parts, **components})
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def build_prompt_pipeline() -> SeedPipeline:
    """SEED-1 with a toy language model attached."""
    image_tokenizer = build_image_tokenizer()
    tokenizer = SeedTokenizer.from_base_tokenizer(
        build_base_tokenizer(), codebook_size=CODEBOOK_SIZE, num_query_tokens=NUM_QUERY_TOKENS
    )
    language_model = SeedForCausalLM.from_language_model(build_language_model(), tokenizer, image_tokenizer)
    processor = SeedProcessor(SeedImageProcessor(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}), tokenizer)
    return build_pipeline(image_tokenizer=image_tokenizer, language_model=language_model, processor=processor)


def build_codes(num_images: int = 1, seed: int = 0) -> torch.Tensor:
    """Random codes of shape `(num_images, NUM_QUERY_TOKENS)`."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, CODEBOOK_SIZE, (num_images, NUM_QUERY_TOKENS), generator=generator)


def build_images(num_images: int = 1, seed: int = 0) -> list[Image.Image]:
    """Noisy pictures in different sizes and colours."""
    random = np.random.default_rng(seed)
    pictures = []
    for index in range(num_images):
        noise = random.integers(0, 60, (20 + 9 * index, 31, 3))
        pictures.append(Image.fromarray((noise + random.integers(0, 196, 3)).astype(np.uint8)))
    return pictures


def generators(*seeds: int) -> list[torch.Generator]:
    """One generator for each picture."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def draw(pipeline: SeedPipeline, *seeds: int, **inputs) -> torch.Tensor:
    """Pixels, with one generator for each seed."""
    return pipeline(**inputs, generator=generators(*(seeds or (0,))), output_type="pt").images


def distance(first: torch.Tensor, second: torch.Tensor) -> float:
    """Largest difference."""
    return (first - second).abs().max().item()
