"""Adapters of the image tokenizers that transformers and diffusers have: grids of codes, in reading order."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import nn
from transformers.utils import logging

from ..hub.json_files import read_json
from ..models.image_processing_seed import SeedImageProcessor
from ..models.image_tokens_seed import check_codes
from ..models.modeling_seed_quantizer import NO_CODE, check_finite


# Each cell of this many by this many, and not each code, has a part of a feature: an image that is shifted by a code
# stays near, and features of thousands of codes stay small.
_FEATURE_CELLS = 4
_PROCESSOR_SETTINGS = ("image_mean", "image_std", "rescale_factor", "do_rescale", "do_normalize", "resample")
_MINUS_ONE_TO_ONE = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}


@dataclass(frozen=True)
class Sizes:
    """
    Sizes of an image tokenizer whose codes are on a grid.

    Args:
        codebook_size (`int`): Number of codes in the codebook.
        image_size (`int`): Side of an image, in pixels.
        patch_size (`int`): Side of what a code stands for, in pixels.
    """

    codebook_size: int
    image_size: int
    patch_size: int

    @property
    def num_codes(self) -> int:
        """Number of codes of an image."""
        return (self.image_size // self.patch_size) ** 2


class GridAdapter(nn.Module):
    """
    A model that has a code for each square of an image, as an [`ImageTokenizer`].

    Images are made into squares as for SEED, and not cropped or padded, so that all image tokenizers see the same.

    Args:
        model (`nn.Module`): The model of another library, in evaluation mode.
        image_size (`int`, *optional*): Side of an image in pixels, a multiple of what a code stands for; by default
            the one that the model was made for, where it says so.
        image_settings (`dict`, *optional*): Settings of [`SeedImageProcessor`], such as `image_mean`; by default those
            of the released models of this kind.
        folder (`Path`, *optional*): Folder of the model.

    Raises:
        ValueError: An image size that the model cannot have.
    """

    can_decode: ClassVar[bool] = True
    codebook_per_query: ClassVar[bool] = False
    has_one_size: ClassVar[bool] = False
    default_settings: ClassVar[dict] = _MINUS_ONE_TO_ONE
    default_image_size: ClassVar[int] = 256

    def __init__(
        self,
        model: nn.Module,
        image_size: int | None = None,
        image_settings: dict | None = None,
        folder: Path | None = None,
    ):
        super().__init__()
        self.folder = folder
        sizes = self.sizes(model.config, image_size)
        side = {"height": sizes.image_size, "width": sizes.image_size}
        self.model, self.name = model.eval().requires_grad_(False), type(model).__name__
        self.image_processor = SeedImageProcessor(size=side, **{**self.default_settings, **(image_settings or {})})
        self.codebook_size, self.num_codes, self.image_size = sizes.codebook_size, sizes.num_codes, sizes.image_size
        self.side = sizes.image_size // sizes.patch_size

    # ------------------------------------------------------------------------------------------ of each kind
    @classmethod
    def read_config(cls, folder: Path) -> Any:
        """Reads the configuration of a folder, without the weights."""
        raise NotImplementedError

    @classmethod
    def load_model(cls, folder: Path, dtype: str) -> nn.Module:
        """Loads the model of a folder, from safetensors only and strictly."""
        raise NotImplementedError

    @classmethod
    def sizes(cls, config: Any, image_size: int | None = None) -> Sizes:
        """
        Says how many codes there are.

        Args:
            config: Configuration of the model.
            image_size (`int`, *optional*): Side of an image in pixels.

        Returns:
            [`Sizes`]: The sizes.

        Raises:
            ValueError: An image size that the model cannot have.
        """
        raise NotImplementedError

    def _latent_grid(self, pixel_values: torch.FloatTensor) -> torch.FloatTensor:
        """What is quantized, `(batch_size, code_dim, side, side)`."""
        return self.model.quant_conv(self.model.encoder(pixel_values))

    def _quantize(self, latents: torch.FloatTensor) -> torch.LongTensor:
        """Codes of a grid, in any shape."""
        return self.model.quantize(latents)[2]

    def _decode(self, codes: torch.LongTensor) -> torch.FloatTensor:
        """Pixels as `prepare` gives them."""
        return self.model.decode(codes)

    # ------------------------------------------------------------------------------------------ of all
    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return next(self.model.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    def prepare(self, images: Any) -> torch.FloatTensor:
        """See [`ImageTokenizer`]."""
        return self.image_processor(images, return_tensors="pt")["pixel_values"]

    def encode(self, pixel_values: torch.FloatTensor) -> torch.LongTensor:
        """See [`ImageTokenizer`]."""
        return check_finite(self.try_encode(pixel_values), self.dtype)

    @torch.no_grad()
    def try_encode(self, pixel_values: torch.FloatTensor) -> torch.LongTensor:
        """See [`ImageTokenizer`]."""
        latents = self._latent_grid(self._checked(pixel_values))
        codes = self._quantize(latents).view(len(latents), self.num_codes)
        is_finite = pixel_values.isfinite().flatten(1).all(1) & latents.isfinite().flatten(1).all(1)
        return torch.where(is_finite[:, None], codes, NO_CODE)

    @torch.no_grad()
    def decode(self, codes: torch.LongTensor) -> torch.FloatTensor:
        """See [`ImageTokenizer`]."""
        codes = check_codes(codes, self.codebook_size, self.num_codes)
        if not self.can_decode:
            raise ValueError(f"`decode` of a {self.name} is impossible: transformers has only its encoder.")
        pixels, processor = self._decode(codes.to(self.device)).float(), self.image_processor
        if processor.do_normalize:
            mean, std = (
                pixels.new_tensor(values).view(3, 1, 1) for values in (processor.image_mean, processor.image_std)
            )
            pixels = pixels * std + mean
        return (pixels / (255 * (processor.rescale_factor if processor.do_rescale else 1))).clamp(0, 1)

    @torch.no_grad()
    def get_latents(self, pixel_values: torch.FloatTensor) -> torch.FloatTensor:
        """See [`ImageTokenizer`]."""
        return self._latent_grid(self._checked(pixel_values)).flatten(2).transpose(1, 2).float()

    @torch.no_grad()
    def get_code_vectors(self, codes: torch.LongTensor) -> torch.FloatTensor:
        """See [`ImageTokenizer`]."""
        return self._codebook()[check_codes(codes, self.codebook_size).to(self.device)].float()

    @torch.no_grad()
    def get_image_features(self, codes: torch.LongTensor) -> torch.FloatTensor:
        """See [`ImageTokenizer`]; the mean code vectors of 4 x 4 parts of the image, which no caption is near to."""
        codes = check_codes(codes, self.codebook_size, self.num_codes)
        vectors = self.get_code_vectors(codes) - self._codebook().float().mean(0)
        grid = vectors.transpose(1, 2).unflatten(2, (self.side, self.side))
        cells = nn.functional.adaptive_avg_pool2d(grid, min(self.side, _FEATURE_CELLS))
        return nn.functional.normalize(cells.flatten(1), dim=1)

    def _codebook(self) -> torch.FloatTensor:
        return self.model.quantize.embedding.weight

    def _checked(self, pixel_values: torch.FloatTensor) -> torch.FloatTensor:
        shape, wanted = tuple(pixel_values.shape), (3, self.image_size, self.image_size)
        if len(shape) != 4 or shape[1:] != wanted:
            raise ValueError(
                f"`pixel_values` has shape {shape}; allowed: (batch_size, {', '.join(map(str, wanted))})."
            )
        return pixel_values


class _TransformersAdapter(GridAdapter):
    """A part of a model of transformers: alone in its folder, or in that of the whole model."""

    class_names: ClassVar[dict[str, str]]  # of the whole model's parts: name there -> class
    module: ClassVar[str]

    @classmethod
    def read_config(cls, folder: Path) -> Any:
        """See [`GridAdapter`]."""
        return cls._classes()[0].config_class.from_pretrained(folder)

    @classmethod
    def load_model(cls, folder: Path, dtype: str) -> nn.Module:
        """See [`GridAdapter`]."""
        return load_part(cls._classes()[0], folder, next(iter(cls.class_names)), dtype)

    @classmethod
    def _classes(cls) -> list[type]:
        import importlib  # the models of transformers take seconds to import, and only one is needed

        module = importlib.import_module(f"transformers.models.{cls.module}.modeling_{cls.module}")
        return [getattr(module, name) for name in cls.class_names.values()]


def load_part(model_class: type, folder: Path, part: str, dtype: str) -> nn.Module:
    """
    Loads a part of a model strictly, from the folder of the part or of the whole.

    Args:
        model_class (`type`): Class of the part.
        folder (`Path`): Has safetensors.
        part (`str`): Name of the part in the whole model, such as `"vqmodel"`.
        dtype (`str`): Type of the weights.

    Returns:
        `nn.Module`: The part, in evaluation mode.

    Raises:
        ValueError: Weights of the part are missing or of another shape.
    """
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # everything else of the whole model is unexpected, and would be listed
    try:
        model, info = model_class.from_pretrained(
            folder,
            dtype=dtype,
            key_mapping={rf"^(model\.)?{part}\.": ""},
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    finally:
        logging.set_verbosity(level)
    bad = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
    if bad:
        raise ValueError(
            f"`image_tokenizer` {str(folder)!r} lacks {len(bad)} weights of a {model_class.__name__}, or has them in "
            f"another shape, such as {bad[0]!r}; allowed: all of them."
        )
    return model


def whole_squares(image_size: int | None, default: int, patch_size: int) -> int:
    """
    Chooses the side of an image, which falls into whole squares.

    Args:
        image_size (`int`, *optional*): What was asked for, in pixels.
        default (`int`): What is taken otherwise, made smaller where need be.
        patch_size (`int`): Side of what a code stands for.

    Returns:
        `int`: The side of an image.

    Raises:
        ValueError: What was asked for falls into no whole squares.
    """
    if image_size is None:
        return max(1, default // patch_size) * patch_size
    if image_size < patch_size or image_size % patch_size:
        raise ValueError(f"`image_size` is {image_size}; allowed: a multiple of {patch_size}, the side of a code.")
    return image_size


class JanusAdapter(_TransformersAdapter):
    """`JanusVQVAE` of transformers; it has one image size, since its decoder has."""

    module = "janus"
    class_names = {"vqmodel": "JanusVQVAE"}
    has_one_size = True

    @classmethod
    def sizes(cls, config: Any, image_size: int | None = None) -> Sizes:
        """See [`GridAdapter`]."""
        patch_size = 2 ** (len(config.channel_multiplier) - 1)
        own = config.num_patches * patch_size
        if image_size not in (None, own):
            raise ValueError(f"`image_size` is {image_size}; allowed: {own}, the only one of this model.")
        return Sizes(config.num_embeddings, own, patch_size)


class ChameleonAdapter(_TransformersAdapter):
    """`ChameleonVQVAE` of transformers, which has no decoder."""

    module = "chameleon"
    class_names = {"vqmodel": "ChameleonVQVAE"}
    can_decode = False
    # as its image processor has it: 0.0078 is nearly 1 / 127.5
    default_settings = {"image_mean": [1.0] * 3, "image_std": [1.0] * 3, "rescale_factor": 0.0078}

    @classmethod
    def sizes(cls, config: Any, image_size: int | None = None) -> Sizes:
        """See [`GridAdapter`]."""
        patch_size = 2 ** (len(config.channel_multiplier) - 1)
        return Sizes(config.num_embeddings, whole_squares(image_size, config.resolution, patch_size), patch_size)


class Emu3Adapter(_TransformersAdapter):
    """`Emu3VQVAE` of transformers: a model of videos, for which an image is one moment."""

    module = "emu3"
    class_names = {"vqmodel": "Emu3VQVAE"}
    default_image_size = 512

    @classmethod
    def sizes(cls, config: Any, image_size: int | None = None) -> Sizes:
        """See [`GridAdapter`]."""
        patch_size = 2 ** (len(config.channel_multiplier) - 1)
        return Sizes(config.codebook_size, whole_squares(image_size, cls.default_image_size, patch_size), patch_size)

    def _latent_grid(self, pixel_values: torch.FloatTensor) -> torch.FloatTensor:
        frames = self.model.config.temporal_downsample_factor
        hidden = self.model.encoder(pixel_values[:, None].repeat(1, frames, 1, 1, 1))
        return self.model.quant_conv(hidden.transpose(1, 2))[:, :, 0]

    def _quantize(self, latents: torch.FloatTensor) -> torch.LongTensor:
        return self.model.quantize(latents[:, None])

    def _decode(self, codes: torch.LongTensor) -> torch.FloatTensor:
        return self.model.decode(codes.view(-1, self.side, self.side))


class GlmImageEncoder(nn.Module):
    """
    The two parts of GLM-Image that make codes; transformers has no class of them alone.

    Args:
        visual (`GlmImageVisionModel`): Vision transformer.
        vqmodel (`GlmImageVQVAE`): Quantizes what it gives.
    """

    def __init__(self, visual: nn.Module, vqmodel: nn.Module):
        super().__init__()
        self.visual, self.vqmodel = visual, vqmodel
        self.config = SimpleNamespace(vision_config=visual.config, vq_config=vqmodel.config)


class GlmImageAdapter(_TransformersAdapter):
    """`GlmImageVQVAE` of transformers after its vision transformer; a diffusion model elsewhere draws of its codes."""

    module = "glm_image"
    class_names = {"visual": "GlmImageVisionModel", "vqmodel": "GlmImageVQVAE"}
    can_decode = False
    default_image_size = 512
    # the ones of CLIP, which are those of `SeedImageProcessor` too
    default_settings = {}

    @classmethod
    def read_config(cls, folder: Path) -> Any:
        """See [`GridAdapter`]."""
        vision_config, vq_config = (part.config_class.from_pretrained(folder) for part in cls._classes())
        return SimpleNamespace(vision_config=vision_config, vq_config=vq_config, dtype=vision_config.dtype)

    @classmethod
    def load_model(cls, folder: Path, dtype: str) -> nn.Module:
        """See [`GridAdapter`]."""
        parts = zip(cls.class_names, cls._classes(), strict=True)
        return GlmImageEncoder(*(load_part(part, folder, name, dtype) for name, part in parts))

    @classmethod
    def sizes(cls, config: Any, image_size: int | None = None) -> Sizes:
        """See [`GridAdapter`]."""
        if config.vision_config.spatial_merge_size != 1:
            merged = config.vision_config.spatial_merge_size
            raise ValueError(f"`spatial_merge_size` is {merged}; allowed: 1, a code for each patch.")
        patch_size = config.vision_config.patch_size
        image_size = whole_squares(image_size, cls.default_image_size, patch_size)
        return Sizes(config.vq_config.num_embeddings, image_size, patch_size)

    def _latent_grid(self, pixel_values: torch.FloatTensor) -> torch.FloatTensor:
        patch_size = self.image_size // self.side
        patches = pixel_values.unfold(2, patch_size, patch_size).unfold(3, patch_size, patch_size)
        patches = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3 * patch_size**2)
        grids = torch.tensor([[1, self.side, self.side]] * len(pixel_values), device=pixel_values.device)
        hidden = self.model.visual(patches, grid_thw=grids).pooler_output
        hidden = hidden.view(len(pixel_values), self.side, self.side, -1).permute(0, 3, 1, 2)
        # the quantizer compares directions
        return nn.functional.normalize(self.model.vqmodel.quant_conv(hidden), dim=1)

    def _quantize(self, latents: torch.FloatTensor) -> torch.LongTensor:
        return self.model.vqmodel.quantize(latents)[2]

    def _codebook(self) -> torch.FloatTensor:
        return nn.functional.normalize(self.model.vqmodel.quantize.embedding.weight, dim=1)


class VQModelAdapter(GridAdapter):
    """`VQModel` of diffusers. Its configuration does not say for which image size it was made: 256 by default."""

    @classmethod
    def read_config(cls, folder: Path) -> Any:
        """See [`GridAdapter`]."""
        defaults = {"num_vq_embeddings": 256, "block_out_channels": (64,)}
        return SimpleNamespace(**{**defaults, **read_json(folder / "config.json")})

    @classmethod
    def load_model(cls, folder: Path, dtype: str) -> nn.Module:
        """See [`GridAdapter`]."""
        from diffusers import VQModel  # takes seconds, and other image tokenizers do without it

        return VQModel.from_pretrained(folder, torch_dtype=getattr(torch, dtype), use_safetensors=True)

    @classmethod
    def sizes(cls, config: Any, image_size: int | None = None) -> Sizes:
        """See [`GridAdapter`]."""
        patch_size = 2 ** (len(config.block_out_channels) - 1)
        image_size = whole_squares(image_size, cls.default_image_size, patch_size)
        return Sizes(config.num_vq_embeddings, image_size, patch_size)

    def _quantize(self, latents: torch.FloatTensor) -> torch.LongTensor:
        return self.model.quantize(latents)[2][2]

    def _decode(self, codes: torch.LongTensor) -> torch.FloatTensor:
        # `lookup_from_codebook` decides whether `decode` looks codes up, so it is not asked to
        vectors = self._codebook()[codes].transpose(1, 2).unflatten(2, (self.side, self.side))
        is_spatial = self.model.config.norm_type == "spatial"
        return self.model.decoder(self.model.post_quant_conv(vectors), vectors if is_spatial else None)


def image_settings(folder: Path) -> dict[str, Any]:
    """
    Reads how a folder's image processor normalises.

    Args:
        folder (`Path`): May have a preprocessor_config.json or a processor_config.json.

    Returns:
        `dict`: Settings of [`SeedImageProcessor`]; empty where the folder has no image processor.
    """
    settings = {}
    if (folder / "preprocessor_config.json").is_file():
        settings = read_json(folder / "preprocessor_config.json")
    elif (folder / "processor_config.json").is_file():
        settings = read_json(folder / "processor_config.json").get("image_processor", {})
    return {name: settings[name] for name in _PROCESSOR_SETTINGS if settings.get(name) is not None}


__all__ = [
    "ChameleonAdapter",
    "Emu3Adapter",
    "GlmImageAdapter",
    "GlmImageEncoder",
    "GridAdapter",
    "JanusAdapter",
    "Sizes",
    "VQModelAdapter",
    "image_settings",
    "load_part",
    "whole_squares",
]
