"""Table 2 of the paper: how much of an image's meaning its codes keep, as CLIP similarity."""

import os
from pathlib import Path
from typing import Any

import torch
from transformers import AutoImageProcessor, CLIPVisionModelWithProjection

from ..data.row_parts import without_codes
from ..data.seeds import derive_seed
from ..hub.fetch import MINI_NAME, find_folder
from ..provenance import describe_model
from .datasets import load_captioned_rows
from .measuring import measure, timed
from .predictor import DEFAULT_SETTINGS, Predictor, RunSettings
from .report import EvaluationReport
from .retrieval_metrics import frechet_distance
from .text_encoders import load_text_encoder


OWN_FEATURES = "own"
NO_CLIP = (
    "no CLIP was named; the similarity is that of the image tokenizer's own retrieval features, which cannot be "
    "compared with other models or with the paper"
)
# no package brings these weights along
NEEDS_DOWNLOAD = {
    "LPIPS": "its backbone is a download of torchvision",
    "FID": "Inception is a download; the Fréchet distance here is that of the features named in `similarity`",
}


class Drawings(Predictor):
    """
    Similarity of images with what the decoder draws from their codes, and from their captions.

    Args:
        folder (`Path`): Folder of the pipeline.
        clip (`Path`, *optional*): Folder of the CLIP that compares; else the image tokenizer's own features do.
        text_encoder (`Path`, *optional*): Folder of what gives the decoder features of captions; else nothing is
            drawn from captions.
        drawing (`dict`): Settings for the pipeline.
        seed (`int`): Seed of the noise; image n gets its own, whatever the batches are.
    """

    def __init__(self, folder: Path, clip: Path | None, text_encoder: Path | None, drawing: dict, seed: int):
        self.folder, self.clip, self.text_encoder = folder, clip, text_encoder
        self.drawing, self.seed = drawing, seed

    def load(self) -> None:
        """Loads the pipeline and what compares."""
        from ..models.pipeline_seed import SeedPipeline

        self.pipeline = SeedPipeline.from_pretrained(self.folder).to(self.device)
        self.pipeline.set_progress_bar_config(disable=True)
        self.image_tokenizer = self.pipeline.image_tokenizer
        if self.clip is not None:
            # Pillow resizes the same whether torchvision is installed or not
            self.clip_processor = AutoImageProcessor.from_pretrained(self.clip, backend="pil")
            self.clip_model = CLIPVisionModelWithProjection.from_pretrained(self.clip).eval().to(self.device)
        if self.text_encoder is not None:
            num_tokens = self.image_tokenizer.config.num_generation_tokens
            self.encode_captions = load_text_encoder(str(self.text_encoder), num_tokens, self.device)

    @torch.no_grad()
    def predict(self, rows: list[dict[str, Any]], numbers: list[int]) -> list[dict[str, Any]]:
        """Features of each image: `original`, `reconstruction`, and with a text encoder `caption`."""
        images = [row["image"] for row in rows]
        pixel_values = self.pipeline.image_processor(images, return_tensors="pt")["pixel_values"]
        codes = self.image_tokenizer.try_encode(pixel_values.to(self.device, self.image_tokenizer.dtype))
        drawn = {"reconstruction": self.draw(numbers, codes=codes.clamp(min=0))}
        if self.text_encoder is not None:
            condition = self.encode_captions([row["caption"] for row in rows]).to(self.device)
            drawn["caption"] = self.draw(numbers, generation_embeds=condition)
        columns = {name: self.features(pictures).tolist() for name, pictures in {"original": images, **drawn}.items()}
        predictions = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        return without_codes(predictions, codes, self.image_tokenizer.dtype)

    def draw(self, numbers: list[int], **condition) -> list:
        """Pictures, each from noise of its own, the same for codes and caption."""
        generator = [torch.Generator().manual_seed(derive_seed(self.seed, number)) for number in numbers]
        return self.pipeline(**condition, **self.drawing, generator=generator).images

    def features(self, images: list) -> torch.Tensor:
        """L2-normalised features, `(num_images, dim)`."""
        if self.clip is None:
            pixel_values = self.pipeline.image_processor(images, return_tensors="pt")["pixel_values"]
            weight = next(self.image_tokenizer.parameters())
            return self.image_tokenizer.get_image_features(pixel_values.to(weight.device, weight.dtype)).pooler_output
        pixel_values = self.clip_processor(images, return_tensors="pt")["pixel_values"].to(self.device)
        return torch.nn.functional.normalize(self.clip_model(pixel_values).image_embeds, dim=-1)


