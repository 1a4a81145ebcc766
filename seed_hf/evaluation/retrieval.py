"""Table 1 of the paper: captions found by images and images by captions, from causal embeddings and from codes."""

import os
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from ..data.row_parts import without_codes
from ..hub.fetch import find_image_tokenizer
from ..inference import text_features
from ..models.image_processing_seed import SeedImageProcessor
from ..models.modeling_seed_image_tokenizer import SeedImageTokenizer
from ..models.modeling_seed_quantizer import NO_CODE
from ..provenance import describe_model
from .datasets import load_captioned_rows, references_of
from .measuring import measure, timed
from .predictor import DEFAULT_SETTINGS, Predictor, RunSettings
from .report import EvaluationReport
from .retrieval_metrics import codebook_use, retrieval_recall


SOURCES = ("causal_embeddings", "codes")


class ImageFeatures(Predictor):
    """Features of images from causal embeddings and from codes, and the codes."""

    def __init__(self, folders: tuple[Path, Path], dtype: str):
        self.folders, self.dtype = folders, dtype

    def load(self) -> None:
        """Loads the image tokenizer."""
        self.processor = SeedImageProcessor.from_pretrained(self.folders[1])
        self.model = SeedImageTokenizer.from_pretrained(self.folders[0], dtype=self.dtype).eval().to(self.device)

    @torch.no_grad()
    def predict(self, rows: list[dict[str, Any]], numbers: list[int]) -> list[dict[str, Any]]:
        """For each image the features `causal_embeddings` and `codes`, and the codes themselves as `code_ids`."""
        pixel_values = self.processor([row["image"] for row in rows], return_tensors="pt")["pixel_values"]
        causal = self.model.get_image_features(pixel_values.to(self.device, self.model.dtype))
        codes = self.model.quantizer(causal.last_hidden_state, codes_only=True).codes
        features = {"causal_embeddings": causal.pooler_output}
        if self.model.reconstruction_decoder is not None:
            features["codes"] = self.model.get_image_features(codes=codes.clamp(min=0)).pooler_output
        for feature in features.values():
            codes = codes.where(feature.isfinite().all(1, keepdim=True), NO_CODE)
        columns = {name: feature.tolist() for name, feature in features.items()} | {"code_ids": codes.tolist()}
        predictions = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        return without_codes(predictions, codes, self.model.dtype)


def pair_texts(references: list[list[str]], merge_equal: bool) -> tuple[list[str], list[list[int]]]:
    """
    Lists the texts to search among, and which of them belong to each image.

    Args:
        references (`list[list[str]]`): Captions of each image.
        merge_equal (`bool`): Whether equal captions are one text, which then belongs to several images. The
            Karpathy splits count every caption; names of emoji are shared by many drawings.

    Returns:
        `tuple[list[str], list[list[int]]]`: texts, and rows of them for each image.
    """
    if merge_equal:
        texts = sorted({text for captions in references for text in captions})
        position = {text: row for row, text in enumerate(texts)}
        return texts, [sorted({position[text] for text in captions}) for captions in references]
    texts = [text for captions in references for text in captions]
    ends = torch.tensor([len(captions) for captions in references]).cumsum(0).tolist()
    return texts, [list(range(end - len(captions), end)) for captions, end in zip(references, ends, strict=True)]


@timed
def evaluate_retrieval(
    model: str | os.PathLike,
    dataset: str,
    split: str = "test",
    settings: RunSettings = DEFAULT_SETTINGS,
    *,
    max_text_tokens: int = 32,
    merge_equal_captions: bool | None = None,
    dtype: str = "float32",
    block_size: int = 4096,
) -> EvaluationReport:
    r"""
    Measures retrieval in both directions from causal embeddings and from codes, as Table 1 of the paper.

    Args:
        model (`str` or `os.PathLike`): `"seed-mini"`, or folder or Hub id of an image tokenizer or a pipeline, with
            the text tokenizer of its Q-Former. Codes are measured where it has the blocks that rebuild causal
            embeddings (the published inference weights leave them out).
        dataset (`str`): See [`~seed_hf.evaluation.load_captioned_rows`].
        split (`str`, defaults to `"test"`): Split to evaluate, possibly with a slice.
        settings ([`RunSettings`], *optional*): How to run.
        max_text_tokens (`int`, defaults to 32): Number of tokens that captions are cut to.
        merge_equal_captions (`bool`, *optional*): Whether equal captions of different images count as one text. By
            default only for data with one caption for each image.
        dtype (`str`, defaults to `"float32"`): Type of the weights.
        block_size (`int`, defaults to 4096): Number of images and texts compared at once.

    Returns:
        [`EvaluationReport`]: scores such as `causal_embeddings_i2t_r1` and `codes_r_mean`, in percent.

    Raises:
        ValueError: An argument is wrong, or `work_dir` holds another run.

    Example:

    ```python
    >>> from seed_hf.evaluation import RunSettings, evaluate_retrieval

    >>> report = evaluate_retrieval("seed-mini", "emoji", "test_concepts", RunSettings(limit=32))  # doctest: +SKIP
    >>> report.scores["codes_r_mean"]  # doctest: +SKIP
    ```
    """
    folders = find_image_tokenizer(model, settings.revision)
    rows = load_captioned_rows(dataset, split, needs_images=True, **settings.reading)
    models = {"image_tokenizer": describe_model(model, *folders)}
    predictor = ImageFeatures(folders, dtype)
    predictions, report = measure("retrieval", predictor, rows, (dataset, split), models, {"dtype": dtype}, settings)
    references = [
        references_of(row) for row in rows.remove_columns("image").select([row["row"] for row in predictions])
    ]
    if merge_equal_captions is None:
        merge_equal_captions = all(len(captions) == 1 for captions in references)
    texts, image_to_text = pair_texts(references, merge_equal_captions)
    image_tokenizer = SeedImageTokenizer.from_pretrained(folders[0], dtype=dtype).eval()
    image_tokenizer.to("cuda" if torch.cuda.is_available() else "cpu")
    features = text_features(image_tokenizer, AutoTokenizer.from_pretrained(folders[0]), texts, max_text_tokens)
    for source in SOURCES:
        if source not in predictions[0]:
            report.not_measured[source] = "the image tokenizer has no blocks that rebuild causal embeddings from codes"
            continue
        images = torch.tensor([row[source] for row in predictions], device=features.device)
        recall = retrieval_recall(images, features, image_to_text, block_size=block_size)
        report.scores |= {f"{source}_{name}": value for name, value in recall.items()}
    codes = torch.tensor([row["code_ids"] for row in predictions])
    report.scores |= codebook_use(codes, image_tokenizer.config.codebook_size)
    report.data["num_texts"] = len(texts)
    report.settings |= {"max_text_tokens": max_text_tokens, "merge_equal_captions": merge_equal_captions}
    return report


def tokenize(tokenizer, captions: list[str], max_length: int):
    """Captions -> ids and mask, padded to the longest and cut to `max_length`."""
    return tokenizer(captions, padding=True, truncation=True, max_length=max_length, return_tensors="pt")


def retrieval_scores(
    model, tokenizer, image_features: torch.Tensor, captions: list[str], max_length: int = 32
) -> dict:
    """Measures recall both ways between images and their distinct captions."""
    names, owners = pair_texts([[caption] for caption in captions], merge_equal=True)
    return retrieval_recall(image_features, text_features(model, tokenizer, names, max_length), owners)


__all__ = ["evaluate_retrieval", "pair_texts"]
