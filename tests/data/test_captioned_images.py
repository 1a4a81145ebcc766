"""Pairs for training: groups by caption, several captions a picture, and a run over shards with a broken picture."""

import importlib

import pytest
import torch
from datasets import Dataset
from tiny.shards import sample, write_shard

from seed_hf.data.reading import UnreadableSampleError


@pytest.fixture
def image_text_data(monkeypatch):
    return importlib.import_module("seed_hf.data.captioned_images")


def write_captions(path, captions, **parts):
    return write_shard(path, [sample(number, txt=caption, **parts) for number, caption in enumerate(captions)])


def test_groups_by_caption(tmp_path, image_text_data):
    write_captions(tmp_path / "train-0.tar", ["b", "a", "b"])
    write_captions(tmp_path / "train-1.tar", ["c", "b", "a"])
    rows = image_text_data.load_rows(str(tmp_path / "train-*.tar"), "train")
    pairs = image_text_data.CaptionedImages(rows)
    assert [pairs[index] for index in range(len(pairs))] == [[0, 2, 4], [1, 5], [3]]
    assert pairs.blocks.tolist() == [0, 0, 1]
    drawn = [pairs.draw(0, torch.Generator().manual_seed(seed)) for seed in range(20)]
    assert {caption for _, caption, _ in drawn} == {"b"} and len({image.size for image, _, _ in drawn}) == 3
    alone = image_text_data.CaptionedImages(rows, group_by="")
    assert [alone[index] for index in range(len(alone))] == [[index] for index in range(6)]
    assert alone.blocks.tolist() == [0, 0, 0, 1, 1, 1]


def test_each_pass_draws_one_of_several_captions(tmp_path, image_text_data):
    rows = image_text_data.load_rows(write_captions(tmp_path / "0.tar", ["a dog\na brown dog\nan animal"]), "train")
    pairs = image_text_data.CaptionedImages(rows)
    drawn = {pairs.draw(0, torch.Generator().manual_seed(seed))[1] for seed in range(30)}
    assert drawn == {"a dog", "a brown dog", "an animal"} == set(image_text_data.all_captions(rows))
    for nothing in (None, []):
        rows = Dataset.from_dict({"caption": ["a dog", "a cat"], "captions": [nothing, ["a cat"]]})
        assert image_text_data.all_captions(rows) == ["a dog", "a cat"]
    for caption in (None, "", " \n"):
        with pytest.raises(UnreadableSampleError, match="no caption"):
            row = {"caption": caption, "key": "7", "image": {"path": "x.tar"}}
            image_text_data.draw_caption(row, torch.Generator())


def test_evaluation_leaves_out_what_cannot_be_read(tmp_path, image_text_data, caplog):
    shard = write_shard(tmp_path / "0.tar", [sample(0), sample(1, jpg=b"no picture"), sample(2)])
    assert [row["key"] for row in image_text_data.load_held_out(shard, "train")] == ["000000", "000002"]
    assert "'000001'" in caplog.text
