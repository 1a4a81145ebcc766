"""Scores of captions against `pycocoevalcap` itself, and what is said where Java or a download is missing."""

import json
import os
import random
import re
import shutil
from pathlib import Path

import pytest

from seed_hf.evaluation import CAPTION_METRICS, caption_metrics, caption_scores
from seed_hf.evaluation.caption_metrics import split_words
from seed_hf.evaluation.one_line import replace_line_ends


pycocoevalcap = pytest.importorskip("pycocoevalcap")
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="the official tokenizer and METEOR run in Java")

# What the authors of the scorer print for their example (README of tylin/coco-caption).
EXAMPLE_SCORES = {"BLEU-4": 19.1, "METEOR": 19.5, "ROUGE-L": 39.6, "CIDEr": 60.0}
THINGS, PLACES = ["a dog", "two cats", "the man's bike", "an old-fashioned car"], ["street", "beach", "bed", "table"]
DEEDS = ["is standing on", "doesn't leave", "(slowly) moves over", "sits, alone, on"]


def make_captions(number, count=3):
    draw = random.Random(number)
    return [f"{draw.choice(THINGS)} {draw.choice(DEEDS)} the {draw.choice(PLACES)}." for _ in range(count)]


REFERENCES = [make_captions(number) for number in range(12)]
PREDICTIONS = [make_captions(number + 100, 1)[0].capitalize() for number in range(12)]


class Annotations:
    """What `pycocoevalcap` takes of a `pycocotools.COCO`."""

    def __init__(self, captions):
        self.imgToAnns = {number: [{"caption": text} for text in texts] for number, texts in enumerate(captions)}

    def getImgIds(self):  # noqa: N802
        return list(self.imgToAnns)


def official_scores(predictions, references, metrics, monkeypatch):
    """By the official driver, without SPICE (a download), and without METEOR where it is not asked for."""
    official = pytest.importorskip("pycocoevalcap.eval")

    for name in {"METEOR", "SPICE"} - set(metrics):
        none = {"method": staticmethod(lambda name=name: name)}
        none["compute_score"] = staticmethod(lambda wanted, written: (0.0, [0.0] * len(wanted)))
        monkeypatch.setattr(official, name.capitalize(), type(name, (), none))
    run = official.COCOEvalCap(Annotations(references), Annotations([[text] for text in predictions]))
    run.evaluate()
    return {name: 100 * run.eval[name.replace("-", "_").replace("BLEU", "Bleu")] for name in CAPTION_METRICS}


QUICK_METRICS = [name for name in CAPTION_METRICS if name not in ("METEOR", "SPICE")]


# slow: METEOR reads its tables of paraphrases anew in each of two Java processes, which takes half a minute
@pytest.mark.parametrize("metrics", [QUICK_METRICS, pytest.param([*CAPTION_METRICS], marks=pytest.mark.slow)], ids=len)
@needs_java
def test_equal_to_the_official_driver(metrics, monkeypatch, capsys):
    expected = official_scores(PREDICTIONS, REFERENCES, set(metrics) - {"SPICE"}, monkeypatch)
    scored = caption_scores(PREDICTIONS, REFERENCES, metrics)
    assert scored.tokenization == "PTB"
    assert 0 < scored.scores["BLEU-4"] < 100 and ("METEOR" in scored.scores) == ("METEOR" in metrics)
    for name, value in scored.scores.items():
        assert value == pytest.approx(expected[name], abs=1e-6), name
    assert set(scored.scores) | set(scored.not_measured) == set(metrics)


@pytest.mark.slow
@needs_java
def test_example_of_pycocoevalcap():
    """Its `example/` folder (40 MB, not in the wheel), named by PYCOCOEVALCAP_EXAMPLE: equal to its printed scores."""
    folder = os.environ.get("PYCOCOEVALCAP_EXAMPLE")
    if not folder:
        pytest.skip("PYCOCOEVALCAP_EXAMPLE names no folder with captions_val2014.json")
    written = json.loads(Path(folder, "captions_val2014_fakecap_results.json").read_text())
    wanted = {record["image_id"]: [] for record in written}
    for record in json.loads(Path(folder, "captions_val2014.json").read_text())["annotations"]:
        if record["image_id"] in wanted:
            wanted[record["image_id"]].append(record["caption"])
    scored = caption_scores([record["caption"] for record in written], list(wanted.values()), list(EXAMPLE_SCORES))
    for name, value in EXAMPLE_SCORES.items():
        assert scored.scores[name] == pytest.approx(value, abs=0.05), name


def test_without_java_it_is_said(monkeypatch):
    monkeypatch.setattr(caption_metrics, "has_java", lambda: False)
    scored = caption_scores(PREDICTIONS, REFERENCES)
    assert set(scored.not_measured) == {"METEOR", "SPICE"}
    assert all("Java" in reason for reason in scored.not_measured.values())
    assert scored.tokenization.startswith("words by rule") and "Java" in scored.tokenization
    assert set(scored.scores) == set(CAPTION_METRICS) - {"METEOR", "SPICE"}


