"""Reading single samples, skipping those that cannot be read, and the order of an epoch over shards."""

import doctest
import json
import os
import pickle

import pytest
import torch

from seed_hf.data import places as places_module
from seed_hf.data import reading as reading_module
from seed_hf.data import rows as rows_module
from seed_hf.data import shards as shards_module
from seed_hf.data import tables as tables_module
from seed_hf.data.batches import BLOCKS_PER_WINDOW, SeededDataset, epoch_order, make_batches, sample_positions
from seed_hf.data.reading import (
    SkippedSamples,
    TooManyUnreadableSamplesError,
    UnreadableSampleError,
    read_bytes,
    read_image,
    split_location,
    tar_location,
)
from seed_hf.models.image_limits_seed import IMAGE_LIMITS


BAD = {3, 11, 12}


def fail_on_bad(index, generator):
    if index in BAD:
        raise UnreadableSampleError("train-00000.tar", f"{index:05d}", "image file is truncated")
    return index


def test_pieces_of_a_shard(tmp_path):
    shard = tmp_path / "a.tar"
    shard.write_bytes(b"0123456789")
    assert split_location(tar_location(str(shard), 2, 3)) == (str(shard), 2, 3)
    assert split_location("photos/a#1.jpg") == ("photos/a#1.jpg", None, None)
    assert read_bytes(tar_location(str(shard), 2, 3)) == b"234" and read_bytes(str(shard)) == b"0123456789"
    with pytest.raises(OSError, match="ends 2 bytes before"):
        read_bytes(tar_location(str(shard), 8, 4))


def test_what_is_wrong_with_a_sample_is_named(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"no picture")
    row = {"key": "000017", "image": {"bytes": None, "path": tar_location(str(tmp_path / "a.tar"), 0, 10)}}
    with pytest.raises(UnreadableSampleError, match=r"'000017' of '.*a\.tar'.*cannot identify") as caught:
        read_image(row)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    with pytest.raises(UnreadableSampleError, match="No such file"):
        read_image({"image": {"bytes": None, "path": str(tmp_path / "gone.jpg")}})
    row["image"]["path"] = tar_location(str(tmp_path / "gone.tar"), 0, 10)
    with pytest.raises(FileNotFoundError, match=r"shard .*gone\.tar has vanished"):
        read_image(row)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("a\0b.jpg", "not a path"),
        ("a.tar#b", "No such file"),
        ("a.tar#1+", "No such file"),
        ("a.tar#" + "9" * 5000 + "+1", "File name too long"),
        ("#.jpg", "No such file"),
        ("x" * 300, "File name too long"),
        ("/dev/zero", "is not a file"),
        ("/dev", "is not a file"),
        ("pipe", "is not a file"),
        ("no-protocol://a.jpg", "Protocol not known"),
        ("", "no image"),
        (None, "no image"),
    ],
)
def test_what_is_no_file_costs_one_sample(tmp_path, monkeypatch, path, reason):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with pytest.raises(UnreadableSampleError, match=reason):
        read_image({"key": "1", "image": {"bytes": None, "path": path}})


def test_rows_without_an_image_or_with_a_problem():
    for image in (None, {}, {"bytes": None}):
        with pytest.raises(UnreadableSampleError, match="'1' of '': no image"):
            read_image({"key": "1", "image": image})
    with pytest.raises(UnreadableSampleError, match="cannot identify|nothing to read"):
        read_image({"image": {"bytes": b"", "path": "/dev/zero"}})
    with pytest.raises(UnreadableSampleError, match="no caption: line 3"):
        read_image({"image": {"bytes": b"", "path": "a.jpg"}, "problem": "no caption: line 3"})


@pytest.mark.parametrize("module", [places_module, reading_module, rows_module, shards_module, tables_module])
def test_docstring_examples_run(module):
    results = doctest.testmod(module)
    assert results.failed == 0 and results.attempted >= 2


