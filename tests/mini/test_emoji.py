"""The shipped emoji data is what its card says, its splits cannot leak, and its questions are true and repeatable."""

import io
import random
import re
from collections import Counter, defaultdict

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from datasets.table import InMemoryTable
from PIL import Image
from tiny import EMOJI

from seed_hf.mini.emoji import KINDS, SPLITS, SUBGROUP_NAMES, make_questions


LICENSES = {
    "noto": "Apache-2.0",
    "noto-v1": "Apache-2.0",
    "fxemoji": "CC-BY-4.0",
    "fluent-flat": "MIT",
    "fluent-3d": "MIT",
    "twemoji": "CC-BY-4.0",
    "emojitwo": "CC-BY-4.0",
    "fluent-color": "MIT",
    "fluent-mono": "MIT",
    "emojitwo-mono": "CC-BY-4.0",
    "streamline": "CC-BY-4.0",
    "game-icons": "CC-BY-3.0",
    "icon-park": "Apache-2.0",
    "mdi": "Apache-2.0",
    "phosphor": "MIT",
}
FAMILIES = {
    "noto": "noto",
    "noto-v1": "noto",
    "fxemoji": "fxemoji",
    "fluent-flat": "fluent",
    "fluent-3d": "fluent",
    "twemoji": "twemoji",
    "emojitwo": "emojione",
    "fluent-color": "fluent",
    "fluent-mono": "fluent",
    "emojitwo-mono": "emojione",
    **{name: name for name in ("streamline", "game-icons", "icon-park", "mdi", "phosphor")},
}
TRAIN_ONLY = set(list(FAMILIES)[7:])


@pytest.fixture(scope="module")
def splits():
    return {split: Dataset(InMemoryTable(pq.read_table(EMOJI / f"{split}.parquet"))) for split in SPLITS}


@pytest.fixture(scope="module")
def rows(splits):
    """All rows without the pictures."""
    return [row for data in splits.values() for row in data.remove_columns("image")]


def test_schema(splits):
    for name, data in splits.items():
        assert {key: feature.dtype for key, feature in data.features.items() if key not in ("image", "tags")} == {
            **dict.fromkeys(
                ("caption", "group", "subgroup", "concept", "style", "family", "split", "license"), "string"
            ),
            "is_flag": "bool",
            "concept_seen": "bool",
        }
        assert type(data.features["image"]).__name__ == "Image"
        assert set(data["split"]) == {name}


def test_every_picture_decodes_to_rgb_on_white(splits):
    """Also that none is blank, and that the frame of the pictures is white: nothing is cut off."""
    for data in splits.values():
        images = [Image.open(io.BytesIO(image["bytes"])) for image in data.data.column("image").to_pylist()]
        assert {(image.mode, image.size) for image in images} == {("RGB", (64, 64))}
        pixels = np.stack([np.asarray(image) for image in images])
        edges = [pixels[:, 0], pixels[:, -1], pixels[:, :, 0], pixels[:, :, -1]]
        borders = np.concatenate(edges, axis=1).min(axis=(1, 2))
        assert (pixels.std(axis=(1, 2, 3), dtype=np.float32) > 1).all()
        assert borders.min() > 200, borders.argmin()


def test_size_limit():
    files = list(EMOJI.glob("*.parquet"))
    assert {file.stem for file in files} == set(SPLITS)
    assert sum(file.stat().st_size for file in files) < 16e6


def test_families_and_licenses(rows):
    assert Counter(row["style"] for row in rows).keys() == LICENSES.keys()
    for row in rows:
        assert row["license"] == LICENSES[row["style"]]
        assert row["family"] == FAMILIES[row["style"]]
        assert row["caption"]
        assert row["is_flag"] == (row["group"] == "flags")
        if row["style"] in TRAIN_ONLY:
            assert row["split"] == "train" and not row["is_flag"]


def test_attribution_names_every_source():
    text = (EMOJI / "ATTRIBUTION.md").read_text(encoding="utf-8")
    for style, license_name in LICENSES.items():
        assert re.search(rf"^\| {re.escape(style)} \|.*{re.escape(license_name)}", text, re.MULTILINE), style


def test_card_counts(rows):
    """The numbers on the card are the numbers in the files."""
    card = (EMOJI / "README.md").read_text(encoding="utf-8").replace(",", "")
    for split in SPLITS:
        part = [row for row in rows if row["split"] == split]
        flags, concepts = sum(row["is_flag"] for row in part), len({row["concept"] for row in part})
        assert f"| {split} | {len(part)} | {flags} | {concepts} |" in card
    assert f"{len(rows)} drawings of {len({row['concept'] for row in rows})} emoji" in card


