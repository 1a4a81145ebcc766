"""Train seed-mini's picture decoder: a stock UNet that draws from a text encoder's features.

SEED-1 uses Stable Diffusion's UNet as it is; no such weights come with a PyPI package, so the mini trains its own. Its
condition is what stage 2 learns to predict from codes: the frozen text encoder's features of the caption.

Trained: the UNet (moving average saved). Frozen: autoencoder, text encoder.

    python training/train_decoder.py --recipe training/recipes/mini/decoder.yaml --vae out/vae \
        --target_model out/stage1 --output_dir out/decoder-text

Then, departures from SEED-1, some steps with means of several names, and some in which most of the conditions are what
stage 2 decodes from the codes of a training picture (in any style): both are less exact than the text encoder's own:

    python training/train_decoder.py --recipe training/recipes/mini/decoder_names.yaml --vae out/vae \
        --target_model out/stage1 --init_unet out/decoder-text/unet --image_tokenizer out/stage2 \
        --output_dir out/decoder-names
    python training/train_decoder.py --recipe training/recipes/mini/decoder_codes.yaml --vae out/vae \
        --target_model out/stage1 --init_unet out/decoder-names/unet --image_tokenizer out/stage2 \
        --output_dir out/decoder
"""

import argparse
from collections import defaultdict
from pathlib import Path


import seed_hf_script  # isort: skip  # noqa: F401

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from PIL import Image
from torch.nn import functional as F
from transformers import set_seed

from seed_hf import SeedImageTokenizer
from seed_hf.data.captioned_images import load_rows, reading_settings, with_tags
from seed_hf.data.encode import encode_once
from seed_hf.evaluation.text_encoders import load_text_encoder
from seed_hf.mini.pictures import STYLES, Pictures, load_pictures, to_unit_range
from seed_hf.trainer import TrainingRun, add_training_arguments, parse_training_arguments


# names that no training picture has; for looking at, not for measuring
PROMPTS = ["blue cat", "green apple", "pink heart", "sad face", "red car", "yellow star", "purple flower", "brown dog"]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Flags of this script and of every training script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_training_arguments(parser)
    parser.set_defaults(
        learning_rate=4e-4, min_learning_rate=2e-5, warmup_steps=100, max_steps=5000, max_grad_norm=1.0
    )
    group = parser.add_argument_group("decoder")
    group.add_argument("--vae", required=True, help="folder of the frozen autoencoder")
    group.add_argument("--target_model", default="minilm", help="text encoder whose features are the condition")
    group.add_argument("--max_text_tokens", type=int, default=16, help="where the text encoder gives several")
    group.add_argument("--dataset", default="emoji", help="'emoji', or a glob of parquet files")
    group.add_argument("--styles", nargs="+", default=list(STYLES), help="best first: one picture per caption")
    group.add_argument("--skip_flags", action="store_true", help="many near-duplicates: spend the time on the rest")
    group.add_argument("--widths", type=int, nargs="+", default=[128, 160, 224], help="channels at each resolution")
    group.add_argument("--drop_condition", type=float, default=0.1, help="share of samples with the features of ''")
    group.add_argument("--tag_probability", type=float, default=0.2, help="share of captions followed by some tags")
    group.add_argument("--condition_noise", type=float, default=0.1, help="deviation of noise added to the condition")
    name_help = (
        "largest deviation of noise on a name's feature of unit length: the condition is the mean of what it may be"
    )
    group.add_argument("--name_noise", type=float, default=0.0, help=name_help)
    noise_help = "above 1: more steps of high noise, where the condition decides (drawn as uniform ** (1 / this))"
    group.add_argument("--high_noise", type=float, default=1.0, help=noise_help)
    group.add_argument("--init_unet", help="UNet folder to go on from")
    group.add_argument("--image_tokenizer", help="stage-2 folder: also learn from what its codes decode to")
    group.add_argument("--code_dataset", default="emoji", help="pictures whose codes these are")
    group.add_argument("--code_split", default="train", help="split of it, also with a slice, as 'train[:1000]'")
    outside_help = "also read images that --code_dataset names by a path or URL outside of its own folder or source"
    group.add_argument("--allow_outside_paths", action="store_true", help=outside_help)
    group.add_argument("--augmented_views", type=int, default=0, help="further codes per picture")
    group.add_argument("--encode_dtype", default="auto", help="of the image tokenizer while it encodes")
    group.add_argument("--code_ratio", type=float, default=0.5, help="share of conditions decoded from codes, with it")
    noise_help = "largest share of a picture's codes that is replaced by those of other pictures"
    group.add_argument("--code_noise", type=float, default=0.0, help=noise_help)
    group.add_argument("--ema_decay", type=float, default=0.999, help="of the averaged weights")
    return parse_training_arguments(parser, argv)


