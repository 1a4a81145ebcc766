"""seed-mini's picture decoder: a stock UNet that draws from a text encoder's features."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.training_utils import compute_snr
from PIL import Image
from torch.nn import functional as F

from ...data.captioned_images import with_tags
from ...evaluation.text_encoders import TextTargetEncoder
from ...mini.pictures import Pictures, to_unit_range
from ...models.modeling_seed_image_tokenizer import SeedImageTokenizer
from ..run import TrainingRun
from ..settings import ConditionSettings, check_shares


# names that no training picture has; for looking at, not for measuring
PROMPTS = ["blue cat", "green apple", "pink heart", "sad face", "red car", "yellow star", "purple flower", "brown dog"]
NUM_SHOWN = 12


def build_unet(
    vae: AutoencoderKL, sample_size: int, widths: Sequence[int], condition_dim: int
) -> UNet2DConditionModel:
    """A stock UNet on the autoencoder's latents.

    The condition, pooled, modulates every residual block. One vector gives cross-attention nothing to choose from.

    Args:
        vae (`AutoencoderKL`): The autoencoder.
        sample_size (`int`): Side of its latents.
        widths (`Sequence[int]`): Number of channels at each resolution.
        condition_dim (`int`): Width of the condition.
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


def build_scheduler(prediction_type: str = "v_prediction") -> DDIMScheduler:
    """Noise schedule of Stable Diffusion, ended at zero signal so that white backgrounds can be reached.

    Args:
        prediction_type (`str`, defaults to `"v_prediction"`): What the UNet predicts. `"epsilon"` leaves the end of
            the schedule as it is: where nothing is left of a picture, the noise says nothing about it.
    """
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction_type,
        rescale_betas_zero_snr=prediction_type != "epsilon",
        timestep_spacing="trailing",
        # the default cuts latents to [-1, 1], which makes noise of every picture
        clip_sample=False,
        set_alpha_to_one=True,
    )


def check_prediction_type(unet: str, prediction_type: str) -> None:
    """Raises `ValueError` where the scheduler beside a UNet's folder says that the UNet predicts something else."""
    folder = Path(unet).parent / "scheduler"
    before = DDIMScheduler.load_config(folder)["prediction_type"] if folder.is_dir() else prediction_type
    if before != prediction_type:
        raise ValueError(f"`prediction_type` is {prediction_type!r}; allowed: {before!r}, which {unet} predicts.")


def min_snr_weights(scheduler: DDIMScheduler, timesteps: torch.Tensor, gamma: float) -> torch.Tensor:
    """Weights that make the squared error one of the picture, times the signal-to-noise ratio, of at most `gamma`.

    Source: Hang et al., "Efficient Diffusion Training via Min-SNR Weighting Strategy" (arXiv 2303.09556), section 3.4.

    Args:
        scheduler (`DDIMScheduler`): Its schedule, and what is predicted.
        timesteps (`torch.LongTensor` of shape `(batch_size,)`): Steps of the schedule.
        gamma (`float`): Above 0.

    Returns:
        `torch.FloatTensor` of shape `(batch_size,)`: In [0, 1]; for the velocity, 0 at the step of noise alone, which
        is then not learned.
    """
    snr = compute_snr(scheduler, timesteps)
    return snr.clamp(max=gamma) / (snr if scheduler.config.prediction_type == "epsilon" else snr + 1)


@torch.no_grad()
def encode_latents(vae: AutoencoderKL, pictures: Pictures, batch_size: int = 64) -> torch.Tensor:
    """Latents of unit variance, `(num_pictures, channels, height, width)`."""
    parts = (to_unit_range(part).to(vae.device) for part in pictures.pixels.split(batch_size))
    return torch.cat([vae.encode(part).latent_dist.mean for part in parts]) * vae.config.scaling_factor


