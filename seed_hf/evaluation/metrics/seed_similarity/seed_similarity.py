"""Similarity of Table 2 for `evaluate.load`."""

import evaluate
import torch
from datasets import Features, Sequence, Value


DESCRIPTION = "Mean cosine, times 100, of features of pictures: with CLIP's image embeddings, GILL's CLIP similarity."
INPUTS = """
Args:
    predictions: feature of each drawn picture.
    references: feature of each original.
"""


class SeedSimilarity(evaluate.Metric):
    """As [`~seed_hf.evaluation.evaluate_reconstruction`] computes it."""

    def _info(self):
        vector = Sequence(Value("float32"))
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=Features({"predictions": vector, "references": vector}),
        )

    def _compute(self, predictions, references):
        cosine = torch.nn.functional.cosine_similarity(torch.tensor(predictions), torch.tensor(references), dim=-1)
        return {"similarity": 100 * cosine.double().mean().item()}