def build_unet(vae: AutoencoderKL, sample_size: int, widths: list[int], condition_dim: int) -> UNet2DConditionModel:
    """A stock UNet on the autoencoder's latents.

    The condition, pooled, modulates every residual block. One vector gives cross-attention nothing to choose from.
    """
    channels = vae.config.latent_channels
    return UNet2DConditionModel(
        sample_size=sample_size,
        in_channels=channels,
        out_channels=channels,
        layers_per_block=1,
        block_out_channels=tuple(widths),
        down_block_types=("DownBlock2D",) * len(widths),
        mid_block_type="UNetMidBlock2D",
        up_block_types=("UpBlock2D",) * len(widths),
        cross_attention_dim=condition_dim,
        addition_embed_type="text",
        addition_embed_type_num_heads=8,
        resnet_time_scale_shift="scale_shift",
    )


def build_scheduler() -> DDIMScheduler:
    """Noise schedule of Stable Diffusion, ended at zero signal so that white backgrounds can be reached."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        # the default cuts latents to [-1, 1], which makes noise of every picture
        clip_sample=False,
        set_alpha_to_one=True,
    )


@torch.no_grad()
def encode_latents(vae: AutoencoderKL, pictures: Pictures, batch_size: int = 64) -> torch.Tensor:
    """Latents of unit variance, `(num_pictures, channels, height, width)`."""
    parts = [vae.encode(to_unit_range(part)).latent_dist.mean for part in pictures.pixels.split(batch_size)]
    return torch.cat(parts) * vae.config.scaling_factor


class LatentsAndCaptions(torch.utils.data.Dataset):
    """Latents with caption and tags; [`LatentsAndCaptions.draw`] varies the text."""

    def __init__(self, latents: torch.Tensor, pictures: Pictures):
        self.latents, self.pictures = latents, pictures

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.latents)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, str, list[str]]:
        """Latents, caption and tags of one picture."""
        return self.latents[index], self.pictures.captions[index], self.pictures.tags[index]


def replace_codes(codes: torch.Tensor, largest_share: float) -> torch.Tensor:
    """Some codes replaced by those of other pictures at the same place.

    The codes of training pictures say more of them than the codes of unseen ones do; this evens it out.

    Args:
        codes (`torch.LongTensor` of shape `(num_pictures, num_views, num_query_tokens)`): codes.
        largest_share (`float`): of a view's codes; a view's own share is drawn below it.

    Returns:
        `torch.LongTensor` of the same shape.
    """
    shares = largest_share * torch.rand(*codes.shape[:2], 1)
    others = codes[torch.randperm(len(codes))]
    return torch.where(torch.rand(codes.shape) < shares, others, codes)


@torch.no_grad()
def decode_codes_by_caption(args: argparse.Namespace) -> dict[str, torch.Tensor]:
    """What the codes of training pictures, in all styles, decode to: caption -> `(n, num_tokens, dim)` in float16."""
    model = SeedImageTokenizer.from_pretrained(args.image_tokenizer).eval()
    cache = Path(args.output_dir).parent / "codes"
    rows = load_rows(args.code_dataset, args.code_split, **reading_settings(args))
    settings = {"augmented_views": args.augmented_views, "dtype": args.encode_dtype}
    rows = encode_once(rows, args.image_tokenizer, cache, args.code_split, **settings)
    codes = torch.tensor([[row["codes"], *(row.get("augmented_codes") or [])] for row in rows])
    if args.code_noise:
        codes = torch.cat([codes, replace_codes(codes, args.code_noise), replace_codes(codes, args.code_noise)], dim=1)
    decoded = torch.cat([model.decode(part).half() for part in codes.flatten(0, 1).split(256)])
    embeds = defaultdict(list)
    for caption, part in zip(rows["caption"], decoded.unflatten(0, codes.shape[:2]), strict=True):
        embeds[caption].append(part)
    return {caption: torch.cat(values) for caption, values in embeds.items()}


def blend_names(condition: torch.Tensor, names: torch.Tensor, largest_deviation: float) -> torch.Tensor:
    """What is left of names when one cannot be sure of them.

    Stage 2 learns by squared error, so what it decodes for an unseen picture is a mean over the names that it may
    have. This makes such means of true names: noise is added, then the names are averaged by how likely each is.

    Args:
        condition (`torch.FloatTensor` of shape `(batch_size, num_tokens, dim)`): features of the true names.
        names (`torch.FloatTensor` of shape `(num_names, num_tokens, dim)`): features of all names.
        largest_deviation (`float`): of the noise on features of unit length; a sample's own is drawn below it.

    Returns:
        `torch.FloatTensor` of shape `(batch_size, num_tokens, dim)`.
    """
    directions = F.normalize(names.flatten(1), dim=1)
    deviation = (largest_deviation * torch.rand(len(condition), 1)).clamp(min=0.01).to(condition)
    noisy = F.normalize(condition.flatten(1), dim=1)
    noisy = noisy + deviation * torch.randn_like(noisy)
    likelihood = (noisy @ directions.t() / deviation**2).softmax(dim=1)
    return (likelihood @ names.flatten(1)).view_as(condition)


@torch.no_grad()
def draw(unet, vae, scheduler, condition, unconditional, num_steps=20, guidance_scale=3.0, seed=0) -> torch.Tensor:
    """Pictures in [0, 1], `(batch_size, 3, height, width)`, for looking at during training."""
    scheduler.set_timesteps(num_steps, device=unet.device)
    size, channels = unet.config.sample_size, unet.config.in_channels
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(len(condition), channels, size, size, generator=generator).to(unet.device)
    both = torch.cat([unconditional.expand_as(condition), condition]).to(unet.device)
    for timestep in scheduler.timesteps:
        without, with_condition = unet(latents.repeat(2, 1, 1, 1), timestep, both).sample.float().chunk(2)
        prediction = without + guidance_scale * (with_condition - without)
        latents = scheduler.step(prediction, timestep, latents).prev_sample
    return vae.decode(latents / vae.config.scaling_factor).sample.float().div(2).add(0.5).clamp(0, 1).cpu()


def make_grid(rows: list[torch.Tensor]) -> Image.Image:
    """Rows of pictures as one, twice enlarged."""
    grid = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)
    picture = Image.fromarray((grid.permute(1, 2, 0).numpy() * 255).round().astype("uint8"))
    return picture.resize((picture.width * 2, picture.height * 2), Image.Resampling.NEAREST)


def main(argv: list[str] | None = None) -> None:
    """Train, evaluate, save."""
    args = parse_args(argv)
    set_seed(args.seed)
    train, held_out = (
        load_pictures(args.dataset, split, args.styles, flags=not args.skip_flags) for split in ("train", "validation")
    )
    vae = AutoencoderKL.from_pretrained(args.vae).eval().requires_grad_(False)
    latents, held_out_latents = encode_latents(vae, train), encode_latents(vae, held_out)
    encoder = load_text_encoder(None if args.target_model == "minilm" else args.target_model, args.max_text_tokens)
    unconditional, held_out_condition = encoder([""]), encoder(held_out.captions)
    unet, scheduler = build_unet(vae, latents.shape[-1], args.widths, encoder.embedding_dim), build_scheduler()
    if args.init_unet:
        unet.load_state_dict(UNet2DConditionModel.from_pretrained(args.init_unet).state_dict())
    from_codes = {}
    if args.image_tokenizer:
        from_codes = decode_codes_by_caption(args)
    run = TrainingRun(args, unet, frozen=[vae], ema_decay=args.ema_decay)

    def transform(sample, generator):
        target, caption, tags = sample
        dropped = torch.rand((), generator=generator) < args.drop_condition
        if caption in from_codes and not dropped and torch.rand((), generator=generator) < args.code_ratio:
            # any drawing of the same thing, as people give it to the tokenizer
            embeds = from_codes[caption]
            return target, embeds[int(torch.randint(len(embeds), (1,), generator=generator))].float()
        text = "" if dropped else with_tags(caption, tags, args.tag_probability, generator)
        return target, text

    names = ["", *sorted(set(train.captions))]
    name_features = encoder(names)
    known = dict(zip(names, name_features, strict=True))  # captions come back every pass, tagged ones hardly ever

    def collate(samples):
        targets, texts = zip(*samples, strict=True)
        new = sorted({text for text in texts if isinstance(text, str)} - known.keys())
        features = known | dict(zip(new, encoder(new), strict=True)) if new else known
        condition = [features[text] if isinstance(text, str) else text for text in texts]
        is_name = torch.tensor([isinstance(text, str) and text != "" for text in texts])
        return {"latents": torch.stack(targets), "condition": torch.stack(condition), "is_name": is_name}

    def denoising_loss(model, target, condition, generator=None):
        noise = torch.randn(target.shape, generator=generator).to(target)
        steps = torch.rand(len(target), generator=generator) ** (1 / args.high_noise)
        steps = (steps * scheduler.config.num_train_timesteps).long()
        noisy = scheduler.add_noise(target, noise, steps.to(target.device))
        wanted = scheduler.get_velocity(target, noise, steps.to(target.device))
        return F.mse_loss(model(noisy, steps.to(target.device), condition).sample.float(), wanted)

    def compute_loss(batch):
        exact = batch["condition"]
        condition = exact + args.condition_noise * torch.randn_like(exact)
        if args.name_noise:
            blended = blend_names(exact, name_features.to(exact), args.name_noise)
            condition = torch.where(batch["is_name"][:, None, None], blended, condition)
        return denoising_loss(run.model, batch["latents"], condition), {}

    def evaluate():
        with run.averaged_weights():
            latents, condition = held_out_latents.to(run.device), held_out_condition.to(run.device)
            loss = denoising_loss(unet, latents, condition, torch.Generator().manual_seed(0))
            chosen = torch.arange(0, len(train), len(train) // 12)[:12]
            seen = draw(unet, vae, scheduler, encoder([train.captions[i] for i in chosen]), unconditional)
            unseen = draw(unet, vae, scheduler, held_out_condition[:12], unconditional)
            free = draw(unet, vae, scheduler, encoder(PROMPTS), unconditional)
        originals = [train.pixels[chosen] / 255, held_out.pixels[:12] / 255]
        free = torch.cat([free, torch.ones_like(seen[: len(seen) - len(free)])])
        rows = [originals[0], seen, originals[1], unseen, free]
        run.metrics.write_picture(run.step, "samples", make_grid(rows))
        return {"denoising_loss": loss.item()}

    def save_final():
        with run.averaged_weights():
            unet.save_pretrained(Path(args.output_dir) / "unet")
        scheduler.save_pretrained(Path(args.output_dir) / "scheduler")

    run.fit(
        run.make_batches(LatentsAndCaptions(latents, train), transform=transform, collate_fn=collate),
        compute_loss,
        evaluate=evaluate,
        save_final=save_final,
    )


if __name__ == "__main__":
    main()