def test_splits_do_not_leak(rows):
    drawings = Counter((row["concept"], row["style"]) for row in rows)
    assert max(drawings.values()) == 1
    by_pair, by_concept = defaultdict(set), defaultdict(set)
    for row in rows:
        by_pair[row["concept"], row["family"]].add(row["split"])
        by_concept[row["concept"]].add(row["split"])
    assert all(len(found) == 1 for found in by_pair.values())
    for row in rows:
        found = by_concept[row["concept"]]
        assert row["concept_seen"] == ("train" in found)
        if row["split"] == "test_drawings":
            assert "train" in found
        if row["split"] == "test_concepts":
            assert found == {"test_concepts"}
            assert not row["is_flag"]
    assert sum(found == {"test_concepts"} for found in by_concept.values()) == 100
    assert sum(found == {"validation"} for found in by_concept.values()) == 50


def test_no_picture_is_in_two_splits(splits):
    """Byte for byte: a held-out drawing that became equal to one in train was dropped."""
    seen = {}
    for split, data in splits.items():
        for image in data.data.column("image").to_pylist():
            assert seen.setdefault(image["bytes"], split) == split, image["path"]


def test_splits_are_the_seeded_hash_of_the_build_script(rows):
    pytest.importorskip("resvg_py")
    from build_emoji_dataset import assign_splits

    families, is_flag = defaultdict(set), {}
    rows = [row for row in rows if row["style"] not in TRAIN_ONLY]
    for row in rows:
        families[row["concept"]].add(row["family"])
        is_flag[row["concept"]] = row["is_flag"]
    expected = assign_splits(families, is_flag)
    shuffled = assign_splits(dict(sorted(families.items(), reverse=True)), is_flag)
    assert expected == shuffled
    assert {(row["concept"], row["family"]): row["split"] for row in rows} == expected


def test_drawing_is_upright_whole_and_on_white():
    """A red square in the upper left of an SVG stays there; relative size survives; a large drawing is not cut."""
    pytest.importorskip("resvg_py")
    from build_emoji_dataset import encode, extent, icon_svg, render

    icons = {
        "icons": {"a": {"body": '<path fill="#f00" d="M0 0h8v8H0z"/><path fill="#00f" d="M8 8h24v24H8z"/>'}},
        "aliases": {"b": {"parent": "a", "hFlip": True}},
        "width": 32,
        "height": 32,
    }
    image = render(icon_svg(icons, "a"))
    assert extent(image) == 1

    def read(data):
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)

    pixels = read(encode(image, scale=2.0))
    assert pixels[8, 8, 0] > 200 > 60 > pixels[8, 8, 2]
    assert pixels[40, 40, 2] > 200 > 60 > pixels[40, 40, 0]
    assert pixels[8, 50].min() > 240
    assert pixels[0].min() > 200  # shrunk into the frame although twice the size was asked for
    flipped = np.asarray(
        Image.open(io.BytesIO(encode(render(icon_svg(icons, "b")), scale=0.9))).convert("RGB")
    ).astype(int)
    assert flipped[8, 55, 0] > 200 > 60 > flipped[8, 55, 2]


def test_every_subgroup_has_a_name(rows):
    assert {row["subgroup"] for row in rows} == SUBGROUP_NAMES.keys()


def test_kinds_name_real_subgroups_and_captions(rows):
    """A misspelt name in the table would silently change answers."""
    subgroups = {row["subgroup"] for row in rows}
    captions = {row["caption"] for row in rows}
    for kind, (yes, unclear, exceptions) in KINDS.items():
        for beginning in f"{yes} {unclear}".split():
            assert any(name == beginning or name.startswith(beginning + "-") for name in subgroups), (kind, beginning)
        assert set(filter(None, exceptions.split("|"))) <= captions, kind


def test_questions_are_deterministic_and_balanced(rows):
    answers = Counter()
    for number, row in enumerate(rows):
        questions = make_questions(row, random.Random(number))
        assert questions == make_questions(row, random.Random(number))
        assert dict(questions)["What is this?"] == row["caption"]
        assert len(questions) in (2, 4)
        answers.update(answer for _, answer in questions if answer in ("yes", "no"))
    assert answers["yes"] == answers["no"] > 5000
    assert len({tuple(make_questions(rows[0], random.Random(seed))) for seed in range(20)}) > 1


@pytest.mark.parametrize(
    ("caption", "subgroup", "yes", "never_asked"),
    [
        ("flag: France", "country-flag", "a flag", []),
        ("red apple", "food-fruit", "food", ["a plant"]),
        ("dog face", "animal-mammal", "an animal", ["a face"]),
        ("cat with wry smile", "cat-face", "a face", ["an animal"]),
        ("feather", "animal-bird", None, ["an animal"]),
        ("fuel pump", "transport-ground", None, ["a vehicle"]),
        ("five o’clock", "time", "a clock", []),
    ],
)
def test_yes_no_questions(caption, subgroup, yes, never_asked):
    row = {"caption": caption, "subgroup": subgroup}
    asked = defaultdict(set)
    for seed in range(200):
        for question, answer in make_questions(row, random.Random(seed)):
            if answer in ("yes", "no"):
                asked[answer].add(question.removeprefix("Is this ").removesuffix("?"))
    assert asked["yes"] == ({yes} if yes else set())
    assert not (asked["yes"] | asked["no"]) & set(never_asked)
    assert not asked["yes"] & asked["no"]
