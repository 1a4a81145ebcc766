"""Damaged data sets give rows or a `ValueError`, whatever the damage."""

import contextlib
import json
import random
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mutations import mutate
from tiny.shards import picture_bytes, sample, write_shard

from seed_hf.data.reading import read_image
from seed_hf.data.rows import load_rows


NUM_FILES = 40  # of each kind; more were tried once


def write_table(folder):
    lines = ["file_name,text,split", *(f'{n}.jpg,"caption, {n}\nanother ""one""",train' for n in range(4))]
    (folder / "metadata.csv").write_text("\n".join(lines))
    return folder / "metadata.csv"


def write_tabs(folder):
    lines = ["photo_id\tai_description\tphoto_url", *(f'{n}\t"a ""quoted"" one"\thttp://x/{n}' for n in range(4))]
    (folder / "photos.tsv000").write_text("\n".join(lines))
    return folder / "photos.tsv000"


def write_lines(folder):
    lines = [json.dumps({"file_name": f"{n}.jpg", "text": f"caption {n}", "split": "train"}) for n in range(4)]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder / "metadata.jsonl"


def write_coco(folder):
    content = {"images": [{"id": n, "file_name": f"{n}.jpg"} for n in range(4)]}
    content["annotations"] = [{"image_id": n % 4, "caption": f"caption {n}"} for n in range(8)]
    (folder / "captions_train.json").write_text(json.dumps(content))
    return folder / "captions_train.json"


def write_karpathy(folder):
    records = [{"filename": f"{n}.jpg", "split": "train", "sentences": [{"raw": f"text {n}"}]} for n in range(4)]
    (folder / "dataset_coco.json").write_text(json.dumps({"images": records}))
    return folder / "dataset_coco.json"


def write_parquet(folder):
    images = [{"bytes": picture_bytes(0, 4), "path": None}, {"bytes": None, "path": "1.jpg"}] * 2
    table = pa.table({"image": images, "caption": ["a", "b", "c", "d"], "split": ["train"] * 4})
    pq.write_table(table, folder / "a.parquet")
    return folder / "a.parquet"


def write_tar(folder):
    write_shard(folder / "train-0.tar", [sample(n, json={"caption": f"caption {n}"}, txt=None) for n in range(4)])
    return folder / "train-0.tar"


KINDS = [write_table, write_tabs, write_lines, write_coco, write_karpathy, write_parquet, write_tar]


@pytest.mark.parametrize("write", KINDS)
def test_damaged_files(tmp_path, write):
    for number in range(4):
        (tmp_path / f"{number}.jpg").write_bytes(picture_bytes(number, 4))
    file, rng, outcomes = write(tmp_path), random.Random(write.__name__), Counter()
    whole = file.read_bytes()
    assert len(load_rows(str(tmp_path))) == 4
    for _ in range(NUM_FILES):
        file.write_bytes(mutate(whole, rng))
        try:
            rows = load_rows(str(tmp_path), keep_unusable=True, max_unreadable_share=1)
        except ValueError:
            outcomes["refused"] += 1
            continue
        outcomes["read"] += 1
        for row in rows:
            assert row["problem"] or row["caption"].strip()
            with contextlib.suppress(ValueError):  # how an image that cannot be read is reported
                read_image(row)
    assert outcomes["read"] and sum(outcomes.values()) == NUM_FILES
