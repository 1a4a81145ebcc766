"""What every image tokenizer can do here, whoever made it, and the adapter of SEED's own."""

import copy
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from PIL import Image
from torch import nn

from ..models.image_processing_seed import SeedImageProcessor
from ..models.image_tokens_seed import check_codes
from ..models.modeling_seed_image_tokenizer import SeedImageTokenizer


# as many pixels as 32 images of the size that SEED reads
_PIXELS_AT_ONCE = 32 * 224**2


@runtime_checkable
class ImageTokenizer(Protocol):
    """
    An image tokenizer: images to a fixed number of codes, and back where it can.

    Args:
        name (`str`): Class of the model.
        codebook_size (`int`): Number of codes in the codebook.
        num_codes (`int`): Number of codes of an image.
        codebook_per_query (`bool`): Whether the codebook falls into equal parts, one for each place in an image.
        image_size (`int`): Side of the squares that images are made into, in pixels.
        can_decode (`bool`): Whether it turns codes into images again.
        image_processor ([`SeedImageProcessor`]): Makes `pixel_values` as the model wants them.
        folder (`Path`, *optional*): Where it was loaded from.
        dtype (`torch.dtype`): Type of the weights.
        device (`torch.device`): Where the weights are.
    """

    name: str
    codebook_size: int
    num_codes: int
    codebook_per_query: bool
    image_size: int
    can_decode: bool
    image_processor: SeedImageProcessor
    folder: Path | None
    dtype: torch.dtype
    device: torch.device

    def prepare(self, images: Any) -> torch.FloatTensor:
        """
        Images of any kind to normalised squares.

        Args:
            images: What [`SeedImageProcessor`] takes.

        Returns:
            `torch.FloatTensor` of shape `(batch_size, 3, image_size, image_size)`.
        """
        ...

    def encode(self, pixel_values: torch.FloatTensor) -> torch.LongTensor:
        """
        Images to codes.

        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 3, image_size, image_size)`): From `prepare`.

        Returns:
            `torch.LongTensor` of shape `(batch_size, num_codes)`: codes in `[0, codebook_size)`.

        Raises:
            ValueError: Another shape, or NaN or infinity.
        """
        ...

    def try_encode(self, pixel_values: torch.FloatTensor) -> torch.LongTensor:
        """As `encode`, with codes of -1 for an image with NaN or infinity."""
        ...

    def decode(self, codes: torch.LongTensor) -> torch.FloatTensor:
        """
        Codes to images.

        Args:
            codes (`torch.LongTensor` of shape `(batch_size, num_codes)`): Codes in `[0, codebook_size)`.

        Returns:
            `torch.FloatTensor` of shape `(batch_size, 3, image_size, image_size)`: values from 0 to 1.

        Raises:
            ValueError: Wrong codes, or there is no decoder.
        """
        ...

    def get_latents(self, pixel_values: torch.FloatTensor) -> torch.FloatTensor:
        """What is quantized: a vector for each code, `(batch_size, num_codes, code_dim)`."""
        ...

    def get_code_vectors(self, codes: torch.LongTensor) -> torch.FloatTensor:
        """Vectors of codes of any shape, `(*codes.shape, code_dim)`."""
        ...

    def get_image_features(self, codes: torch.LongTensor) -> torch.FloatTensor:
        """Features of images by their codes alone, of length 1: near each other for images that are alike."""
        ...


class SeedAdapter(nn.Module):
    """
    SEED's image tokenizer as an [`ImageTokenizer`].

    Args:
        model ([`SeedImageTokenizer`]): In evaluation mode.
        image_processor ([`SeedImageProcessor`], *optional*): Its own.
        folder (`Path`, *optional*): Folder of the model, which may have the tokenizer of its text side.
        pipeline (`Path` or [`SeedPipeline`], *optional*): Draws pictures of codes; loaded when it is asked for.
    """

    def __init__(
        self,
        model: SeedImageTokenizer,
        image_processor: SeedImageProcessor | None = None,
        folder: Path | None = None,
        pipeline: Any = None,
    ):
        super().__init__()
        self.model, self.image_processor, self.folder = model, image_processor, folder
        # in a tuple: the modules of a pipeline are no part of the image tokenizer
        self._pipeline = (pipeline,)
        config = model.config
        self.name, self.codebook_size, self.num_codes = (
            type(model).__name__,
            config.codebook_size,
            config.num_query_tokens,
        )
        self.codebook_per_query, self.image_size = config.codebook_per_query, config.vision_config.image_size
        self.can_decode = pipeline is not None

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return self.model.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    def prepare(self, images: Any) -> torch.FloatTensor:
        """See [`ImageTokenizer`]."""
        return self.image_processor(images, return_tensors="pt")["pixel_values"]

    @torch.no_grad()
    def encode(self, pixel_values: torch.FloatTensor) -> torch.LongTensor:
        """See [`ImageTokenizer`]."""
        return self.model.encode(pixel_values)

    @torch.no_grad()
    def try_encode(self, pixel_values: torch.FloatTensor) -> torch.LongTensor:
        """See [`ImageTokenizer`]."""
        return self.model.try_encode(pixel_values)

    @torch.no_grad()
    def decode(self, codes: torch.LongTensor) -> torch.FloatTensor:
        """See [`ImageTokenizer`]; the noise of the pictures is always the same, and so is their size."""
        codes = check_codes(codes, self.codebook_size, self.num_codes)
        if not self.can_decode:
            raise ValueError("`decode` needs a pipeline to draw with; allowed: an image tokenizer out of a pipeline.")
        (pipeline,) = self._pipeline
        if isinstance(pipeline, Path):
            from ..models.pipeline_seed import SeedPipeline  # brings diffusers, which codes alone do without

            pipeline = SeedPipeline.from_pretrained(pipeline, image_tokenizer=self.model).to(self.device)
            pipeline.set_progress_bar_config(disable=True)
            self._pipeline = (pipeline,)
        generators = [torch.Generator().manual_seed(0) for _ in codes]
        pictures = pipeline(codes=codes.to(self.device), generator=generators, output_type="pt").images.float()
        if pictures.shape[-1] != self.image_size:
            size = (self.image_size, self.image_size)
            pictures = nn.functional.interpolate(pictures, size, mode="bicubic", antialias=True)
        return pictures.clamp(0, 1)

    @torch.no_grad()
    def get_latents(self, pixel_values: torch.FloatTensor) -> torch.FloatTensor:
        """See [`ImageTokenizer`]."""
        return self.model.quantizer.project(self.model.get_causal_embeds(pixel_values)).float()

    @torch.no_grad()
    def get_code_vectors(self, codes: torch.LongTensor) -> torch.FloatTensor:
        """See [`ImageTokenizer`]."""
        return self.model.get_code_vectors(codes).float()

    @torch.no_grad()
    def get_image_features(self, codes: torch.LongTensor) -> torch.FloatTensor:
        """See [`ImageTokenizer`]; they lie near those of captions."""
        codes = check_codes(codes, self.codebook_size, self.num_codes)
        return self.model.get_image_features(codes=codes.to(self.device)).pooler_output


