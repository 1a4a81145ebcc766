"""Every kind of data set, written to disk and read through the one loader."""

import contextlib
import io
import json
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from huggingface_hub import HfApi
from tiny.shards import picture_bytes, sample, write_shard, write_shards

from seed_hf.data.reading import TooManyUnreadableSamplesError, read_bytes, read_image, read_image_bytes, tar_location
from seed_hf.data.rows import load_rows
from seed_hf.data.shards import scan_shard
from seed_hf.models.image_limits_seed import IMAGE_LIMITS


def write_folder(folder, numbers=range(3)):
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (folder / f"{number}.jpg").write_bytes(picture_bytes(number))


def check(rows, captions, sizes=True):
    assert rows["caption"][:] == captions
    for number, row in enumerate(rows):
        assert read_image(row).size == (24 + number % 5, 24)


# Shards


def test_shards_are_read_in_place(tmp_path):
    rows = load_rows(write_shards(tmp_path), "train")
    check(rows, [f"picture {number}" for number in range(24)])
    assert rows["shard"][:] == [0] * 8 + [1] * 8 + [2] * 8 and rows["key"][9] == "000009"
    assert all(row["image"]["bytes"] is None for row in rows)
    assert len(load_rows(str(tmp_path), "train")) == 24
    assert load_rows(str(tmp_path / "train-{0001..0002}.tar"), "train[:3]")["key"][:] == ["000008", "000009", "000010"]


@pytest.mark.parametrize(
    ("parts", "captions"),
    [
        # img2dataset, CC3M: the text twice; the JSON alone will do
        ({"txt": None, "json": {"caption": "a red  car", "url": "http://x", "status": "success"}}, ["a red car"]),
        # COCO on the Hub: five captions, one a line
        ({"txt": "a dog\na brown dog\n"}, ["a dog", "a brown dog"]),
        # Unsplash: no caption of the photographer's
        ({"txt": "", "json": {"photo_description": None, "ai_description": "snow on a hill"}}, ["snow on a hill"]),
    ],
)
def test_caption_layouts(tmp_path, parts, captions):
    shard = write_shard(tmp_path / "train-0.tar", [sample(0, **parts)])
    rows = load_rows(shard)
    assert rows["captions"][0] == captions and rows["caption"][0] == captions[0]


def test_samples_without_picture_or_caption_are_left_out_and_named(tmp_path, caplog):
    bad = {
        3: {"jpg": None},
        4: {"txt": " "},
        5: {"txt": None, "json": b"{"},
        6: {"txt": b"\xff"},
        7: {"txt": None, "json": b"[]"},
    }
    shard = write_shard(tmp_path / "train-0.tar", [sample(number, **bad.get(number, {})) for number in range(10)])
    assert load_rows(shard)["key"][:] == [f"{number:06d}" for number in (0, 1, 2, 8, 9)]
    assert "5 of 10 samples are left out" in caplog.text
    assert "'no image': 1, 'no caption': 1, 'caption unreadable': 3" in caplog.text
    assert f"'000003' of {shard}: no image" in caplog.text
    with pytest.raises(TooManyUnreadableSamplesError, match="share of 0.004"):
        load_rows(shard, max_unreadable_share=0.004)


def test_names_up_to_the_first_dot_are_one_sample(tmp_path, caplog):
    samples = [
        # as WebDataset has them: key, then a name with dots
        ("a", {"v2.jpg": picture_bytes(0), "v2.txt": b"one", "txt": b"not of v2"}),
        ("b", {"jpg": picture_bytes(1), "seg.png": b"mask", "txt": b"two"}),
        ("c", {"v1.jpg": picture_bytes(2), "v1.txt": b"three", "v2.jpg": picture_bytes(3), "v2.txt": b"four"}),
        ("inner.d/d", {"JPG": picture_bytes(4), "txt": b"five"}),
        ("d", {"jpg": picture_bytes(5), "txt": b"six"}),
        ("d", {"jpg": picture_bytes(6), "txt": b"seven"}),
    ]
    rows = load_rows(write_shard(tmp_path / "train-0.tar", samples))
    assert rows["caption"][:] == ["one", "two", "five", "six", "seven"]
    assert [read_image_bytes(row) for row in rows] == [picture_bytes(number) for number in (0, 1, 4, 5, 6)]
    assert "'several images of one name up to its first dot': 1" in caplog.text


