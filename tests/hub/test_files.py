"""What may be published, and what is refused."""

import json
import os
import pickle
import re
import shutil
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny.hub import write_codes_folder
from tiny.language import build_image_tokenizer, build_tokenizer
from tiny.pictures import build_pipeline

import seed_hf
from seed_hf import SeedImageProcessor, SeedProcessor
from seed_hf.hub import secrets
from seed_hf.hub.files import find_repository_files, is_hub_id
from seed_hf.hub.kinds import repository_kind
from seed_hf.hub.secrets import find_secret


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
    with pytest.raises(ValueError, match="holds what cannot be published") as caught:
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


class Evil:
    def __reduce__(self):
        return os.mkdir, ("was_run",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "content", [{"a": 0}, [1.5, "x"], OrderedDict(a=1), Evil()], ids=lambda value: type(value).__name__
)
def test_pickles_of_every_protocol(content, protocol, folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    (folder / "spiece.model").write_bytes(pickle.dumps(content, protocol))
    assert refused(folder) == {"spiece.model": "a pickle under another name"}
    assert not (folder.parent / "was_run").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cos\nmkdir\n(S'was_run'\ntR",  # has run before it breaks off
        b"cos\nmkdir\n(S'was_run'\ntRN.",  # leaves more behind than its end allows for
        b"cos\nmkdir\np0\np0\n(S'was_run'\ntR.and text",
        b"(S'was_run'\nios\nmkdir\n.",
        b"(cos\nmkdir\nS'was_run'\no.",
    ],
)
def test_pickles_that_a_disassembler_refuses(content, folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    (folder / "LICENSE").write_bytes(content)
    assert refused(folder) == {"LICENSE": "a pickle under another name"}
    assert not (folder.parent / "was_run").exists()


@pytest.mark.parametrize(
    "text", ["cat\ndog\n", "(c) 2026 Robot.\n", "Iot\n.", "Copyright\n", "I am.\n", "#version: 0.2\n"]
)
def test_text_that_starts_like_a_pickle(text, folder):
    (folder / "vocab.txt").write_text(text)
    assert "vocab.txt" in find_repository_files(folder)


def test_weights_whose_header_starts_like_a_pickle(folder):
    """The first bytes are the length of the header: 0x0480 looks like protocol 4."""
    for pad in range(2000):
        save_file({"x": torch.ones(1)}, folder / "model.safetensors", metadata={"pad": "-" * pad})
        if (folder / "model.safetensors").read_bytes()[:2] == b"\x80\x04":
            break
    assert (folder / "model.safetensors").read_bytes()[:2] == b"\x80\x04"
    assert "model.safetensors" in find_repository_files(folder)


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


A = "a1B2c3D4e5F6g7H8i9J0" * 10
HEX = "0123456789abcdef" * 4
# by kind; put together here, so that no scanner takes this file for one that leaks
SECRETS = {
    "a Hugging Face token": ["hf_" + A[:34], "api_org_" + A[:34]],
    "a private key": [
        *(
            f"-----BEGIN {kind}PRIVATE " + f"KEY{end}-----"
            for kind, end in (("RSA ", ""), ("", ""), ("PGP ", " BLOCK"))
        ),
        "-----BEGIN OPENSSH PRIVATE " + "KEY-----",
        "PuTTY-User-Key-" + "File-3: ssh-ed25519",
    ],
    "a password in a URL": ["postgres://me:" + "hunter2@db.example.com/x", "https://:" + "pw1234@example.com"],
    "a signed URL": ["https://x.s3.amazonaws.com/y?a=b&X-Amz-" + "Signature=" + HEX],
    "a JSON web token": ["eyJ" + A[:20] + ".eyJ" + A[:40] + "." + A[:40]],
    "an AWS key": ["AKIA" + "ABCDEFGH12345678", 'aws_secret_access_key = "' + A[:40] + '"'],
    "a Google key": ["AIza" + A[:35], "GOCSPX-" + A[:28]],
    "an Azure key": ["AccountKey=" + A[:86] + "=="],
    "a DigitalOcean token": ["dop_v1_" + HEX],
    "a GitHub token": ["ghp_" + A[:36], "github_pat_" + A[:82]],
    "a GitLab token": ["glpat-" + A[:20]],
    "an Atlassian token": ["ATATT3xFfGF0" + A[:40]],
    "a package index token": ["pypi-AgEIcHlwaS5vcmc" + A[:70], "npm_" + A[:36], "dckr_pat_" + A[:27]],
    "a key of a model server": ["sk-proj-" + A[:48], "sk-ant-" + "api03-" + A[:90], "gsk_" + A[:52], "r8_" + A[:37]],
    "a tracker's key": ["WANDB_API_KEY=" + HEX[:40], "lin_api_" + A[:40]],
    "a Slack token": ["xoxb-1234567890-" + A[:24]],
    "a Slack address": ["https://hooks.slack.com/services/" + "T0123ABCD/B0123ABCD/" + A[:24]],
    "a Discord token": ["M" + A[:23] + "." + A[:6] + "." + A[:27]],
    "a Discord address": ["https://discord.com/api/webhooks/" + "123456789/" + A[:60]],
    "a Telegram token": ["123456789:AA" + A[:33]],
    "a key of a mail service": ["SG." + A[:22] + "." + A[:43], HEX[:32] + "-us12"],
    "a Twilio key": ["SK" + HEX[:32]],
    "a payment key": ["sk_live_" + A[:24], "whsec_" + A[:32], "sq0csp-" + A[:43]],
    "a shop's token": ["shpat_" + HEX[:32]],
    "a password": ['"api_key": "' + A[:20] + '"', "client_secret = '" + A[:24] + "'"],
}


@pytest.mark.parametrize("what", SECRETS)
def test_secrets_of_every_kind(what, tmp_path):
    for secret in SECRETS[what]:
        for encoding in ("utf-8", "utf-16", "utf-32-be"):
            (tmp_path / "file").write_bytes(f"some text\nkey: {secret}\n".encode(encoding))
            assert find_secret(tmp_path / "file") == what, secret
    assert what in {kind for kind, *_ in secrets.SECRETS}


def test_every_kind_of_secret_is_tested():
    assert {what for what, *_ in secrets.SECRETS} == SECRETS.keys()


def test_what_only_looks_like_a_secret(tmp_path):
    """Every file that this package itself publishes or copies, its vocabularies among them, and usual examples."""
    shipped = [path for path in Path(seed_hf.__file__).parent.rglob("*") if "__pycache__" not in path.parts]
    found = {path: find_secret(path) for path in shipped if path.is_file()}
    assert len(found) > 60 and {path: secret for path, secret in found.items() if secret} == {}
    examples = [
        'api_key="none"', 'password: "<your password>"', 'api_key="$OPENAI_KEY_1"',
        "http://localhost:8000/v1", "git@github.com:owner/name", "https://user@host/a:b", "https://{user}:{token}@host",
        "<a href='https://host/?sig=1'>", 'OpenAI(api_key="your-api-key-here-please")', "sk-learn",
    ]  # fmt: skip
    (tmp_path / "file").write_text("\n".join(examples))
    assert find_secret(tmp_path / "file") is None


def test_secret_across_two_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(secrets, "CHUNK_BYTES", 8192)
    (tmp_path / "file").write_text(" " * 8180 + "the secret " + "ghp_" + A[:36] + " " * 9000)
    assert find_secret(tmp_path / "file") == "a GitHub token"


TOKEN = "my-very-own-token"


@pytest.mark.parametrize("name", ["tokenizer_config.json", "README.md", "modeling_seed_image_tokenizer.py", "LICENSE",
                                  "spiece.model", "assets/sheet.png", "assets/sheet.svg", "merges.txt"])  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_the_token_in_use_in_any_file(folder, name, encoding):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"\x89PNG\r\n\0" * (name.endswith("png")) + f'{{"token": "{TOKEN}"}}'.encode(encoding))
    # JSON in UTF-16 is none for those who read it
    allowed = {"holds the token in use"} | ({"no valid JSON"} if name.endswith(".json") else set())
    assert refused(folder, secrets=[TOKEN])[name] in allowed


