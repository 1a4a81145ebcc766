"""Predictions part by part: each row has one or a reason, and too little memory costs no row."""

import hashlib
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from datasets import Image as ImageFeature
from tiny.shards import picture_bytes

from seed_hf.data.part_records import PartRecords
from seed_hf.data.reading import TooManyUnreadableSamplesError
from seed_hf.data.resumable import run_parts
from seed_hf.data.row_parts import RowParts


class Widths(RowParts):
    """The width of each image but the third, with memory for one of them."""

    def prepare(self, image, number):
        return image.width

    def predict(self, samples):
        if len(samples) > 1:
            raise RuntimeError("CUDA out of memory.")
        return ["no width" if sample.number == 2 else sample.row["image"] for sample in samples]

    def to_table(self, samples):
        assert all("image" not in sample.row for sample in samples)
        columns = {
            "key": [sample.row["key"] for sample in samples],
            "width": [sample.prediction for sample in samples],
            "error": [sample.error and sample.error.reason for sample in samples],
            "sha256": [sample.sha256 for sample in samples],
        }
        return pa.table(columns)


@pytest.fixture
def rows():
    files = [picture_bytes(0), b"no image", picture_bytes(2), picture_bytes(3), picture_bytes(4)]
    records = [{"image": {"bytes": data, "path": None}} for data in files]
    return Dataset.from_list(records).cast_column("image", ImageFeature(decode=False))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_every_row_has_a_prediction_or_a_reason(tmp_path, rows, num_workers):
    records, paths = PartRecords(rows, 3, "widths"), [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    maker = Widths(records, batch_size=8, num_workers=num_workers)
    run_parts(maker, paths, records.sizes)
    first, second = (pq.read_table(path).to_pydict() for path in paths)
    assert first["key"] + second["key"] == [f"{number:09d}" for number in range(5)]
    assert first["width"][0] and all(second["width"]) and first["width"][1:] == [None, None]
    assert first["error"][0] is None and "cannot identify" in first["error"][1] and first["error"][2] == "no width"
    assert first["sha256"][1] == hashlib.sha256(b"no image").digest()
    # the batch that fitted is kept, and what is finished is not made again
    assert maker.batch_size == 1
    written = paths[0].stat().st_mtime_ns
    records.drop_stale(paths)
    run_parts(maker, paths, records.sizes)
    assert paths[0].stat().st_mtime_ns == written


def test_too_many_without_a_prediction_are_an_error(tmp_path, rows):
    records = PartRecords(rows, 5, "widths")
    with pytest.raises(TooManyUnreadableSamplesError, match="1 of 2 samples could not be read"):
        run_parts(Widths(records, batch_size=2, max_unreadable_share=0), [tmp_path / "0.parquet"], records.sizes)
    assert not (tmp_path / "0.parquet").exists()


class Readers(Widths):
    """The process that read each image."""

    def prepare(self, image, number):
        return os.getpid()


def test_a_reader_stays_for_all_parts(tmp_path, rows):
    records, paths = PartRecords(rows, 1, "readers"), [tmp_path / f"{part}.parquet" for part in range(5)]
    run_parts(Readers(records, batch_size=1, num_workers=1), paths, records.sizes)
    readers = {pq.read_table(path)["width"][0].as_py() for path in paths} - {None}
    assert len(readers) == 1 and os.getpid() not in readers
    assert not list(tmp_path.glob(".*"))
