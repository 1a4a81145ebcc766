"""A data set reads its own files and nothing else, unless its user says otherwise."""

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny.shards import picture_bytes, write_shards

from seed_hf.data.places import Places
from seed_hf.data.reading import UnreadableSampleError, read_image, read_image_bytes, tar_location
from seed_hf.data.rows import load_rows


@pytest.fixture
def secret(tmp_path):
    """An image that no data set may read."""
    (tmp_path / "secret.jpg").write_bytes(picture_bytes(7))
    return tmp_path / "secret.jpg"


def write_captions(folder, *names):
    folder.mkdir(exist_ok=True)
    (folder / "inner").mkdir(exist_ok=True)
    (folder / "1.jpg").write_bytes(picture_bytes(0))
    (folder / "metadata.csv").write_text("\n".join(["file_name,caption", "1.jpg,good", *(f"{n},bad" for n in names)]))
    return str(folder)


def write_parquet(folder, *paths, **columns):
    folder.mkdir(exist_ok=True)
    images = pa.array([{"bytes": None, "path": str(path)} for path in paths])
    table = pa.table({"image": images, "caption": [f"c{number}" for number in range(len(paths))], **columns})
    pq.write_table(table, folder / "a.parquet")
    return str(folder / "a.parquet")


def test_captions_of_files_elsewhere_are_left_out_and_named(tmp_path, secret, caplog):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "link.jpg").symlink_to(secret)
    (folder / "linked").symlink_to(tmp_path)
    # the system follows the link before it goes up
    (folder / "inner").mkdir()
    (tmp_path / "other").mkdir()
    (folder / "inner" / "other").symlink_to(tmp_path / "other")
    names = [
        str(secret),
        "../secret.jpg",
        "inner/../../secret.jpg",
        "link.jpg",
        "linked/secret.jpg",
        "inner/other/../secret.jpg",
    ]
    write_captions(folder, *names, "/dev/zero", "http://127.0.0.1/1.jpg", "../0.tar#0+5")
    assert load_rows(str(folder))["key"][:] == ["1.jpg"]
    assert "'outside of the data set': 9" in caplog.text and "`allow_outside_paths` reads it" in caplog.text
    for row in load_rows(str(folder), keep_unusable=True):
        if row["problem"]:
            with pytest.raises(UnreadableSampleError, match="outside of the data set"):
                read_image(row)
    rows = load_rows(str(folder), allow_outside_paths=True, keep_unusable=True)
    for row in rows.select(range(1, 7)):
        assert read_image_bytes(row) == picture_bytes(7)


def test_paths_in_parquet(tmp_path, secret, caplog):
    folder = tmp_path / "set"
    write_captions(folder)
    inside = [folder / "1.jpg", "1.jpg", f"{folder}/inner/../1.jpg"]
    outside = [secret, f"{folder}/../secret.jpg", "../secret.jpg", f"file://{secret}", "http://127.0.0.1/1.jpg"]
    outside += [f"simplecache::file://{secret}", "memory://1.jpg", tar_location(str(tmp_path / "0.tar"), 0, 5)]
    file = write_parquet(folder, *inside, *outside)
    for dataset in (file, str(folder)):
        rows = load_rows(dataset)
        assert rows["caption"][:] == ["c0", "c1", "c2"]
        assert all(read_image_bytes(row) == picture_bytes(0) for row in rows)
    assert "'outside of the data set': 8" in caplog.text
    row = load_rows(file, allow_outside_paths=True)[6]
    assert row["image"]["path"].startswith("file://") and read_image_bytes(row) == picture_bytes(7)


