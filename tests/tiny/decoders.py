"""Toy Stable Diffusion folders, as diffusers' own pipelines save them, of the sizes in pictures.py."""

import torch
from diffusers import DDPMScheduler, PNDMScheduler, StableDiffusionPipeline, StableUnCLIPImg2ImgPipeline
from diffusers.pipelines.stable_diffusion import StableUnCLIPImageNormalizer
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from tiny.pictures import GENERATION_DIM, NUM_GENERATION_TOKENS, build_scheduler, build_unet, build_vae


def build_text_encoder():
    """CLIP's text tower with a vocabulary of letters, and its tokenizer."""
    pieces = ["<|startoftext|>", "<|endoftext|>", *"abcdefghijklmnopqrstuvwxyz"]
    pieces += [f"{letter}</w>" for letter in "abcdefghijklmnopqrstuvwxyz"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=NUM_GENERATION_TOKENS)
    torch.manual_seed(3)
    sizes = {"hidden_size": GENERATION_DIM, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = CLIPTextConfig(
        vocab_size=len(pieces), max_position_embeddings=NUM_GENERATION_TOKENS, bos_token_id=0, eos_token_id=1, **sizes
    )
    return CLIPTextModel(config).eval(), tokenizer


def build_stable_diffusion() -> StableDiffusionPipeline:
    """Stable Diffusion v1: PLMS, no safety checker."""
    text_encoder, tokenizer = build_text_encoder()
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    pipeline = StableDiffusionPipeline(
        vae=build_vae(),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=build_unet(),
        scheduler=PNDMScheduler(skip_prk_steps=True, steps_offset=1, **betas),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def build_unclip() -> StableUnCLIPImg2ImgPipeline:
    """Stable unCLIP, with the image encoder that SEED-2 does without."""
    text_encoder, tokenizer = build_text_encoder()
    sizes = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 1, "num_attention_heads": 4}
    encoder = CLIPVisionConfig(projection_dim=GENERATION_DIM, image_size=32, patch_size=16, **sizes)
    normalizer = StableUnCLIPImageNormalizer(GENERATION_DIM)
    torch.nn.init.normal_(normalizer.mean)
    return StableUnCLIPImg2ImgPipeline(
        feature_extractor=CLIPImageProcessor(),
        image_encoder=CLIPVisionModelWithProjection(encoder).eval(),
        image_normalizer=normalizer,
        image_noising_scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        unet=build_unet("mlp"),
        scheduler=build_scheduler(),
        vae=build_vae(),
    )
