"""The metrics through `evaluate.load` from the package's folder, offline."""

from pathlib import Path

import pytest

from seed_hf.evaluation import METRICS_PATH


evaluate = pytest.importorskip("evaluate")
METRICS = Path(METRICS_PATH)


@pytest.fixture
def load(tmp_path):
    return lambda name: evaluate.load(str(METRICS / name), cache_dir=str(tmp_path))


def test_every_folder_is_tested_here():
    assert {folder.name for folder in METRICS.iterdir() if folder.name != "__pycache__"} == {
        "seed_caption",
        "seed_retrieval",
        "seed_similarity",
        "seed_vqa",
    }


def test_retrieval(load):
    images = [[1.0, 0.0], [0.0, 1.0]]
    scores = load("seed_retrieval").compute(predictions=images, references=[[[1.0, 0.0], [0.6, 0.8]], [[0.0, 1.0]]])
    assert scores["i2t_r1"] == 100 and scores["t2i_r1"] == pytest.approx(200 / 3)


def test_similarity(load):
    scores = load("seed_similarity").compute(predictions=[[2.0, 0.0], [3.0, 4.0]], references=[[1.0, 0.0], [0.0, 1.0]])
    assert scores["similarity"] == pytest.approx(100 * (1 + 0.8) / 2)


def test_caption(load):
    pytest.importorskip("pycocoevalcap")
    metric = load("seed_caption")
    scores = metric.compute(predictions=["a red apple"], references=[["a red apple", "fruit"]], metrics=["BLEU-2"])
    assert scores["BLEU-2"] == pytest.approx(100) and scores["not_measured"] == {} and scores["tokenization"]


def test_vqa(load):
    metric = load("seed_vqa")
    assert metric.compute(predictions=["Two."], references=[["2"]]) == {"exact_match": 100.0}
    assert metric.compute(predictions=["two"], references=[["2", "2", "3", "2"]]) == {"vqa_accuracy": 75.0}
