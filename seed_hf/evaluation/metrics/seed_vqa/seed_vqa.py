"""Scores of answers of Table 3 for `evaluate.load`."""

import evaluate
from datasets import Features, Sequence, Value

from seed_hf.evaluation import exact_match, vqa_accuracy


DESCRIPTION = "Official VQA accuracy where questions have several annotators, exact match where they have one answer."
INPUTS = """
Args:
    predictions: answer to each question.
    references: people's answers to each question.
"""


class SeedVqa(evaluate.Metric):
    """See [`~seed_hf.evaluation.vqa_accuracy`] and [`~seed_hf.evaluation.exact_match`]."""

    def _info(self):
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=Features({"predictions": Value("string"), "references": Sequence(Value("string"))}),
        )

    def _compute(self, predictions, references):
        if all(len(answers) == 1 for answers in references):
            name, values = "exact_match", exact_match(predictions, [answers[0] for answers in references])
        else:
            name, values = "vqa_accuracy", vqa_accuracy(predictions, references)
        return {name: 100 * sum(values) / len(values)}
