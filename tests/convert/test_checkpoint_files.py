"""Checkpoint files that ask for more than they are worth, and those that only look so."""

import io
import zipfile

import pytest
import torch

from seed_hf.convert.checkpoint_files import Checkpoint
from seed_hf.convert.image_tokenizer import convert_image_tokenizer


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b"\x80\x02]q\x00(" + b"\x8f" * 200_000 + b"e."),
        lambda path: path.write_bytes(b"\x80\x02K\x00." * 4 + b"\x80\x02(" + b"}" * 200_000 + b"l."),
        lambda path: torch.save({"weight": [set() for _ in range(20_000)]}, path),
        lambda path: torch.save({"weight": torch.zeros(1).expand(10**9)}, path),
        lambda path: torch.save({"weight": torch.zeros(1).expand(10**9)}, path, _use_new_zipfile_serialization=False),
        lambda path: _compressed({"weight": torch.zeros(10**6)}, path),
    ],
    ids=["empty sets", "empty dicts of the old format", "objects in a zip", "repeated", "repeated, old", "compressed"],
)
def test_small_pickle_that_would_fill_the_memory_is_refused(write, tmp_path, monkeypatch):
    """At a size that does no harm here; nothing of it is loaded."""
    monkeypatch.setattr("seed_hf.convert.checkpoint_files.MAX_OBJECTS_BYTES", 10 * 2**20)
    path = tmp_path / "bomb.pth"
    write(path)
    assert path.stat().st_size < 10**6
    with pytest.raises(ValueError, match=r"bomb\.pth` has .* bytes .*allowed"):
        Checkpoint([path])


def _compressed(content, path):
    plain = io.BytesIO()
    torch.save(content, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for info in source.infolist():
            target.writestr(info.filename, source.read(info))


@pytest.mark.parametrize("new_format", [True, False])
def test_what_honest_files_hold_is_read(new_format, tmp_path):
    """Tied and expanded tensors, keys that are no text, and what is no tensor."""
    table = torch.arange(12.0).reshape(4, 3)
    content = {"in": table, "out": table, "ids": torch.arange(4).expand(1, -1), 3: table, "step": 7}
    content["sparse"] = table.to_sparse()
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=new_format)
    checkpoint = Checkpoint([tmp_path / "a.pth"])
    assert set(checkpoint) == {"in", "out", "ids"} and torch.equal(checkpoint["out"], table)
    assert checkpoint.others.keys() == {"a.pth: 3", "a.pth: step", "a.pth: sparse"}


@pytest.mark.parametrize("content", ["[]", "{}", '{"weight_map": [1]}', '{"weight_map": {"a": 1}}', "[" * 10**5, "x"])
def test_index_that_is_none(content, tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ValueError, match="is no index of weights"):
        Checkpoint([tmp_path])


def test_credentials_in_a_url_are_not_repeated(tmp_path):
    with pytest.raises(ValueError, match="host/eva.pth") as caught:
        convert_image_tokenizer(["https://me:password@host/eva.pth?sig=word"], tmp_path / "out", "seed-1")
    assert "word" not in str(caught.value)
