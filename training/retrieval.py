"""Retrieval on held-out pictures, for the evaluation of both tokenizer stages."""

import torch

from seed_hf import SeedImageTokenizer
from seed_hf.metrics_seed import retrieval_recall


def text_features(model: SeedImageTokenizer, tokenizer, texts: list[str], max_length: int = 32) -> torch.Tensor:
    """L2-normalised features of texts, `(len(texts), projection_dim)`."""
    features = []
    for start in range(0, len(texts), 256):
        batch = tokenize(tokenizer, texts[start : start + 256], max_length).to(model.device)
        features.append(model.get_text_features(batch["input_ids"], batch["attention_mask"]).pooler_output)
    return torch.cat(features)


def tokenize(tokenizer, captions: list[str], max_length: int):
    """Captions -> ids and mask, padded to the longest and cut to `max_length`."""
    return tokenizer(captions, padding=True, truncation=True, max_length=max_length, return_tensors="pt")


def retrieval_scores(
    model, tokenizer, image_features: torch.Tensor, captions: list[str], max_length: int = 32
) -> dict:
    """Recall both ways between pictures and the distinct captions of the same pictures."""
    names = sorted(set(captions))
    position = {name: i for i, name in enumerate(names)}
    texts = text_features(model, tokenizer, names, max_length)
    return retrieval_recall(image_features, texts, [position[caption] for caption in captions])
