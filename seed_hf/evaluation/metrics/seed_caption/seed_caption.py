"""Scores of captions of Table 3 for `evaluate.load`."""

import evaluate
from datasets import Features, Sequence, Value

from seed_hf.evaluation import caption_scores


DESCRIPTION = "BLEU, METEOR, ROUGE-L, CIDEr and SPICE as the COCO caption server computes them, times 100."
INPUTS = """
Args:
    predictions: caption of each picture.
    references: people's captions of each picture.
    metrics: some of the metrics; all by default. `not_measured` says which need what is not there.
"""


class SeedCaption(evaluate.Metric):
    """See [`~seed_hf.evaluation.caption_scores`]."""

    def _info(self):
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=Features({"predictions": Value("string"), "references": Sequence(Value("string"))}),
        )

    def _compute(self, predictions, references, metrics=None):
        scored = caption_scores(predictions, references, metrics)
        return {**scored.scores, "not_measured": scored.not_measured, "tokenization": scored.tokenization}
