"""The three tables of the paper, measured: retrieval, reconstruction, captions and answers; and their metrics."""

from pathlib import Path

from ..provenance import describe_model
from .caption import evaluate_captions
from .caption_metrics import CAPTION_METRICS, CaptionScores, caption_scores
from .datasets import load_captioned_rows, load_question_rows
from .predictor import RunSettings
from .reconstruction import evaluate_reconstruction
from .report import EvaluationReport
from .retrieval import evaluate_retrieval
from .vqa import evaluate_vqa
from .vqa_metrics import exact_match, normalize_answer, vqa_accuracy


# holds a folder for each metric, for `evaluate.load`
METRICS_PATH = str(Path(__file__).parent / "metrics")

__all__ = [
    "CAPTION_METRICS",
    "METRICS_PATH",
    "CaptionScores",
    "EvaluationReport",
    "RunSettings",
    "caption_scores",
    "describe_model",
    "evaluate_captions",
    "evaluate_reconstruction",
    "evaluate_retrieval",
    "evaluate_vqa",
    "exact_match",
    "load_captioned_rows",
    "load_question_rows",
    "normalize_answer",
    "vqa_accuracy",
]