def test_a_piece_is_no_larger_than_its_shard_and_the_limit(tmp_path, monkeypatch):
    shard = tmp_path / "a.tar"
    shard.write_bytes(b"0123456789")
    with pytest.raises(OSError, match="ends 999999999999990 bytes before"):
        read_bytes(tar_location(str(shard), 0, 10**15))
    with pytest.raises(OSError, match="ends 3 bytes before"):
        read_bytes(tar_location(str(shard), 10**15, 3))
    monkeypatch.setattr(IMAGE_LIMITS, "max_image_bytes", 5)
    assert read_bytes(tar_location(str(shard), 2, 3)) == b"234"
    with pytest.raises(UnreadableSampleError, match="more than the 5 bytes"):
        read_image({"image": {"bytes": None, "path": str(shard)}})


@pytest.mark.parametrize("num_workers", [0, 2])
def test_unreadable_samples_are_replaced_logged_and_leave_the_others_alone(tmp_path, num_workers):
    settings = {"batch_size": 5, "seed": 1, "num_workers": num_workers}
    clean = make_batches(range(24), **settings)
    skipped = SkippedSamples(tmp_path / "log.jsonl")
    batches = make_batches(range(24), **settings, transform=fail_on_bad, skipped=skipped)
    epoch = [int(index) for _ in range(4) for index in next(clean)]
    got = [int(index) for _ in range(4) for index in next(batches)]
    assert [old == new or old in BAD for old, new in zip(epoch, got, strict=True)] == [True] * 20
    left_out = set(range(24)) - set(epoch) - BAD
    assert {new for old, new in zip(epoch, got, strict=True) if old in BAD} <= left_out
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    first = {line["index"]: line for line in lines if line["epoch"] == 0}
    assert set(first) >= BAD & set(epoch) and first[3]["shard"] == "train-00000.tar" and first[3]["key"] == "00003"
    # the same again from the middle, as after a resume
    later = make_batches(range(24), **settings, transform=fail_on_bad, start_step=2)
    assert [int(index) for _ in range(2) for index in next(later)] == got[10:]


def test_a_run_stops_when_too_many_samples_are_unreadable(tmp_path):
    skipped = SkippedSamples(tmp_path / "log.jsonl", max_share=0.002)
    batches = make_batches(range(24), 4, seed=0, transform=fail_on_bad, skipped=skipped)
    with pytest.raises(TooManyUnreadableSamplesError, match=r"3 of \d+ samples .*'000\d\d'.*log\.jsonl.* 0\.002"):
        for _ in range(6):
            next(batches)
    assert skipped.num_skipped == 3
    with pytest.raises(ValueError, match="`max_share` is 2"):
        SkippedSamples(max_share=2)


def test_nothing_readable_is_an_error():
    with pytest.raises(ValueError, match="None of the 2 samples"):
        SeededDataset([3, 11], fail_on_bad)[(0, 0)]


def test_an_epoch_over_shards_stays_in_a_window_and_shows_everything_once():
    blocks = torch.arange(100).repeat_interleave(7)
    order = epoch_order(700, 5, 0, blocks)
    assert sorted(order.tolist()) == list(range(700))
    window = 7 * BLOCKS_PER_WINDOW
    for part in order[: 700 // window * window].split(window):
        assert len(blocks[part].unique()) == BLOCKS_PER_WINDOW
        assert len(blocks[part[:BLOCKS_PER_WINDOW]].unique()) > BLOCKS_PER_WINDOW // 2
    assert not torch.equal(order, epoch_order(700, 5, 1, blocks))
    assert not torch.equal(order, epoch_order(700, 5, 0))
    assert torch.equal(order, epoch_order(700, 5, 0, blocks))


@pytest.mark.parametrize("cut", [(4, 6, 1), (2, 6, 2), (1, 8, 3)])
def test_shards_are_split_over_processes_without_repetition(cut):
    batch_size, num_processes, accumulation_steps = cut
    blocks = torch.arange(40) // 3
    settings = {"num_processes": num_processes, "accumulation_steps": accumulation_steps, "blocks": blocks}
    parts = [
        sample_positions(40, batch_size, seed=1, step=1, process_index=rank, **settings)
        for rank in range(num_processes)
    ]
    seen = [index for process in parts for micro_batch in process for _, index in micro_batch]
    assert sorted(seen) == sorted(epoch_order(40, 1, 1, blocks)[:24].tolist())