class LatentsAndCaptions(torch.utils.data.Dataset):
    """Latents with caption and tags.

    Args:
        latents (`torch.FloatTensor` of shape `(num_pictures, channels, height, width)`): What the UNet learns to draw.
        pictures ([`~seed_hf.mini.pictures.Pictures`]): The pictures that they are of.
    """

    def __init__(self, latents: torch.Tensor, pictures: Pictures):
        self.latents, self.pictures = latents, pictures

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.latents)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, str, list[str]]:
        """Latents, caption and tags of one picture."""
        return self.latents[index], self.pictures.captions[index], self.pictures.tags[index]


def replace_codes(codes: torch.Tensor, largest_share: float) -> torch.Tensor:
    """Some codes replaced by those of other images at the same place.

    The codes of training images say more about them than the codes of unseen ones do; this evens it out.

    Args:
        codes (`torch.LongTensor` of shape `(num_images, num_views, num_query_tokens)`): Codes.
        largest_share (`float`): Largest share of a view's codes to replace; its own share is drawn below it.

    Returns:
        `torch.LongTensor` of the same shape.
    """
    shares = largest_share * torch.rand(*codes.shape[:2], 1)
    others = codes[torch.randperm(len(codes))]
    return torch.where(torch.rand(codes.shape) < shares, others, codes)


@torch.no_grad()
def decode_codes_by_caption(image_tokenizer: str, rows, code_noise: float = 0.0) -> dict[str, torch.Tensor]:
    """What the codes of training images, in all styles, decode to.

    Args:
        image_tokenizer (`str`): Folder of a [`SeedImageTokenizer`] after stage 2.
        rows (`datasets.Dataset`): Captions and codes.
        code_noise (`float`, defaults to 0.0): Adds two copies with codes replaced; see [`replace_codes`].

    Returns:
        `dict[str, torch.Tensor]`: By caption, float16 of shape `(num_views, num_tokens, dim)`.
    """
    model = SeedImageTokenizer.from_pretrained(image_tokenizer, dtype=torch.float32).eval()
    codes = torch.tensor([[row["codes"], *(row.get("augmented_codes") or [])] for row in rows])
    if code_noise:
        codes = torch.cat([codes, replace_codes(codes, code_noise), replace_codes(codes, code_noise)], dim=1)
    decoded = torch.cat([model.decode(part).half() for part in codes.flatten(0, 1).split(256)])
    embeds = defaultdict(list)
    for caption, part in zip(rows["caption"], decoded.unflatten(0, codes.shape[:2]), strict=True):
        embeds[caption].append(part)
    return {caption: torch.cat(values) for caption, values in embeds.items()}


def blend_names(condition: torch.Tensor, names: torch.Tensor, largest_deviation: float) -> torch.Tensor:
    """What is left of names when one cannot be sure of them.

    Stage 2 learns by squared error, so what it decodes for an unseen image is a mean over the names that it may
    have. This makes such means of true names: noise is added, then the names are averaged by how likely each is.

    Args:
        condition (`torch.FloatTensor` of shape `(batch_size, num_tokens, dim)`): Features of the true names.
        names (`torch.FloatTensor` of shape `(num_names, num_tokens, dim)`): Features of all names.
        largest_deviation (`float`): Largest standard deviation of the noise on features of unit length; a sample's
            own is drawn below it.

    Returns:
        `torch.FloatTensor` of shape `(batch_size, num_tokens, dim)`.
    """
    directions = F.normalize(names.flatten(1), dim=1)
    deviation = (largest_deviation * torch.rand(len(condition), 1)).clamp(min=0.01).to(condition)
    noisy = F.normalize(condition.flatten(1), dim=1)
    noisy = noisy + deviation * torch.randn_like(noisy)
    likelihood = (noisy @ directions.t() / deviation**2).softmax(dim=1)
    return (likelihood @ names.flatten(1)).view_as(condition)