def test_samples_of_a_shard_with_strange_captions_and_names(tmp_path, caplog):
    values = [5, True, None, [5], {"raw": 5}, "\ud800"]
    samples = [sample(number, txt=None, json={"caption": value}) for number, value in enumerate(values)]
    samples += [
        sample(10, txt=None, json=b"[" * 100_000),
        sample(11, txt=None, json=b"7"),
        ("na\udcffme", sample(12)[1]),
    ]
    samples += [sample(13, txt=bytes(2**24 + 1)), sample(14)]
    rows = load_rows(write_shard(tmp_path / "train-0.tar", samples))
    assert rows["key"][:] == ["na\\udcffme", "000014"]
    assert "'no caption': 5" in caplog.text and "'caption unreadable': 4" in caplog.text
    assert [row["caption"] for row in load_rows(str(tmp_path), captions="optional")] == [""] * 5 + [
        "picture 12",
        "picture 14",
    ]


def test_shards_are_indexed_in_several_processes(tmp_path):
    rows = load_rows(write_shards(tmp_path, 5, 3), index_processes=2)
    assert rows["key"][:] == [f"{number:06d}" for number in range(15)] and rows["shard"][::3] == list(range(5))
    assert read_image_bytes(rows[14]) == picture_bytes(14)
    with pytest.raises(ValueError, match="`index_processes` is 0"):
        load_rows(str(tmp_path), index_processes=0)


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_format_of_tar_is_read(tmp_path, tar_format):
    """Names of any length and letters, which stand in fields of their own."""
    folders = ["", f"{'long' * 20}/{'long' * 20}/", f"{'longer' * 30}/ü"][: 2 + (tar_format != tarfile.USTAR_FORMAT)]
    with tarfile.open(tmp_path / "0.tar", "w", format=tar_format) as tar:
        for number, folder in enumerate(folders):
            for name, content in ((f"{folder}{number}.jpg", picture_bytes(number)), (f"{folder}{number}.txt", b"a")):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    rows = load_rows(str(tmp_path / "0.tar"))
    assert rows["key"][:] == [f"{folder}{number}" for number, folder in enumerate(folders)]
    assert [read_image_bytes(row) for row in rows] == [picture_bytes(number) for number in range(len(folders))]


def test_truncated_shard_keeps_what_is_whole(tmp_path):
    shard = tmp_path / "train-0.tar"
    write_shard(shard, [sample(number, txt=None, json={"caption": "c"}) for number in range(4)])
    with tarfile.open(shard) as tar:
        third = tar.getmember("000002.jpg")
    shard.write_bytes(shard.read_bytes()[: third.offset_data + 10])
    *whole, broken = scan_shard(str(shard))
    assert [row["key"] for row in whole] == ["000000", "000001"] and not any(row["problem"] for row in whole)
    assert broken["key"] == "000002" and "ends early" in broken["problem"]
    check(load_rows(str(shard)), ["c", "c"])


def test_changed_shard_is_indexed_again(tmp_path):
    pattern = write_shards(tmp_path, 1, 2)
    assert len(load_rows(pattern)) == 2
    write_shards(tmp_path, 1, 5)
    assert len(load_rows(pattern)) == 5


class RangeServer(BaseHTTPRequestHandler):
    """Files of a folder, with byte ranges, which Python's own handler lacks."""

    def do_HEAD(self):  # noqa: N802
        self.respond(head=True)

    def do_GET(self):  # noqa: N802
        self.respond()

    def respond(self, head=False):
        if self.path == "/drip.jpg":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # until the client goes
                while not self.server.is_closing.wait(0.1):
                    self.wfile.write(b".")
            return None
        path = self.server.folder / self.path.lstrip("/")
        if not path.is_file():
            return self.send_error(404)
        data, status = path.read_bytes(), 200
        size = len(data)
        if wanted := self.headers.get("Range"):
            first, last = wanted.removeprefix("bytes=").split("-")
            data, status = data[int(first) : int(last or size - 1) + 1], 206
        self.server.bytes_sent += 0 if head else len(data)
        self.server.num_requests += 1
        self.send_response(status)
        self.send_header("Content-Length", str(size if head else len(data)))
        self.send_header("Accept-Ranges", "bytes")
        if self.server.tells_versions:
            self.send_header("ETag", f'"{path.stat().st_mtime_ns:x}"')
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{last or size - 1}/{size}")
        self.end_headers()
        if not head:
            self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), RangeServer) as server:
        server.folder, server.bytes_sent, server.tells_versions = tmp_path, 0, False
        server.num_requests = 0
        server.is_closing = threading.Event()
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.is_closing.set()
        server.shutdown()


def test_shards_behind_a_url(tmp_path, server):
    write_shards(tmp_path, 2, 4)
    url = f"http://127.0.0.1:{server.server_port}/{{split}}-{{0000..0001}}.tar"
    rows = load_rows(url)
    check(rows, [f"picture {number}" for number in range(8)])
    before = server.bytes_sent
    data = read_bytes(rows[5]["image"]["path"])
    assert data == picture_bytes(5) and server.bytes_sent - before == len(data)


