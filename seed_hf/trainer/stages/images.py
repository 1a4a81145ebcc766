"""What stages 1 and 2 share: views of images, retrieval on held-out images, and the folder that they save."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import ClassVar

import torch
from PIL import Image

from ...data.augmentation import Augmentation, augment
from ...data.captioned_images import CaptionedImages, open_image
from ...data.view_cache import AugmentedViews, CachedViews
from ...evaluation.retrieval import retrieval_scores, tokenize
from ...models.image_processing_seed import SeedImageProcessor
from ..grids import retrieval_grid
from ..run import TrainingRun


ROWS_AT_ONCE = 256


def move_if_it_fits(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Values on a GPU, if they take no more than half of the memory that is free there; else where they are."""
    if device.type != "cuda" or values.nbytes > torch.cuda.mem_get_info(device)[0] / 2:
        return values
    return values.to(device)


class ImageStage:
    """Base of the stages that train an image tokenizer.

    Args:
        run ([`~seed_hf.trainer.TrainingRun`]): Run of a [`SeedImageTokenizer`].
        tokenizer: Tokenizer of its text side.
        processor ([`SeedImageProcessor`]): Its image processor.
        data ([`~seed_hf.data.captioned_images.CaptionedImages`]): Images to train on.
        held_out (`list[dict]`): Rows to evaluate on, with `image` and `caption`.
        augmentation ([`~seed_hf.data.settings.Augmentation`]): How much views may differ.
        max_text_tokens (`int`): Captions are cut to it.
        num_cached_views (`int`, defaults to 0): Put this many views of each image through the frozen part once, before
            training; 0 makes new ones in every step.
        keeps_views (`bool`, defaults to `False`): Whether they stay in the output folder, for a run that goes on.

    Attributes:
        frozen_part (`str`): Method of the model that gives what is cached.
        cached_input (`str`): Argument of the model that takes it, in place of `pixel_values`.
    """

    frozen_part: ClassVar[str]
    cached_input: ClassVar[str]

    def __init__(
        self,
        run: TrainingRun,
        tokenizer,
        processor: SeedImageProcessor,
        data: CaptionedImages,
        held_out: list[dict],
        *,
        augmentation: Augmentation,
        max_text_tokens: int,
        num_cached_views: int = 0,
        keeps_views: bool = False,
    ):
        self.run, self.model = run, run.unwrapped_model
        self.tokenizer, self.processor, self.held_out = tokenizer, processor, held_out
        self.augmentation, self.max_text_tokens = augmentation, max_text_tokens
        self.is_cached = num_cached_views > 0
        if self.is_cached:
            self.model.to(run.device).eval()
            accelerator = run.accelerator
            number = f"-{accelerator.process_index}" if accelerator.num_processes > 1 else ""
            file = Path(run.args.output_dir) / f"views{number}.bin" if keeps_views else None
            made_with = {"augmentation": [getattr(augmentation, field.name) for field in fields(Augmentation)]}
            # a CPU is faster with what fits into its caches
            settings = {"file": file, "made_with": made_with, "batch_size": 512 if run.device.type == "cuda" else 16}
            settings["num_workers"] = run.args.num_workers
            self.views = CachedViews(data, self.encode, self.augment, num_cached_views, run.args.seed, **settings)
            self.cached = move_if_it_fits(self.views.values, run.device)
        else:
            self.views = AugmentedViews(data, self.augment)

    def augment(self, image: Image.Image, generator: torch.Generator) -> Image.Image:
        """A view of an image."""
        return augment(image, self.model.config.vision_config.image_size, generator, self.augmentation)

    def pixel_values(self, images: list[Image.Image]) -> torch.Tensor:
        """What the model sees of images, `(batch_size, 3, image_size, image_size)`."""
        return self.processor(images, return_tensors="pt")["pixel_values"]

    def encode(self, images: list[Image.Image]) -> torch.Tensor:
        """What the frozen part gives for images, in half precision on the CPU."""
        with self.run.accelerator.autocast():
            return getattr(self.model, self.frozen_part)(self.pixel_values(images).to(self.run.device)).half().cpu()

    def image_inputs(self, views: list) -> dict[str, torch.Tensor]:
        """Arguments of the model for a batch of views; of cached ones their numbers, for [`ImageStage.with_views`]."""
        if self.is_cached:
            return {"views": torch.tensor(views)}
        return {"pixel_values": self.pixel_values(views)}

    def with_views(self, batches: Iterator[dict]) -> Iterator[dict]:
        """Batches with what is cached in place of the numbers of views, on the device where it is there."""
        for batch in batches:
            if self.is_cached:
                numbers = batch.pop("views").to(self.cached.device, non_blocking=True)
                batch[self.cached_input] = self.cached[numbers].float()
            yield batch

    def text_inputs(self, captions: list[str]) -> dict[str, torch.Tensor]:
        """Arguments of the model for a batch of captions."""
        return tokenize(self.tokenizer, captions, self.max_text_tokens)

    def held_out_batches(self) -> Iterator[tuple[list[dict], torch.Tensor]]:
        """Held-out rows with their pixel values on the device."""
        for start in range(0, len(self.held_out), ROWS_AT_ONCE):
            rows = self.held_out[start : start + ROWS_AT_ONCE]
            yield rows, self.pixel_values([open_image(row) for row in rows]).to(self.model.device)

    def measure_retrieval(self, image_features: torch.Tensor) -> dict[str, float]:
        """How well images and captions find each other; also shows what some captions find.

        Args:
            image_features (`torch.FloatTensor` of shape `(len(held_out), projection_dim)`): Features of the held-out
                images.

        Returns:
            `dict[str, float]`: Scores by name.
        """
        settings = (self.model, self.tokenizer, image_features)
        grid = retrieval_grid(*settings, self.held_out, self.max_text_tokens)
        self.run.metrics.write_picture(self.run.step, "retrieval", grid)
        return retrieval_scores(*settings, [row["caption"] for row in self.held_out], self.max_text_tokens)

    def save(self) -> None:
        """Saves model, tokenizer and processor in the output folder."""
        folder = self.run.args.output_dir
        self.model.save_pretrained(folder, max_shard_size="25MB")
        self.tokenizer.save_pretrained(folder)
        self.processor.save_pretrained(folder)
