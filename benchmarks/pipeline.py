"""Seconds of `SeedPipeline` against diffusers' own `StableDiffusionPipeline` with the same UNet, VAE and scheduler.

    python benchmarks/pipeline.py

Both start from embeddings (ours: generation embeddings; the stock pipeline: `prompt_embeds`) and equal noise, and end
in decoded pixels. The pictures are compared first: a ratio between two different things would mean nothing.
"""

import common
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

from seed_hf import SeedImageProcessor, SeedImageTokenizer, SeedImageTokenizerConfig
from seed_hf.models.modeling_seed_empty_prompt import SeedEmptyPrompt
from seed_hf.models.pipeline_seed import SeedPipeline


GOAL = 1.01
STEPS = 4


def build(quick: bool) -> tuple[SeedPipeline, StableDiffusionPipeline]:
    """Both pipelines over one set of components: a UNet of the size of seed-mini's, random weights."""
    widths = (32, 64) if quick else (128, 256)
    unet = UNet2DConditionModel(
        sample_size=8 if quick else 16,
        block_out_channels=widths,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        layers_per_block=1 if quick else 2,
        cross_attention_dim=384,
        attention_head_dim=4,
    ).eval()
    vae = AutoencoderKL(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    ).eval()
    scheduler = DDIMScheduler(clip_sample=False, timestep_spacing="trailing", steps_offset=1)
    blocks = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = SeedImageTokenizerConfig(
        vision_config={**blocks, "image_size": 28}, qformer_config=blocks, generation_dim=384, num_generation_tokens=16
    )
    empty_prompt = SeedEmptyPrompt.from_embeds(torch.randn(1, 16, 384))
    tokenizer = SeedImageTokenizer(config).eval()
    ours = SeedPipeline(tokenizer, SeedImageProcessor(size=28), unet, vae, scheduler, empty_prompt=empty_prompt)
    stock = StableDiffusionPipeline(
        vae=vae,
        text_encoder=None,
        tokenizer=None,
        unet=unet,
        scheduler=DDIMScheduler.from_config(scheduler.config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    for pipeline in (ours, stock):
        pipeline.set_progress_bar_config(disable=True)
    return ours, stock


def measure(args) -> list[dict]:
    """One row per batch size, with and without guidance."""
    ours, stock = build(args.quick)
    rounds = 3 if args.quick else 7
    size = ours.unet.config.sample_size
    rows = []
    for batch_size in (1, 4):
        embeds = torch.randn(batch_size, 16, 384)
        negative = ours.empty_prompt(batch_size).detach()
        latents = torch.randn(batch_size, 4, size, size)
        for guidance_scale in (1.0, 7.5):
            options = {"num_inference_steps": STEPS, "guidance_scale": guidance_scale, "output_type": "pt"}

            def draw(options=options, embeds=embeds, latents=latents):
                return ours(generation_embeds=embeds, latents=latents, **options).images

            def draw_stock(options=options, embeds=embeds, latents=latents, negative=negative):
                return stock(prompt_embeds=embeds, negative_prompt_embeds=negative, latents=latents, **options).images

            difference = (draw() - draw_stock()).abs().max().item()
            if difference > 1e-4:
                raise RuntimeError(f"the two pipelines draw different pictures: {difference}")
            timed = common.compare(draw, draw_stock, rounds)
            rows.append(
                common.row(
                    f"batch {batch_size}, {STEPS} steps, guidance {guidance_scale}",
                    f"{timed['ours_s']:.2f} s",
                    f"{timed['baseline_s']:.2f} s",
                    timed["ratio"],
                    f"time <= {GOAL} x",
                    timed["ratio"] <= GOAL,
                    largest_difference=difference,
                    timed=timed,
                )
            )
    return rows


if __name__ == "__main__":
    common.run("pipeline", "Pipeline: seconds against the stock Stable Diffusion pipeline", measure)