@pytest.mark.parametrize("where", ["metadata", "name"])
def test_the_token_in_use_in_weights(folder, where):
    metadata = {"format": "pt"} | ({"made_with": TOKEN} if where == "metadata" else {})
    save_file({"a" if where == "metadata" else TOKEN: torch.ones(1)}, folder / "model.safetensors", metadata=metadata)
    assert refused(folder, secrets=[TOKEN]) == {"model.safetensors": "holds the token in use"}


def test_secrets_by_name(folder):
    for name in (".env", ".env.local", "id_rsa", "id_ecdsa", ".npmrc", "server.pem", "store.p12", "token"):
        (folder / name).write_text("x")
    assert set(refused(folder).values()) == {"looks like a secret"}


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


# ------------------------------------------------------------------------------------------------ what is missing
@pytest.fixture(scope="module")
def saved_pipeline(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved_pipeline")
    pipeline = build_pipeline()
    pipeline.save_pretrained(folder)
    (folder / "image_tokenizer" / "model.safetensors").unlink()
    pipeline.image_tokenizer.save_pretrained(folder / "image_tokenizer", max_shard_size="60KB")
    return folder


@pytest.fixture
def pipeline(saved_pipeline, tmp_path):
    return Path(shutil.copytree(saved_pipeline, tmp_path / "pipeline"))


def test_saved_pipeline_is_whole(pipeline):
    assert len(list(pipeline.glob("image_tokenizer/*-of-*.safetensors"))) >= 2
    assert len(find_repository_files(pipeline)) == sum(path.is_file() for path in pipeline.rglob("*"))


@pytest.mark.parametrize("place", ["outside", "inside"])
def test_linked_folders_are_named(pipeline, tmp_path, place):
    target = (tmp_path if place == "outside" else pipeline) / "elsewhere"
    (pipeline / "unet").rename(target)
    (pipeline / "unet").symlink_to(target, target_is_directory=True)
    problems = refused(pipeline)
    assert problems["unet"] == "a link to a folder; put the folder itself there"
    # in a folder of its own name too, and where it leads to nothing
    (pipeline / "unet").unlink()
    (pipeline / "unet").symlink_to(tmp_path / "nothing", target_is_directory=True)
    assert "link" in refused(pipeline)["unet"]


def test_linked_folder_that_is_left_out(folder, tmp_path):
    (folder / "logs").symlink_to(tmp_path, target_is_directory=True)
    assert "config.json" in find_repository_files(folder, ignore_patterns=["logs"])
    assert find_repository_files(folder, "logs") == find_repository_files(folder, ["logs"])


def test_what_is_no_regular_file(folder):
    os.mkfifo(folder / "merges.txt")
    assert refused(folder) == {"merges.txt": "no regular file"}


@pytest.mark.parametrize("part", ["unet", "vae", "scheduler", "image_tokenizer", "empty_prompt"])
def test_pipeline_without_a_component(pipeline, part):
    assert refused(pipeline, ignore_patterns=[part])[part] == "is named in model_index.json, and missing"
    shutil.rmtree(pipeline / part)
    assert refused(pipeline)[part] == "is named in model_index.json, and missing"


@pytest.mark.parametrize("part", ["unet", "vae", "empty_prompt"])
def test_pipeline_without_the_weights_of_a_component(pipeline, part):
    (pipeline / part / "diffusion_pytorch_model.safetensors").unlink()
    assert refused(pipeline) == {part: "has a configuration and no weights"}


def test_index_without_a_shard(pipeline):
    tokenizer = pipeline / "image_tokenizer"
    first, second = sorted(path.name for path in tokenizer.glob("*.safetensors"))[:2]
    (tokenizer / second).unlink()
    assert "missing" in refused(pipeline)[f"image_tokenizer/{second}"]
    # another one in its place has not the weights that the index promises
    shutil.copy(tokenizer / first, tokenizer / second)
    assert re.match(r"lacks \d+ weights", refused(pipeline)[f"image_tokenizer/{second}"])
    (tokenizer / second).unlink()
    (tokenizer / "model.safetensors.index.json").unlink()
    assert {f"image_tokenizer/{second}", "image_tokenizer/model.safetensors.index.json"} == refused(pipeline).keys()


@pytest.mark.parametrize("content", ["{}", '{"weight_map": {"a": 1}}', '{"weight_map": ["a"]}'])
def test_index_that_is_none(pipeline, content):
    index = "image_tokenizer/model.safetensors.index.json"
    (pipeline / index).write_text(content)
    assert refused(pipeline) == {index: "no index of weights"}


def test_codes_without_a_part(tmp_path):
    folder = write_codes_folder(tmp_path / "codes")
    assert "data/train-00000-of-00001.parquet" in find_repository_files(folder)
    (folder / "data" / "train-00000-of-00001.parquet").rename(folder / "data" / "train-00001-of-00003.parquet")
    assert refused(folder).keys() == {f"data/train-0000{part}-of-00003.parquet" for part in (0, 2)}
    shutil.rmtree(folder / "data")
    assert refused(folder) == {"data/train-*.parquet": "is described in encoding-train.json, and missing"}


def test_adapter_without_weights(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "facebook/opt-2.7b"}))
    assert refused(tmp_path).keys() == {"adapter_model.safetensors"}


@pytest.mark.parametrize("name", ["config.json", "adapter_config.json", "model_index.json"])
@pytest.mark.parametrize("content", ["[]", "{", "null", "[" * 10**5], ids=["list", "cut", "null", "deep"])
def test_files_that_decide_and_are_no_json_object(folder, name, content):
    (folder / name).write_text(content)
    with pytest.raises(ValueError, match=f"{name}. is no JSON object"):
        find_repository_files(folder)


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
