"""What may be published, and what is refused."""

import json
import pickle
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_language import build_image_tokenizer, build_tokenizer

from seed_hf import SeedImageProcessor, SeedProcessor
from seed_hf.hub_files_seed import find_repository_files, is_hub_id, repository_kind


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    build_image_tokenizer().save_pretrained(folder)
    SeedImageProcessor().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "model"))


def refused(folder, **kwargs) -> dict[str, str]:
    """What is refused, with the reason."""
    with pytest.raises(ValueError, match="holds what can not be published") as caught:
        find_repository_files(folder, **kwargs)
    return dict(re.findall(r"^  (.+?): (.+)$", str(caught.value), re.MULTILINE))


def test_what_save_pretrained_writes_is_all_sent(saved):
    files = find_repository_files(saved)
    assert set(files) == {path.relative_to(saved).as_posix() for path in saved.rglob("*") if path.is_file()}
    assert {"config.json", "model.safetensors", "modeling_seed_image_tokenizer.py"} <= set(files)


def test_part_of_a_repository(tmp_path):
    SeedProcessor(SeedImageProcessor(), build_tokenizer()).save_pretrained(tmp_path)
    assert repository_kind(tmp_path) is None
    assert "tokenizer.json" in find_repository_files(tmp_path)


def test_pickles(folder):
    torch.save({"weight": torch.zeros(2)}, folder / "pytorch_model.bin")
    torch.save({"weight": torch.zeros(2)}, folder / "merges.txt")
    (folder / "vocab.txt").write_bytes(pickle.dumps({"a": 0}))
    (folder / "LICENSE").write_bytes(pickle.dumps({"a": 0}, protocol=2))
    problems = refused(folder)
    assert problems.keys() == {"pytorch_model.bin", "merges.txt", "vocab.txt", "LICENSE"}
    assert all("pickle" in problem for problem in problems.values())


def test_training_state(folder):
    for name in ("checkpoint-12/model.safetensors", "optimizer.safetensors", "training_state.json", "scheduler.pt"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(folder / "model.safetensors", folder / name)
    save_file({"head.weight": torch.ones(1), "head.exp_avg_sq": torch.ones(1)}, folder / "adapter_model.safetensors")
    problems = refused(folder)
    assert len(problems) == 5 and set(problems.values()) == {"training state"}
    assert refused(folder, ignore_patterns=["checkpoint-*", "optimizer*"]).keys() == {
        "training_state.json", "scheduler.pt", "adapter_model.safetensors",
    }  # fmt: skip


SECRETS = {
    "config.json": json.dumps({"token": "hf_" + "aB3" * 11 + "z"}),
    "README.md": "-----BEGIN RSA PRIVATE KEY-----\nabc",
    "modeling_seed_image_tokenizer.py": "key = 'AKIA" + "ABCDEFGH12345678'",
    "LICENSE": "ghp_" + "a1" * 18,
    "tokenizer_config.json": '{"key": "sk-proj-' + "x1" * 24 + '"}',
}


@pytest.mark.parametrize("name", SECRETS)
def test_secrets_in_files(folder, name):
    (folder / name).write_text(SECRETS[name])
    assert refused(folder)[name].startswith("holds a")


def test_secrets_by_name_and_the_token_in_use(folder):
    for name in (".env", ".env.local", "id_rsa", "server.pem", "token"):
        (folder / name).write_text("x")
    assert set(refused(folder).values()) == {"looks like a secret"}
    for path in (*folder.glob(".env*"), folder / "id_rsa", folder / "server.pem", folder / "token"):
        path.unlink()
    (folder / "README.md").write_text("written with my-very-own-token")
    assert refused(folder, secrets=["my-very-own-token"]) == {"README.md": "holds the token in use"}


def test_what_is_no_part_of_a_repository(folder, tmp_path):
    (folder / "notes.docx").write_text("x")
    (folder / "metrics.jsonl").write_text("{}")
    (folder / "data").mkdir()
    (folder / "data" / "train-00000-of-00001.parquet").write_text("x")
    (folder / "helper_of_mine.py").write_text("x = 1")
    (tmp_path / "elsewhere.json").write_text("{}")
    (folder / "generation_config.json").symlink_to(tmp_path / "elsewhere.json")
    problems = refused(folder)
    assert problems.pop("helper_of_mine.py") == "code that no configuration here names"
    assert problems.pop("generation_config.json") == "a link to something outside of the folder"
    assert problems.keys() == {"notes.docx", "metrics.jsonl", "data/train-00000-of-00001.parquet"}
    assert set(problems.values()) == {"no part of a repository"}
    # what version control and caches leave is not worth an error
    shutil.rmtree(folder / "data")
    for name in ("notes.docx", "metrics.jsonl", "helper_of_mine.py", "generation_config.json"):
        (folder / name).unlink()
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("ref: x")
    assert ".git/HEAD" not in find_repository_files(folder)


def test_broken_weights_and_missing_code(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    (folder / "modeling_seed_quantizer.py").unlink()
    problems = refused(folder)
    assert problems["model.safetensors"].startswith("broken weights")
    assert "missing" in problems["modeling_seed_quantizer.py"] and len(problems) == 2


def test_adapter_on_a_local_folder(tmp_path, folder):
    config = tmp_path / "adapter" / "adapter_config.json"
    config.parent.mkdir()
    save_file({"x": torch.ones(1)}, config.with_name("adapter_model.safetensors"))
    config.write_text(json.dumps({"base_model_name_or_path": str(folder)}))
    assert repository_kind(config.parent) == "adapter"
    assert "no repository on the Hub" in refused(config.parent)["adapter_config.json"]
    config.write_text(json.dumps({"base_model_name_or_path": "facebook/opt-2.7b"}))
    assert set(find_repository_files(config.parent)) == {"adapter_config.json", "adapter_model.safetensors"}


@pytest.mark.parametrize(
    "name", ["./out/stage3", "/tmp/model", "out/stage3/", "a/b/c", "tests", "x/y--z", "a/b.git", ""]
)
def test_no_hub_id(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tests").mkdir()
    assert not is_hub_id(name)


def test_hub_id():
    assert is_hub_id("facebook/opt-2.7b") and is_hub_id("gpt2") and is_hub_id("a_b/c.d-e")


def test_no_folder_or_nothing_in_it(tmp_path):
    with pytest.raises(ValueError, match="`folder` is '.*nowhere'; allowed: an existing folder"):
        find_repository_files(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="nothing at all"):
        find_repository_files(tmp_path)