@timed
def evaluate_reconstruction(
    model: str | os.PathLike,
    dataset: str,
    split: str = "test",
    settings: RunSettings = DEFAULT_SETTINGS,
    *,
    clip: str | os.PathLike | None = None,
    text_encoder: str | os.PathLike | None = None,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    seed: int = 0,
) -> EvaluationReport:
    r"""
    Measures how similar images are to their reconstructions from codes, as Table 2 of the paper.

    As in GILL, it is the cosine of CLIP's image embeddings (the paper: ViT-L/14), times 100, averaged over images.
    The upper bound is what the same decoder draws from the caption itself, with the same noise.

    Args:
        model (`str` or `os.PathLike`): `"seed-mini"`, or folder or Hub id of a [`SeedPipeline`].
        dataset (`str`): See [`~seed_hf.evaluation.load_captioned_rows`]. The first caption of an image is drawn.
        split (`str`, defaults to `"test"`): Split to evaluate, possibly with a slice.
        settings ([`RunSettings`], *optional*): How to run.
        clip (`str` or `os.PathLike`, *optional*): Folder or Hub id of a CLIP with its image processor, or `"own"` for
            the retrieval features of the image tokenizer, as a stand-in that cannot be compared with papers.
            Defaults to `"own"` for seed-mini and to `openai/clip-vit-large-patch14` for others.
        text_encoder (`str` or `os.PathLike`, *optional*): Folder or Hub id of the decoder's text encoder, folder of a
            Stable Diffusion pipeline, or `"own"` for the image tokenizer's retrieval features of captions.
            Without one (seed-mini has its own) nothing is drawn from captions, and the report says so.
        num_inference_steps (`int`, *optional*): Number of denoising steps. Defaults to the pipeline's own.
        guidance_scale (`float`, *optional*): Strength of guidance. Defaults to the pipeline's own.
        seed (`int`, defaults to 0): Seed of the noise.

    Returns:
        [`EvaluationReport`]: `reconstruction` (original and reconstruction), `caption_drawing` (original and the
        drawing of its caption: the upper bound), `reconstruction_to_caption_drawing`, and the Fréchet distances
        `reconstruction_frechet_distance` and `caption_drawing_frechet_distance` between the same sets of features.

    Raises:
        ValueError: An argument is wrong, SEED-2 with a text encoder, or `work_dir` holds another run.

    Source: paper section 4.1; `evals` of GILL.

    Example:

    ```python
    >>> from seed_hf.evaluation import RunSettings, evaluate_reconstruction

    >>> settings = RunSettings(limit=16)
    >>> report = evaluate_reconstruction("seed-mini", "emoji", "test_concepts", settings)  # doctest: +SKIP
    >>> report.scores["reconstruction"]  # doctest: +SKIP
    ```
    """
    is_mini = str(model) == MINI_NAME
    folder = find_folder(model, revision=settings.revision)
    clip = clip or (OWN_FEATURES if is_mini else "openai/clip-vit-large-patch14")
    text_encoder = text_encoder or (OWN_FEATURES if is_mini else None)
    clip_folder = None if str(clip) == OWN_FEATURES else find_folder(clip)
    text_folder = folder / "image_tokenizer" if str(text_encoder) == OWN_FEATURES else text_encoder
    text_folder = None if text_folder is None else find_folder(text_folder)
    rows = load_captioned_rows(dataset, split, needs_images=True, **settings.reading)
    parts = sorted(path for path in folder.iterdir() if path.is_dir() and path.name not in ("snapshots", "evaluation"))
    models = {"pipeline": describe_model(model, folder, *parts)}
    named = (("clip", clip, clip_folder), ("text_encoder", text_encoder, text_folder))
    for role, name, path in named:
        if path is not None:
            # that of a diffusion pipeline is in a folder of it
            models[role] = describe_model(name, path / "text_encoder" if (path / "text_encoder").is_dir() else path)
    drawing = {"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale}
    drawing = {name: value for name, value in drawing.items() if value is not None}
    predictor = Drawings(folder, clip_folder, text_folder, drawing, seed)
    deciding = {"drawing": drawing, "seed": seed}
    predictions, report = measure("reconstruction", predictor, rows, (dataset, split), models, deciding, settings, 64)
    report.scores, report.not_measured = _scores_of(predictions)
    report.not_measured |= NEEDS_DOWNLOAD
    if clip_folder is None:
        report.not_measured["CLIP similarity"] = NO_CLIP
    report.settings |= {
        "similarity": str(clip),
        "text_encoder": text_encoder and str(text_encoder),
        "drawing": _drawing_of(folder) | drawing,
    }
    return report


def _scores_of(predictions: list[dict[str, list[float]]]) -> tuple[dict[str, float], dict[str, str]]:
    features = {name: torch.tensor([row[name] for row in predictions]) for name in predictions[0] if name != "row"}
    pairs = {
        "reconstruction": ("original", "reconstruction"),
        "caption_drawing": ("original", "caption"),
        "reconstruction_to_caption_drawing": ("reconstruction", "caption"),
    }
    known = {name: pair for name, pair in pairs.items() if pair[1] in features}
    scores = {name: 100 * _mean_cosine(features[a], features[b]) for name, (a, b) in known.items()}
    if len(predictions) > 1:
        drawn = {name: b for name, (a, b) in known.items() if a == "original"}
        scores |= {
            f"{name}_frechet_distance": frechet_distance(features["original"], features[b])
            for name, b in drawn.items()
        }
    missing = [name for name in pairs if name not in known]
    return scores, dict.fromkeys(missing, "no `text_encoder` of the decoder was named")


def _mean_cosine(first: torch.Tensor, second: torch.Tensor) -> float:
    """Averages the cosine of L2-normalised features, pair by pair."""
    return (first.double() * second.double()).sum(-1).mean().item()


def _drawing_of(folder: Path) -> dict[str, Any]:
    """The pipeline's own settings, for the report."""
    from ..models.pipeline_seed import SeedPipeline

    config = SeedPipeline.load_config(folder)
    return {name: config[name] for name in ("num_inference_steps", "guidance_scale") if name in config}


__all__ = ["evaluate_reconstruction"]
