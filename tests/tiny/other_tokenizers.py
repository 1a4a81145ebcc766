"""Toy image tokenizers of transformers and diffusers: real classes, random weights, codes spread over the codebook."""

from pathlib import Path

import torch
from diffusers import VQModel
from transformers import (
    ChameleonVQVAE,
    ChameleonVQVAEConfig,
    Emu3VQVAE,
    Emu3VQVAEConfig,
    GlmImageConfig,
    GlmImageForConditionalGeneration,
    JanusVQVAE,
    JanusVQVAEConfig,
)

from seed_hf.image_tokenizers import (
    ChameleonAdapter,
    Emu3Adapter,
    GlmImageAdapter,
    GlmImageEncoder,
    GridAdapter,
    JanusAdapter,
    VQModelAdapter,
    encode_images,
)
from tiny.pictures import build_images


CODEBOOK_SIZE = 64
SIDE = 16
_SIZES = {"latent_channels": 8, "base_channels": 32, "channel_multiplier": [1, 1, 1], "num_res_blocks": 1}
_SIZES |= {"embed_dim": 4}
_GLM_TEXT = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
_GLM_TEXT |= {"vocab_size": 99, "num_key_value_heads": 1, "pad_token_id": 0, "eos_token_id": 1}
_GLM_TEXT |= {"vision_vocab_size": 80, "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]}}
_GLM_VISION = {"depth": 1, "hidden_size": 16, "num_heads": 2, "patch_size": 4, "image_size": SIDE}
_GLM_VISION |= {"intermediate_size": 32}


def build_model(kind: str) -> torch.nn.Module:
    """A toy of `"janus"`, `"emu3"`, `"chameleon"`, `"glm_image"` (the whole model) or `"vqmodel"`."""
    torch.manual_seed(0)
    if kind == "janus":
        return JanusVQVAE(JanusVQVAEConfig(**_SIZES, num_embeddings=CODEBOOK_SIZE, num_patches=SIDE // 4))
    if kind == "emu3":
        sizes = {**_SIZES, "latent_channels": 4, "hidden_size": 32, "attn_resolutions": [2]}
        return Emu3VQVAE(Emu3VQVAEConfig(**sizes, codebook_size=CODEBOOK_SIZE, temporal_downsample_factor=2))
    if kind == "chameleon":
        return ChameleonVQVAE(ChameleonVQVAEConfig(**_SIZES, num_embeddings=CODEBOOK_SIZE, resolution=SIDE))
    if kind == "glm_image":
        vq_config = {"embed_dim": 4, "num_embeddings": CODEBOOK_SIZE, "latent_channels": 16}
        config = GlmImageConfig(text_config=_GLM_TEXT, vision_config=_GLM_VISION, vq_config=vq_config)
        return GlmImageForConditionalGeneration(config)
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 3, "up_block_types": ["UpDecoderBlock2D"] * 3}
    sizes = {"block_out_channels": [16, 16, 16], "norm_num_groups": 8, "num_vq_embeddings": CODEBOOK_SIZE}
    return VQModel(**blocks, **sizes, latent_channels=4, vq_embed_dim=4)


def adapt(kind: str, model: torch.nn.Module, image_size: int = SIDE, **settings) -> GridAdapter:
    """The adapter around a toy."""
    if kind == "glm_image":
        model = GlmImageEncoder(model.model.visual, model.model.vqmodel)
    adapters = {"janus": JanusAdapter, "emu3": Emu3Adapter, "chameleon": ChameleonAdapter, "vqmodel": VQModelAdapter}
    return adapters.get(kind, GlmImageAdapter)(model, image_size, **settings)


@torch.no_grad()
def spread_codebook(adapter: GridAdapter) -> None:
    """Makes the codes those of what the encoder gives for some images, so that images differ in many of them."""
    pixels = adapter.prepare(build_images(24))
    latents = adapter.get_latents(pixels).flatten(0, 1)
    vectors = latents[:: len(latents) // CODEBOOK_SIZE][:CODEBOOK_SIZE]
    parts = adapter.model.vqmodel if hasattr(adapter.model, "vqmodel") else adapter.model
    parts.quantize.embedding.weight.copy_(vectors)
    assert len(encode_images(adapter, build_images(24)).unique()) > CODEBOOK_SIZE // 2


def save_toy(kind: str, folder: Path) -> Path:
    """Saves a toy as its library does."""
    model = build_model(kind)
    spread_codebook(adapt(kind, model))
    model.save_pretrained(folder)
    return folder
