"""Retrieval on held-out pictures, for the evaluation of both tokenizer stages."""

import torch

from seed_hf.evaluation.retrieval import pair_texts, text_features
from seed_hf.metrics_seed import retrieval_recall


def tokenize(tokenizer, captions: list[str], max_length: int):
    """Captions -> ids and mask, padded to the longest and cut to `max_length`."""
    return tokenizer(captions, padding=True, truncation=True, max_length=max_length, return_tensors="pt")


def retrieval_scores(
    model, tokenizer, image_features: torch.Tensor, captions: list[str], max_length: int = 32
) -> dict:
    """Recall both ways between pictures and the distinct captions of the same pictures."""
    names, owners = pair_texts([[caption] for caption in captions], merge_equal=True)
    return retrieval_recall(image_features, text_features(model, tokenizer, names, max_length), owners)