@needs_java
def test_rule_agrees_with_the_official_tokenizer():
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    texts = [*sum(REFERENCES, []), *PREDICTIONS, "A 'quoted' word; isn't it?", "Two 3.5-inch, 1,000 pieces - all!"]
    done = PTBTokenizer().tokenize({number: [{"caption": text}] for number, text in enumerate(texts)})
    assert [split_words(text) for text in texts] == [done[number][0] for number in range(len(texts))]


def test_spice_without_its_models_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(caption_metrics, "_import", lambda module, name: str(tmp_path))
    monkeypatch.setattr(caption_metrics, "has_java", lambda: True)
    with pytest.raises(caption_metrics.MissingScorerError, match="Stanford CoreNLP"):
        caption_metrics._spice({0: ["a"]}, {0: ["a"]})


# where some reader of lines sees an end: Java, Python's `splitlines`, Unicode; and other control characters
LINE_ENDS = ("\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029")
CONTROLS = (*LINE_ENDS, "\x00", "\x07", "\x1b", "\x1f", "\x7f", "\x9f", "\ud800")


class LineTokenizer:
    """Reads one caption a line, as the official tokenizer does, and ends lines wherever one of its parts might."""

    def tokenize(self, captions):
        owners = [number for number, records in captions.items() for _ in records]
        text = "\n".join(record["caption"] for records in captions.values() for record in records)
        lines = re.split("\r\n|[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]", text.encode().decode())
        done = {}
        for number, line in zip(owners, lines, strict=False):
            done.setdefault(number, []).append(split_words(line))
        return done


def odd_captions():
    """Captions with an odd character each, the same without, and plain ones behind them."""
    odd = [f"a{end}b{end}" for end in CONTROLS] + ["", " ", "x y", "the owl sits"]
    return odd, [["a b"]] * len(CONTROLS) + [["nothing"], ["empty"], ["x y"], ["the owl sits"]]


def check_only_empty_captions_lose(scores):
    count = len(CONTROLS) + 4
    assert scores["ROUGE-L"] == pytest.approx(100 * (count - 2) / count, abs=1e-6)
    assert scores["BLEU-1"] > 90  # every word is right; two captions of one word are missing, which makes it too short


def test_odd_line_ends_shift_no_caption(monkeypatch):
    monkeypatch.setattr(caption_metrics, "has_java", lambda: True)
    found = caption_metrics._import
    monkeypatch.setattr(
        caption_metrics,
        "_import",
        lambda module, name: LineTokenizer if name == "PTBTokenizer" else found(module, name),
    )
    predictions, references = odd_captions()
    scored = caption_scores(predictions, references, ["BLEU-1", "ROUGE-L"])
    assert scored.tokenization == "PTB"
    check_only_empty_captions_lose(scored.scores)
    swapped = caption_scores([texts[0] for texts in references], [[text] for text in predictions], ["ROUGE-L"])
    assert swapped.scores["ROUGE-L"] == pytest.approx(scored.scores["ROUGE-L"])


def test_odd_line_ends_without_java(monkeypatch):
    monkeypatch.setattr(caption_metrics, "has_java", lambda: False)
    check_only_empty_captions_lose(caption_scores(*odd_captions(), ["BLEU-1", "ROUGE-L"]).scores)


@needs_java
def test_odd_line_ends_with_java():
    scored = caption_scores(*odd_captions(), ["BLEU-1", "ROUGE-L"])
    assert scored.tokenization == "PTB"
    check_only_empty_captions_lose(scored.scores)


def test_line_ends_become_one_space_each():
    text = "é 漢\u00a0\u200b😀 a-b"
    assert replace_line_ends(text) == text
    for end in CONTROLS:
        assert replace_line_ends(f"a{end}b") == "a" + " " * len(end) + "b"
    every = "".join(map(chr, range(0x110000)))
    spaced = replace_line_ends(every)
    assert len(spaced.splitlines()) == 1
    spaced.encode()


def test_references_without_a_word(monkeypatch):
    monkeypatch.setattr(caption_metrics, "has_java", lambda: False)
    scored = caption_scores(["a cat", ""], [["..."], [""]], ["BLEU-1", "CIDEr"])
    assert scored.scores["BLEU-1"] < 1e-6
    assert "no reference has a word" in scored.not_measured["CIDEr"]


def test_wrong_input():
    with pytest.raises(ValueError, match="`predictions` has None; allowed: text"):
        caption_scores(["a", None], [["a"], ["b"]])
    with pytest.raises(ValueError, match="`references` has nan; allowed: text"):
        caption_scores(["a"], [[float("nan")]])
    with pytest.raises(ValueError, match="`metrics` has .'F1'.; allowed"):
        caption_scores(["a"], [["a"]], ["F1"])
    with pytest.raises(ValueError, match="`predictions` has 1 entries; allowed: 2"):
        caption_scores(["a"], [["a"], ["b"]])
    with pytest.raises(ValueError, match="`references` is empty for entries .1."):
        caption_scores(["a", "b"], [["a"], []])
