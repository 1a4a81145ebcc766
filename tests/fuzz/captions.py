"""Damaged data sets with captions through `load_rows`: rows or a `ValueError`."""

import contextlib
import json
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from mutations import mutate
from tiny.shards import picture_bytes, sample, write_shard

from fuzz.target import Target, outcome_of
from seed_hf.data.reading import read_image
from seed_hf.data.rows import load_rows


NUM_ROWS = 4


def write_table(folder):
    lines = ["file_name,text,split", *(f'{n}.jpg,"caption, {n}\nanother ""one""",train' for n in range(NUM_ROWS))]
    (folder / "metadata.csv").write_text("\n".join(lines))
    return folder / "metadata.csv"


def write_tabs(folder):
    lines = ["photo_id\tai_description\tphoto_url"]
    lines += [f'{n}\t"a ""quoted"" one"\thttp://x/{n}' for n in range(NUM_ROWS)]
    (folder / "photos.tsv000").write_text("\n".join(lines))
    return folder / "photos.tsv000"


def write_utf16(folder):
    lines = ["file_name\tcaption", *(f"{n}.jpg\tça va {n}" for n in range(NUM_ROWS))]
    (folder / "captions.tsv").write_text("\r\n".join(lines), encoding="utf-16")
    return folder / "captions.tsv"


def write_lines(folder):
    lines = [json.dumps({"file_name": f"{n}.jpg", "text": f"caption {n}", "split": "train"}) for n in range(NUM_ROWS)]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder / "metadata.jsonl"


def write_coco(folder):
    content = {"images": [{"id": n, "file_name": f"{n}.jpg"} for n in range(NUM_ROWS)]}
    content["annotations"] = [{"image_id": n % NUM_ROWS, "caption": f"caption {n}"} for n in range(2 * NUM_ROWS)]
    (folder / "captions_train.json").write_text(json.dumps(content))
    return folder / "captions_train.json"


def write_karpathy(folder):
    records = [{"filename": f"{n}.jpg", "split": "train", "sentences": [{"raw": f"{n}"}]} for n in range(NUM_ROWS)]
    (folder / "dataset_coco.json").write_text(json.dumps({"images": records}))
    return folder / "dataset_coco.json"


def write_parquet(folder):
    images = [{"bytes": picture_bytes(0, 4), "path": None}, {"bytes": None, "path": "1.jpg"}] * 2
    table = pa.table({"image": images, "caption": ["a", "b", "c", "d"], "split": ["train"] * NUM_ROWS})
    pq.write_table(table, folder / "a.parquet")
    return folder / "a.parquet"


def write_nested_parquet(folder):
    columns = {"jpg": [picture_bytes(n, 4) for n in range(NUM_ROWS)], "sentences": [["a", "b"]] * NUM_ROWS}
    pq.write_table(pa.table(columns), folder / "train.parquet", compression="zstd", write_page_checksum=True)
    return folder / "train.parquet"


def write_tar(folder):
    samples = [sample(n, json={"caption": f"caption {n}"}, txt=None) for n in range(NUM_ROWS)]
    write_shard(folder / "train-0.tar", samples)
    return folder / "train-0.tar"


def write_text_tar(folder):
    write_shard(folder / "train-0.tar", [sample(n, txt=f"one {n}\ntwo\n") for n in range(NUM_ROWS)])
    return folder / "train-0.tar"


KINDS = (write_table, write_tabs, write_utf16, write_lines, write_coco, write_karpathy)
KINDS += (write_parquet, write_nested_parquet, write_tar, write_text_tar)


class Captions(Target):
    """Data sets of every kind, with a few faults in the one file that names their captions."""

    share = 0.8

    def __init__(self, folder: Path, kinds: tuple[Callable, ...] = KINDS):
        super().__init__(folder)
        self.sets = {}
        for write in kinds:
            place = folder / write.__name__
            place.mkdir(parents=True)
            for number in range(NUM_ROWS):
                (place / f"{number}.jpg").write_bytes(picture_bytes(number, 4))
            file = write(place)
            assert len(load_rows(str(place))) == NUM_ROWS
            self.sets[write.__name__.removeprefix("write_")] = (file, file.read_bytes())

    def try_one(self, rng: random.Random) -> tuple[str, str, dict[str, int]]:
        kind = rng.choice(list(self.sets))
        file, whole = self.sets[kind]
        content = mutate(whole, rng)
        self.input.write_bytes(content)
        file.write_bytes(content)
        outcome, rows = outcome_of(lambda: load_rows(str(file.parent), keep_unusable=True, max_unreadable_share=1))
        for row in rows if outcome == "read" else ():
            assert row["problem"] or row["caption"].strip(), row
            with contextlib.suppress(ValueError):  # how an image that cannot be read is reported
                read_image(row)
        return kind, outcome, {}