def as_image_tokenizer(model: SeedImageTokenizer | ImageTokenizer) -> ImageTokenizer:
    """
    Gives the protocol to what only needs codes and their vectors.

    Args:
        model ([`SeedImageTokenizer`] or [`ImageTokenizer`]): Any of both.

    Returns:
        [`ImageTokenizer`]: `model`, or the adapter around it, without an image processor.
    """
    return SeedAdapter(model) if isinstance(model, SeedImageTokenizer) else model


def seed_model(image_tokenizer: ImageTokenizer, what: str) -> SeedImageTokenizer:
    """
    Gives the model behind an image tokenizer where something is asked that only SEED has.

    Args:
        image_tokenizer ([`ImageTokenizer`]): Any, or a [`SeedImageTokenizer`] itself.
        what (`str`): What is asked, for the error.

    Returns:
        [`SeedImageTokenizer`]: The model.

    Raises:
        ValueError: It is another image tokenizer.
    """
    if isinstance(image_tokenizer, SeedImageTokenizer):
        return image_tokenizer
    if not isinstance(image_tokenizer, SeedAdapter):
        name = getattr(image_tokenizer, "name", type(image_tokenizer).__name__)
        raise ValueError(f"`model` is a {name}, which has no {what}; allowed: an image tokenizer of SEED.")
    return image_tokenizer.model


def images_at_once(image_tokenizer: ImageTokenizer) -> int:
    """Number of images whose activations fit a common memory: 32 of 224 x 224 pixels, or as many pixels."""
    return max(1, _PIXELS_AT_ONCE // image_tokenizer.image_size**2)


def encode_images(
    image_tokenizer: ImageTokenizer, images: list[Any], batch_size: int | None = None
) -> torch.LongTensor:
    """
    Turns images into codes, some at a time.

    Args:
        image_tokenizer ([`ImageTokenizer`]): Any.
        images (`list`): Images in any form that [`SeedImageProcessor`] takes.
        batch_size (`int`, *optional*): Number of images at once; by default that of [`images_at_once`].

    Returns:
        `torch.LongTensor` of shape `(num_images, num_codes)`: codes, on the CPU.

    Raises:
        ValueError: No image, or one that has no codes.
    """
    batch_size = batch_size or images_at_once(image_tokenizer)
    codes = []
    for start in range(0, max(1, len(images)), batch_size):
        pixel_values = image_tokenizer.prepare(images[start : start + batch_size])
        codes.append(image_tokenizer.encode(pixel_values.to(image_tokenizer.device, image_tokenizer.dtype)).cpu())
    return torch.cat(codes)


@torch.no_grad()
def decode_images(image_tokenizer: ImageTokenizer, codes: torch.LongTensor) -> list[Image.Image]:
    """
    Turns codes into images that can be shown or saved.

    Args:
        image_tokenizer ([`ImageTokenizer`]): One that has a decoder.
        codes (`torch.LongTensor` of shape `(num_images, num_codes)`): Codes in `[0, codebook_size)`.

    Returns:
        `list[PIL.Image.Image]`: RGB, squares of `image_size` pixels.

    Raises:
        ValueError: Wrong codes, or there is no decoder.
    """
    pixels = torch.cat([image_tokenizer.decode(part) for part in codes.split(images_at_once(image_tokenizer))])
    arrays = (255 * pixels).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(array) for array in arrays]


def in_dtype(image_tokenizer: ImageTokenizer, dtype: torch.dtype) -> ImageTokenizer:
    """
    Copies an image tokenizer with weights of another type.

    Args:
        image_tokenizer ([`ImageTokenizer`]): Not changed.
        dtype (`torch.dtype`): Such as `torch.bfloat16`.

    Returns:
        [`ImageTokenizer`]: The copy.
    """
    return copy.deepcopy(image_tokenizer).to(dtype)


__all__ = [
    "ImageTokenizer",
    "SeedAdapter",
    "as_image_tokenizer",
    "decode_images",
    "encode_images",
    "images_at_once",
    "in_dtype",
    "seed_model",
]