def make_grid(rows: list[torch.Tensor]) -> Image.Image:
    """Rows of pictures as one, twice enlarged; shorter rows end in white."""
    width = max(map(len, rows))
    rows = [torch.cat([row, row.new_ones(width - len(row), *row.shape[1:])]) for row in rows]
    grid = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)
    picture = Image.fromarray((grid.permute(1, 2, 0).numpy() * 255).round().astype("uint8"))
    return picture.resize((picture.width * 2, picture.height * 2), Image.Resampling.NEAREST)


class DecoderStage:
    """The picture decoder's training, as [`~seed_hf.trainer.TrainingRun.fit`] takes it.

    Args:
        run ([`~seed_hf.trainer.TrainingRun`]): Run of a `UNet2DConditionModel`, with a moving average.
        vae (`AutoencoderKL`): Its frozen autoencoder.
        encoder ([`~seed_hf.evaluation.text_encoders.TextTargetEncoder`]): Gives the condition.
        data (`LatentsAndCaptions`): What to train on.
        held_out ([`~seed_hf.mini.pictures.Pictures`]): Pictures to evaluate on.
        settings ([`~seed_hf.trainer.settings.ConditionSettings`]): How the condition is changed, and the loss.
        from_codes (`Mapping[str, torch.Tensor]`): What [`decode_codes_by_caption`] gives; may be empty.
    """

    def __init__(
        self,
        run: TrainingRun,
        vae: AutoencoderKL,
        encoder: TextTargetEncoder,
        data: LatentsAndCaptions,
        held_out: Pictures,
        settings: ConditionSettings,
        from_codes: Mapping[str, torch.Tensor],
    ):
        self.run, self.unet, self.vae = run, run.unwrapped_model, vae
        if settings.snr_gamma < 0:
            raise ValueError(f"`snr_gamma` is {settings.snr_gamma}; allowed: 0 (no weights), or above.")
        check_shares(settings, "drop_condition", "tag_probability", "code_ratio")
        self.scheduler, self.encoder = build_scheduler(settings.prediction_type), encoder
        self.data, self.held_out, self.settings, self.from_codes = data, held_out, settings, from_codes
        self.held_out_latents = encode_latents(vae, held_out).to(run.device)
        self.unconditional, self.held_out_condition = encoder([""]), encoder(held_out.captions)
        names = ["", *sorted(set(data.pictures.captions))]
        self.name_features = encoder(names)
        # captions come back every pass, those with tags hardly ever
        self.known = dict(zip(names, self.name_features, strict=True))

    def transform(self, sample: tuple, generator: torch.Generator) -> tuple[torch.Tensor, str | torch.Tensor]:
        """Latents, and a text to take the features of or what codes of an image with this caption decode to."""
        latents, caption, tags = sample
        settings = self.settings
        dropped = torch.rand((), generator=generator) < settings.drop_condition
        if caption in self.from_codes and not dropped and torch.rand((), generator=generator) < settings.code_ratio:
            # any drawing of the same thing, as people give it to the tokenizer
            embeds = self.from_codes[caption]
            return latents, embeds[int(torch.randint(len(embeds), (1,), generator=generator))].float()
        return latents, "" if dropped else with_tags(caption, tags, settings.tag_probability, generator)

    def collate(self, samples: list[tuple]) -> dict[str, torch.Tensor]:
        """Latents, conditions, and which of these are a text's own features."""
        latents, conditions = zip(*samples, strict=True)
        new = sorted({text for text in conditions if isinstance(text, str)} - self.known.keys())
        features = self.known | dict(zip(new, self.encoder(new), strict=True)) if new else self.known
        is_name = torch.tensor([isinstance(text, str) and text != "" for text in conditions])
        conditions = [features[text] if isinstance(text, str) else text for text in conditions]
        return {"latents": torch.stack(latents), "condition": torch.stack(conditions), "is_name": is_name}

    def denoising_loss(
        self, model, latents, condition, generator: torch.Generator | None = None, snr_gamma: float = 0.0
    ) -> torch.Tensor:
        """Squared error of what the UNet predicts, at random noise levels."""
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        steps = torch.rand(len(latents), generator=generator) ** (1 / self.settings.high_noise)
        last = self.scheduler.config.num_train_timesteps - 1
        steps = (steps * (last + 1)).long().clamp(max=last).to(latents.device)  # a root of almost 1 rounds to 1
        is_noise = self.scheduler.config.prediction_type == "epsilon"
        target = noise if is_noise else self.scheduler.get_velocity(latents, noise, steps)
        predicted = model(self.scheduler.add_noise(latents, noise, steps), steps, condition).sample.float()
        if not snr_gamma:
            return F.mse_loss(predicted, target)
        errors = F.mse_loss(predicted, target, reduction="none").flatten(1).mean(dim=1)
        return (min_snr_weights(self.scheduler, steps, snr_gamma) * errors).mean()

    def compute_loss(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict]:
        """The denoising loss, with changed conditions."""
        exact = batch["condition"]
        condition = exact + self.settings.condition_noise * torch.randn_like(exact)
        if self.settings.name_noise:
            blended = blend_names(exact, self.name_features.to(exact), self.settings.name_noise)
            condition = torch.where(batch["is_name"][:, None, None], blended, condition)
        return self.denoising_loss(self.run.model, batch["latents"], condition, snr_gamma=self.settings.snr_gamma), {}

    def evaluate(self) -> dict[str, float]:
        """The denoising loss on held-out pictures, without weights, and a look at what is drawn."""
        with self.run.averaged_weights():
            condition = self.held_out_condition.to(self.run.device)
            generator = torch.Generator().manual_seed(0)
            loss = self.denoising_loss(self.unet, self.held_out_latents, condition, generator)
            self.run.metrics.write_picture(self.run.step, "samples", make_grid(self._samples()))
        return {"denoising_loss": loss.item()}

    def _samples(self) -> list[torch.Tensor]:
        """Rows of pictures: some of the training data, as drawn; held-out ones, as drawn; drawn from new names."""
        pictures = self.data.pictures
        chosen = torch.arange(0, len(pictures), max(1, len(pictures) // NUM_SHOWN))[:NUM_SHOWN]
        seen = self.draw(self.encoder([pictures.captions[index] for index in chosen]))
        unseen = self.draw(self.held_out_condition[:NUM_SHOWN])
        free = self.draw(self.encoder(PROMPTS))
        return [pictures.pixels[chosen] / 255, seen, self.held_out.pixels[:NUM_SHOWN] / 255, unseen, free]

    @torch.no_grad()
    def draw(self, condition: torch.Tensor, num_steps: int = 20, guidance_scale: float = 3.0) -> torch.Tensor:
        """Pictures in [0, 1], `(batch_size, 3, height, width)`, for looking at during training."""
        unet, scheduler = self.unet, self.scheduler
        scheduler.set_timesteps(num_steps, device=unet.device)
        size, channels = unet.config.sample_size, unet.config.in_channels
        generator = torch.Generator().manual_seed(0)
        latents = torch.randn(len(condition), channels, size, size, generator=generator).to(unet.device)
        both = torch.cat([self.unconditional.expand_as(condition), condition]).to(unet.device)
        for timestep in scheduler.timesteps:
            without, with_condition = unet(latents.repeat(2, 1, 1, 1), timestep, both).sample.float().chunk(2)
            prediction = without + guidance_scale * (with_condition - without)
            latents = scheduler.step(prediction, timestep, latents).prev_sample
        decoded = self.vae.decode(latents / self.vae.config.scaling_factor).sample.float()
        return decoded.div(2).add(0.5).clamp(0, 1).cpu()

    def save(self) -> None:
        """Saves UNet (its moving average, by now) and scheduler in the output folder."""
        folder = Path(self.run.args.output_dir)
        self.unet.save_pretrained(folder / "unet")
        self.scheduler.save_pretrained(folder / "scheduler")
