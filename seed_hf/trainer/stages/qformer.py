"""Stage 1: the Causal Q-Former, image-text contrastive (paper section 3.1)."""

from pathlib import Path

import torch
from transformers import AutoTokenizer

from ...data.captioned_images import CaptionedImages, all_captions, with_tags
from ...data.reading import UnreadableSampleError, try_image
from ...evaluation.text_encoders import default_text_encoder_folder
from ...mini.vision_stem import IMAGE_MEAN, IMAGE_STD, load_stem, whiten_projection
from ...models.configuration_seed_image_tokenizer import SeedImageTokenizerConfig
from ...models.image_processing_seed import SeedImageProcessor
from ...models.modeling_seed_image_tokenizer import SeedImageTokenizer
from ..feature_cache import FeatureCache
from ..init_from_bert import init_from_bert, load_text_tower, prune_vocabulary
from .images import ImageStage


def load_model(folder: str, text_model: str, attn_implementation: str):
    """Image tokenizer and text tokenizer of a folder.

    Args:
        folder (`str`): Folder or Hub id of a [`SeedImageTokenizer`].
        text_model (`str`): BERT whose tokenizer goes with a model that was converted from BLIP-2 and has none.
        attn_implementation (`str`): As in transformers.

    Raises:
        ValueError: If the tokenizer has more words than the model.
    """
    # float32 whatever the saved type is: small updates are lost in half precision
    model = SeedImageTokenizer.from_pretrained(folder, dtype=torch.float32, attn_implementation=attn_implementation)
    has_own = not Path(folder).is_dir() or any(Path(folder).glob("tokenizer*.json"))
    tokenizer = AutoTokenizer.from_pretrained(folder if has_own else text_model)
    vocab_size = model.config.qformer_config.vocab_size
    if len(tokenizer) > vocab_size:
        raise ValueError(f"`text_model` {text_model!r} has {len(tokenizer)} words; allowed: {vocab_size} at most.")
    return model, tokenizer


def build_model(
    config_file: str, text_model: str, attn_implementation: str, data: CaptionedImages, num_frequent_words: int = 0
):
    """Image tokenizer with new weights and its text tokenizer, on top of a pretrained BERT.

    Args:
        config_file (`str`): Configuration.
        text_model (`str`): Folder or Hub id of a BERT; or `"minilm"`.
        attn_implementation (`str`): As in transformers.
        data ([`~seed_hf.data.captioned_images.CaptionedImages`]): The words of its captions stay in the vocabulary.
        num_frequent_words (`int`, defaults to 0): Number of further words that stay; 0 keeps all.
    """
    tokenizer, bert = load_text_tower(default_text_encoder_folder() if text_model == "minilm" else text_model)
    kept_ids = None
    if num_frequent_words:
        tags = data.rows["tags"] if "tags" in data.rows.column_names else []
        texts = [*all_captions(data.rows), *(tag for row in tags for tag in row or [])]
        tokenizer, kept_ids = prune_vocabulary(tokenizer, texts, num_frequent_words)
    config = SeedImageTokenizerConfig.from_pretrained(config_file, attn_implementation=attn_implementation)
    config.qformer_config.vocab_size = len(tokenizer)
    model = SeedImageTokenizer(config)
    init_from_bert(model, bert, kept_ids)
    if config.use_conv_stem:
        start_stem(model, data)
    return model, tokenizer


@torch.no_grad()
def start_stem(model: SeedImageTokenizer, data: CaptionedImages, num_images: int = 512) -> None:
    """Pretrained weights for the stem, and principal axes of what it gives for some of the images."""
    stem = model.vision_model.embeddings.patch_embedding
    load_stem(stem)
    processor, size = build_processor(model), len(data.rows)
    num_images = min(num_images, size)
    found = (try_image(data.rows[number * size // num_images])[0] for number in range(num_images))
    images = [image for image in found if not isinstance(image, UnreadableSampleError)]
    batches = [images[start : start + 16] for start in range(0, len(images), 16)]
    pixels = (processor(part, return_tensors="pt")["pixel_values"] for part in batches)
    whiten_projection(stem, torch.cat([stem.get_features(part) for part in pixels]))


def freeze_for_stage_1(model: SeedImageTokenizer, train_vision: bool = False) -> None:
    """The original trains everything but the ViT, whose last norm (`ln_vision`) is trained, and the parts of stage 2.

    Args:
        model ([`SeedImageTokenizer`]): Changed in place.
        train_vision (`bool`, defaults to `False`): Also train the ViT; of a pretrained stem its last layers.
    """
    model.requires_grad_(False)
    vision = model.vision_model
    for part in (model.causal_qformer, model.vision_projection, model.text_projection, vision.post_layernorm):
        part.requires_grad_(True)
    model.temperature.requires_grad_(True)
    if train_vision:
        vision.requires_grad_(True)
        if model.config.use_conv_stem:
            stem = vision.embeddings.patch_embedding.requires_grad_(False)
            for part in stem.trained_parts():
                part.requires_grad_(True)


def build_processor(model: SeedImageTokenizer, folder: str | None = None) -> SeedImageProcessor:
    """The transform that the pretrained vision expects: its folder's own, or CLIP's colours, or the stem's."""
    if folder and (Path(folder) / "preprocessor_config.json").is_file():
        return SeedImageProcessor.from_pretrained(folder)
    size = model.config.vision_config.image_size
    colours = {"image_mean": IMAGE_MEAN, "image_std": IMAGE_STD} if model.config.use_conv_stem else {}
    return SeedImageProcessor(size={"height": size, "width": size}, **colours)


class QFormerStage(ImageStage):
    """Stage 1, as [`~seed_hf.trainer.TrainingRun.fit`] takes it.

    Args:
        args: See [`~seed_hf.trainer.stages.images.ImageStage`].
        tag_probability (`float`, defaults to 0.0): Share of captions followed by some of their tags.
        kwargs: See [`~seed_hf.trainer.stages.images.ImageStage`].

    Attributes:
        cache ([`~seed_hf.trainer.feature_cache.FeatureCache`]): Makes the negatives those of the whole batch where
            micro-batches are accumulated.
    """

    frozen_part, cached_input = "get_vision_features", "vision_features"

    def __init__(self, *args, tag_probability: float = 0.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.tag_probability = tag_probability
        self.cache = FeatureCache(self.model, self.run.accelerator)

    def transform(self, sample: tuple, generator: torch.Generator) -> tuple:
        """A view with its caption, possibly followed by tags."""
        view, caption, tags = sample
        return view, with_tags(caption, tags, self.tag_probability, generator)

    def collate(self, samples: list[tuple]) -> dict[str, torch.Tensor]:
        """Arguments of the model."""
        views, captions = zip(*samples, strict=True)
        return {**self.image_inputs(list(views)), **self.text_inputs(list(captions))}

    def compute_loss(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict]:
        """Contrastive loss, and how often an image's own caption is the nearest."""
        output = self.run.model(**batch)
        to_learn, loss = self.cache.loss_of(output)
        nearest = (output.image_features @ output.text_features.t()).argmax(1)
        accuracy = nearest.eq(torch.arange(len(nearest), device=self.run.device)).float().mean()
        return to_learn, {"loss": loss, "accuracy": accuracy, "temperature": self.model.temperature}

    def evaluate(self) -> dict[str, float]:
        """Retrieval from causal embeddings, on held-out images."""
        batches = self.held_out_batches()
        features = [self.model.get_image_features(pixel_values).pooler_output for _, pixel_values in batches]
        return self.measure_retrieval(torch.cat(features))
