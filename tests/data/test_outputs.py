"""Codes behind a URL: the same as in a folder, sent as they are made, and fetched to go on."""

import json

import fsspec
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi
from tiny.image_tokenizer import tiny_image_tokenizer
from tiny.shards import picture_bytes, sample, write_shard

from seed_hf import SeedImageProcessor
from seed_hf.commands import main
from seed_hf.data.codes import read_codes
from seed_hf.data.encode import encode_rows
from seed_hf.data.outputs import open_output
from seed_hf.data.rows import load_rows


PROCESSOR = SeedImageProcessor(size={"height": 28, "width": 28})


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Rows in four parts, one image of which cannot be read; an image tokenizer; and the codes in a folder."""
    folder = tmp_path_factory.mktemp("job")
    tiny_image_tokenizer().save_pretrained(folder / "model")
    PROCESSOR.save_pretrained(folder / "model")
    samples = [sample(number, **{"jpg": b"no image"} if number == 4 else {}) for number in range(8)]
    rows = load_rows(write_shard(folder / "train-0.tar", samples))
    encode_rows(rows, folder / "model", folder / "codes", rows_per_file=2)
    return rows, folder / "model", folder / "codes"


@pytest.fixture
def memory():
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield files
    files.store.clear()


@pytest.fixture
def s3(monkeypatch):
    """A bucket of a server on loopback."""
    server = pytest.importorskip("moto.server", reason="moto with its server takes thirty packages").ThreadedMotoServer
    pytest.importorskip("s3fs", reason="s3fs brings botocore, which only this test needs")
    server = server("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    fsspec.filesystem("s3", skip_instance_cache=True).mkdir("bucket")
    yield "s3://bucket/of/codes"
    server.stop()


def check_kept_and_resumed(url, job, reads):
    """Codes behind `url` are those of the folder; what is missing is made anew, and nothing else."""
    rows, model, codes = job
    done = encode_rows(rows, model, url, rows_per_file=2)
    assert (done["num_images"], done["num_skipped"], done["num_encoded"]) == (7, 1, 7)
    assert read_codes(url)[:] == read_codes(codes)[:]
    files, root = fsspec.url_to_fs(url)
    names = sorted(path.removeprefix(f"{root}/") for path in files.find(root))
    assert names == sorted(str(path.relative_to(codes)) for path in codes.rglob("*") if path.is_file())
    files.rm_file(f"{root}/data/train-00001-of-00004.parquet")
    reads.clear()
    assert encode_rows(rows, model, url, rows_per_file=2)["num_encoded"] == 2
    assert len(reads) == 2
    assert read_codes(url)[:] == read_codes(codes)[:]


@pytest.fixture
def reads(monkeypatch):
    """Counts the images that are read."""
    from seed_hf.data import row_parts

    found, read = [], row_parts.try_image
    monkeypatch.setattr(row_parts, "try_image", lambda row: found.append(row["key"]) or read(row))
    return found


def test_a_url_is_as_good_as_a_folder(job, memory, reads):
    check_kept_and_resumed("memory://some/codes", job, reads)


def test_an_s3_server_is_as_good_as_a_folder(job, s3, reads):
    check_kept_and_resumed(s3, job, reads)


def test_the_hub_gets_one_commit(job, hub, reads):
    rows, model, codes = job
    commits, url = [], "hf://datasets/owner/codes"
    HfApi(endpoint=hub.url).create_repo("owner/codes", repo_type="dataset")
    hub.before_commit = lambda: commits.append(url)
    encode_rows(rows, model, url, rows_per_file=2)
    assert commits == [url]
    assert read_codes(url)[:] == read_codes(codes)[:]
    reads.clear()
    assert encode_rows(rows, model, url, rows_per_file=2)["num_encoded"] == 0 and not reads


def test_a_list_of_skipped_images_goes_from_the_hub_once_they_are_encoded(tmp_path, job, hub):
    model, url = job[1], "hf://datasets/owner/repaired"
    HfApi(endpoint=hub.url).create_repo("owner/repaired", repo_type="dataset")
    for content in (b"no image", picture_bytes(1)):
        shard = write_shard(tmp_path / "0.tar", [sample(0), sample(1, jpg=content)])
        encode_rows(load_rows(shard), model, url, max_unreadable_share=0.5)
        assert len(read_codes(url)) == 1 + (content != b"no image")


def test_a_file_url_is_a_folder(tmp_path, job):
    rows, model, codes = job
    encode_rows(rows, model, f"file://{tmp_path}/codes", rows_per_file=2)
    assert (tmp_path / "codes" / "encoding-train.json").is_file()
    assert read_codes(f"file://{tmp_path}/codes")[:] == read_codes(codes)[:]


def test_errors_name_the_url(job, memory, capsys):
    rows, model, _ = job
    url = "memory://some/codes"
    encode_rows(rows, model, url, rows_per_file=2)
    with pytest.raises(ValueError, match=rf"`output_dir` '{url}' was made with \{{'rows_per_file': 2\}}"):
        encode_rows(rows, model, url, rows_per_file=4)
    with pytest.raises(ValueError, match=rf"`split` is 'test'; allowed in '{url}': \['train'\]"):
        read_codes(url, "test")
    memory.rm_file("/some/codes/data/train-00001-of-00004.parquet")
    with pytest.raises(ValueError, match=rf"`codes` '{url}' lacks 1 of 4 parts"):
        read_codes(url)
    assert main(["encode", "seed-mini", "x", url, "--push-to-hub", "owner/codes"]) == 1
    assert "`--push-to-hub`: a folder" in capsys.readouterr().err


def test_what_was_made_is_there_after_an_error(job, memory):
    """An error in the third of four parts costs that part only."""
    rows, model, _ = job
    with open_output("memory://some/codes") as output, pytest.raises(RuntimeError, match="stop"):
        with output.mirrored([(output.folder / "list", output.folder / name) for name in "ab"]):
            (output.folder / "list").write_text("of a")
            (output.folder / "a").write_text("a")
            raise RuntimeError("stop")
    assert sorted(memory.find("/some/codes")) == ["/some/codes/a", "/some/codes/list"]


def test_what_cannot_be_sent_is_kept(job, memory, monkeypatch):
    def put(*_):
        raise PermissionError("no access")

    with pytest.raises(OSError, match=r"could be sent to memory://codes: .*no access.* It is in (/\S+)\.") as error:
        with open_output("memory://codes") as output:
            monkeypatch.setattr(memory, "put_file", put)
            with output.mirrored([(output.folder / "a",)]):
                (output.folder / "a").write_text("a")
    assert (output.folder / "a").read_text() == "a" and str(output.folder) in str(error.value)


def test_a_pipeline_of_a_cluster_writes_to_a_url(job, memory, tmp_path):
    """Tasks fetch, make and send their own parts."""
    pytest.importorskip("datatrove")
    from seed_hf.data.cluster import encode_pipeline

    rows, model, codes = job
    shard = rows[0]["image"]["path"].partition("#")[0]
    steps = encode_pipeline(str(model), shard, "memory://codes", rows_per_file=2)
    for rank in (1, 0, 1):
        documents = None
        for step in steps:
            documents = step(documents, rank, 2)
        number = len(list(documents))
    assert number == 0  # the second time there is nothing to do
    assert read_codes("memory://codes")[:] == read_codes(codes)[:]
    description = json.loads(memory.cat("/codes/encoding-train.json"))
    assert description["source"] == shard
    for path in sorted(codes.glob("data/*")):
        assert pq.read_table(path) == pq.read_table(memory.open(f"/codes/data/{path.name}"))
    with pytest.raises(ValueError, match="commit to the Hub at once"):
        encode_pipeline(str(model), shard, "hf://datasets/owner/codes")