def test_a_relative_path_in_the_working_directory_is_no_way_out(tmp_path, secret, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = write_parquet(tmp_path / "set", "secret.jpg", "set/1.jpg")
    (tmp_path / "set" / "1.jpg").write_bytes(picture_bytes(0))
    kept = load_rows(file, keep_unusable=True)
    assert kept["problem"][0].startswith("outside of the data set") and not kept["problem"][1]
    assert read_image_bytes(kept[1]) == picture_bytes(0)
    assert load_rows("set/a.parquet")["caption"][:] == ["c1"]


def test_a_relative_folder_is_that_of_the_working_directory(tmp_path, monkeypatch):
    for name in ("first", "second"):
        (tmp_path / name / "images").mkdir(parents=True)
        monkeypatch.chdir(tmp_path / name)
        assert Places(["images"]).hold("images/1.png")


def test_rows_of_shards_kept_in_parquet(tmp_path):
    rows = load_rows(write_shards(tmp_path / "set", 1, 3))
    pq.write_table(rows.data.table, tmp_path / "set" / "rows.parquet")
    again = load_rows(str(tmp_path / "set" / "rows.parquet"))
    assert [read_image_bytes(row) for row in again] == [picture_bytes(number) for number in range(3)]
    (tmp_path / "set" / "train-0000.tar").unlink()
    with pytest.raises(ValueError, match="'no such shard': 3"):
        load_rows(str(tmp_path / "set" / "rows.parquet"))


def test_a_data_set_may_be_a_link(tmp_path, secret):
    write_captions(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert read_image(load_rows(str(tmp_path / "link"))[0]).size
    file = write_parquet(tmp_path / "real", tmp_path / "real" / "1.jpg", tmp_path / "link" / "1.jpg")
    for dataset in (file, str(tmp_path / "link" / "a.parquet"), str(tmp_path / "link")):
        assert len(load_rows(dataset)) == 2


def test_the_cache_of_the_hub_is_made_of_links(tmp_path):
    snapshot = tmp_path / "datasets--a--b" / "snapshots" / "0"
    blobs = tmp_path / "datasets--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    write_captions(blobs)
    for name in ("metadata.csv", "1.jpg"):
        (snapshot / name).symlink_to(os.path.relpath(blobs / name, snapshot))
    assert read_image(load_rows(str(snapshot))[0]).size


def test_files_of_a_folder_that_are_links_out_of_it_are_refused(tmp_path):
    write_shards(tmp_path / "elsewhere", 1, 2)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train-0.tar").symlink_to(tmp_path / "elsewhere" / "train-0000.tar")
    with pytest.raises(ValueError, match=r"links out of it: \['.*train-0.tar'\]; allowed with `allow_outside_paths`"):
        load_rows(str(tmp_path / "set"))
    assert len(load_rows(str(tmp_path / "set"), allow_outside_paths=True)) == 2
    assert len(load_rows(str(tmp_path / "set" / "train-*.tar"))) == 2
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "metadata.csv").symlink_to(write_captions(tmp_path / "captions") + "/metadata.csv")
    with pytest.raises(ValueError, match=r"caption file .*metadata.csv is a link out of"):
        load_rows(str(tmp_path / "other"))


def test_urls():
    places = Places(["https://host/set", "simplecache::s3://bucket/set/"])
    assert places.hold("https://host/set/a/1.jpg") and places.hold("simplecache::s3://bucket/set/1.jpg")
    assert places.hold(tar_location("https://host/set/0.tar", 1, 2))
    for url in (
        "https://host/set/../1.jpg",
        "https://host/set/%2e%2e/1.jpg",
        "https://host/settle/1.jpg",
        "https://host/set/1.jpg::file:///etc/passwd",
        "http://host/set/1.jpg",
        "s3://bucket/set/1.jpg",
        "https://host/set/\0",
        "/set/1.jpg",
    ):
        assert not places.hold(url), url
    assert Places([], allow_outside=True).hold("https://host/1.jpg")


def test_a_cache_of_bare_images_knows_where_links_lead(tmp_path, secret, monkeypatch):
    """Also of folders that have the same relative name, and after a link has become a file."""
    for name in ("a", "b"):
        (tmp_path / name / "photos").mkdir(parents=True)
    (tmp_path / "a" / "photos" / "1.jpg").write_bytes(picture_bytes(0))
    link = tmp_path / "b" / "photos" / "1.jpg"
    link.symlink_to(secret)

    def problem(folder):
        monkeypatch.chdir(tmp_path / folder)
        (row,) = load_rows("photos", captions="optional", keep_unusable=True)
        return row["problem"]

    assert "outside" not in problem("a")
    assert "outside of the data set" in problem("b")
    link.unlink()
    link.write_bytes(picture_bytes(1))
    assert "outside" not in problem("b")
