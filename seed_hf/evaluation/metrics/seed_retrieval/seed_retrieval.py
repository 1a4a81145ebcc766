"""Retrieval of Table 1 for `evaluate.load`."""

import evaluate
import torch
from datasets import Features, Sequence, Value

from seed_hf.evaluation.retrieval_metrics import retrieval_recall


DESCRIPTION = "Recall at 1, 5 and 10 in both directions between images and their texts, and the mean, in percent."
INPUTS = """
Args:
    predictions: feature of each image, L2-normalised.
    references: for each image the features of its texts, L2-normalised.
    ks: depths.
"""


class SeedRetrieval(evaluate.Metric):
    """See [`~seed_hf.evaluation.retrieval_metrics.retrieval_recall`]."""

    def _info(self):
        vector = Sequence(Value("float32"))
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=Features({"predictions": vector, "references": Sequence(vector)}),
        )

    def _compute(self, predictions, references, ks=(1, 5, 10)):
        ends = torch.tensor([len(texts) for texts in references]).cumsum(0).tolist()
        rows = [list(range(end - len(texts), end)) for texts, end in zip(references, ends, strict=True)]
        texts = torch.tensor([text for texts in references for text in texts])
        return retrieval_recall(torch.tensor(predictions), texts, rows, ks=ks)