def test_shards_behind_a_url_take_few_requests(tmp_path, server):
    write_shards(tmp_path, 2, 100)
    url = f"http://127.0.0.1:{server.server_port}/{{split}}-{{0000..0001}}.tar"

    def requests(work):
        before = server.num_requests, server.bytes_sent
        found = work()
        return found, server.num_requests - before[0], server.bytes_sent - before[1]

    rows, number, sent = requests(lambda: load_rows(url))
    size = sum(path.stat().st_size for path in tmp_path.glob("*.tar"))
    # its version, its size, and 16 MiB at once; nothing comes twice
    assert number <= 2 * 3 and sent == size
    locations = [image["path"] for image in rows["image"]]
    images, number, sent = requests(lambda: [read_bytes(location) for location in locations])
    assert images == [picture_bytes(number) for number in range(200)]
    # the first image of a shard alone, then ever more of what follows
    assert number <= 2 * 4 and sent <= size
    _, number, sent = requests(lambda: [read_bytes(location) for location in locations[::-1]])
    assert number == 200 and sent == sum(map(len, images))


def test_limits_hold_for_data_behind_a_url(tmp_path, server, monkeypatch):
    url = f"http://127.0.0.1:{server.server_port}"
    (tmp_path / "large.jpg").write_bytes(bytes(1_000_000))
    monkeypatch.setattr(IMAGE_LIMITS, "max_image_bytes", 1000)
    for location in (f"{url}/large.jpg", tar_location(f"{url}/large.tar", 0, 2000)):
        with pytest.raises(ValueError, match="more than the 1000 bytes"):
            read_bytes(location)
    assert server.bytes_sent == 1001
    (tmp_path / "small.jpg").write_bytes(bytes(1000))
    assert read_bytes(f"{url}/small.jpg") == bytes(1000)
    monkeypatch.setattr(IMAGE_LIMITS, "max_url_seconds", 1)
    with pytest.raises(OSError, match=r"drip\.jpg could not be read in 1 attempts and 1 seconds \(IMAGE_LIMITS"):
        read_bytes(f"{url}/drip.jpg")


@pytest.mark.parametrize("tells_versions", [True, False])
def test_a_shard_replaced_behind_its_url_is_indexed_again(tmp_path, server, tells_versions):
    server.tells_versions = tells_versions
    shard, url = tmp_path / "train-0.tar", f"http://127.0.0.1:{server.server_port}/train-0.tar"
    write_shard(shard, [sample(0, txt="before")])
    assert load_rows(url)["caption"][:] == ["before"]
    # as many bytes, so that only the version tells; or more of them
    more = [] if tells_versions else [sample(number) for number in range(1, 9)]
    write_shard(shard, [sample(0, txt="behind"), *more])
    rows = load_rows(url)
    assert rows["caption"][0] == "behind" and read_bytes(rows[0]["image"]["path"]) == picture_bytes(0)
    sent = server.bytes_sent
    assert load_rows(url)["caption"][:] == rows["caption"][:] and server.bytes_sent == sent


# Everything else


def test_parquet_by_column_by_name_and_refused_without_either(tmp_path):
    image = {"bytes": picture_bytes(0), "path": None}
    table = pa.table({"image": [image] * 3, "text": ["a", "b", "c"], "split": ["train", "validation", "train"]})
    pq.write_table(table, tmp_path / "all.parquet")
    assert load_rows(str(tmp_path / "*.parquet"), "train")["caption"][:] == ["a", "c"]
    assert load_rows(str(tmp_path), "validation")["caption"][:] == ["b"]
    named = tmp_path / "named" / "data"
    named.mkdir(parents=True)
    for split in ("train", "validation"):
        pq.write_table(table.drop_columns("split").slice(0, 2), named / f"{split}-00000-of-00001.parquet")
    assert load_rows(str(named.parent), "validation")["caption"][:] == ["a", "b"]
    with pytest.raises(ValueError, match=r"`split` is 'validation', but nothing"):
        load_rows(str(named / "train*.parquet"), "validation")
    with pytest.raises(ValueError, match=r"`split` 'test' leaves no row"):
        load_rows(str(tmp_path / "*.parquet"), "test")


def test_columns_of_other_data_sets(tmp_path):
    def load(**columns):
        Dataset.from_dict(columns).to_parquet(tmp_path / "x.parquet")
        return load_rows(str(tmp_path / "x.parquet"))

    picture = {"bytes": picture_bytes(0), "path": "a.jpg"}
    rows = load(jpg=[picture], __key__=["k"], json=[{"caption": "from json", "width": 3}])
    check(rows, ["from json"])
    assert rows["key"][:] == ["k"]
    rows = load(image=[picture], sentences=[[{"raw": "one"}, {"raw": "two"}]], other=[1])
    check(rows, ["one"])
    assert rows["captions"][0] == ["one", "two"] and rows["other"][0] == 1
    check(load(image=[picture], caption=[["one", "two"]]), ["one"])
    with pytest.raises(ValueError, match=r"columns \['image', 'label'\]; allowed"):
        load(image=[picture], label=[1])


def test_id_on_a_hub(tmp_path, hub, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_ENDPOINT", hub.url)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    for number, split in enumerate(("train", "validation")):
        picture = {"bytes": picture_bytes(number), "path": f"{number}.jpg"}
        (tmp_path / "data").mkdir(exist_ok=True)
        Dataset.from_dict({"image": [picture], "text": [split]}).to_parquet(tmp_path / "data" / f"{split}.parquet")
    api = HfApi(endpoint=hub.url)
    api.create_repo("owner/pictures", repo_type="dataset")
    api.upload_folder(
        repo_id="owner/pictures", folder_path=tmp_path / "data", path_in_repo="data", repo_type="dataset"
    )
    rows = load_rows("owner/pictures", "validation")
    assert rows["caption"][:] == ["validation"] and read_image_bytes(rows[0]) == picture_bytes(1)


def test_coco_folder(tmp_path):
    write_folder(tmp_path / "train2017")
    annotations = [{"image_id": i, "caption": f"{word} {i}"} for word in ("one", "two") for i in range(3)]
    content = {"images": [{"id": i, "file_name": f"{i}.jpg"} for i in range(3)], "annotations": annotations}
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "captions_train2017.json").write_text(json.dumps(content))
    rows = load_rows(str(tmp_path))
    check(rows, ["one 0", "one 1", "one 2"])
    assert rows["captions"][2] == ["one 2", "two 2"]
    with pytest.raises(ValueError, match="holds no data"):
        load_rows(str(tmp_path), "validation")


def test_karpathy_split(tmp_path):
    write_folder(tmp_path / "val2014")
    splits = ["restval", "train", "val"]
    records = [{"filename": f"{i}.jpg", "split": splits[i], "sentences": [{"raw": f"text {i}"}]} for i in range(3)]
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": records}))
    check(load_rows(str(tmp_path), "train"), ["text 0", "text 1"])
    assert load_rows(str(tmp_path), "validation")["key"][:] == ["2.jpg"]


def test_unsplash_folder(tmp_path):
    write_folder(tmp_path / "photos")
    lines = ["photo_id\tphoto_description\tai_description", "0\t\tsnow", "1\twritten\tguessed", "2\t\t"]
    (tmp_path / "photos.tsv000").write_text("\n".join(lines))
    check(load_rows(str(tmp_path)), ["snow", "guessed"])


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_folder_with_caption_file(tmp_path, kind):
    write_folder(tmp_path)
    if kind == "csv":
        lines = ["file_name,text,split"] + [f'{i}.jpg,"a, {i}",{"train" if i < 2 else "validation"}' for i in range(3)]
    else:
        splits = ["train", "train", "validation"]
        lines = [json.dumps({"file_name": f"{i}.jpg", "text": f"a, {i}", "split": splits[i]}) for i in range(3)]
    (tmp_path / f"metadata.{kind}").write_text("\n".join(lines))
    check(load_rows(str(tmp_path)), ["a, 0", "a, 1"])
    assert load_rows(str(tmp_path), "validation")["caption"][:] == ["a, 2"]
    (tmp_path / f"metadata.{kind}").write_text("\n".join(lines).replace("file_name", "name"))
    with pytest.raises(ValueError, match="allowed: 'file_name'"):
        load_rows(str(tmp_path))


def test_several_sets_in_one_folder(tmp_path):
    for name, number in (("cc3m", 2), ("coco", 1)):
        write_shards(tmp_path / name, num_shards=number, samples_per_shard=4)
    write_shards(tmp_path / "coco", num_shards=1, samples_per_shard=3, split="validation")
    assert len(load_rows(str(tmp_path))) == 12 and len(load_rows(str(tmp_path), "validation")) == 3


def test_what_is_no_data_set_is_refused(tmp_path):
    with pytest.raises(ValueError, match="names no file; allowed: tar shards"):
        load_rows(str(tmp_path / "*.tar"))
    with pytest.raises(ValueError, match="holds no data; allowed"):
        load_rows(str(tmp_path))
    with pytest.raises(ValueError, match="`split` is 'train\\[:10%\\]'; allowed"):
        load_rows(str(tmp_path), "train[:10%]")
    with pytest.raises(ValueError, match="names no file"):
        load_rows(str(tmp_path / "*.zip.parquet"))
