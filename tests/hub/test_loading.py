"""Round trips over the Hub: every class pushes itself and loads by id, by revision and from the cache."""

import json

import pytest
import torch
from huggingface_hub import ModelCard, constants
from huggingface_hub.errors import LocalEntryNotFoundError
from peft import LoraConfig, get_peft_model
from rounding import assert_codes_of_prompt, assert_equal_up_to_rounding, assert_same_picture
from tiny.demo import build_seed, save_pipeline
from tiny.hub import CODES, write_codes_folder
from tiny.language import build_image_tokenizer
from transformers import AutoModel, AutoModelForCausalLM, AutoProcessor, AutoTokenizer

from seed_hf import (
    SeedConfig,
    SeedForCausalLM,
    SeedImageProcessor,
    SeedImageTokenizer,
    SeedImageTokenizerConfig,
    SeedPipeline,
    SeedProcessor,
    SeedTokenizer,
)
from seed_hf.cards import write_card
from seed_hf.commands import main
from seed_hf.data.codes import read_codes
from seed_hf.hub import push_folder
from seed_hf.hub.fetch import find_folder
from seed_hf.models.hub_mixin_seed import HubUploadMixin


# PEFT asks by the old name; diffusers passes on what its caller gave
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    image_tokenizer = save_pipeline(folder / "pipeline")
    model, processor = build_seed(image_tokenizer)
    model.attach_image_tokenizer(image_tokenizer)
    return folder, image_tokenizer, model, processor


def same_weights(first, second) -> bool:
    first, second = first.state_dict(), second.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def without_place(thing) -> dict:
    """A configuration as JSON, without where it came from and which code loads it."""
    places = ("_name_or_path", "auto_map", "dtype")

    def clean(value):
        return {k: clean(v) for k, v in value.items() if k not in places} if isinstance(value, dict) else value

    return clean(json.loads(thing.to_json_string()))


@pytest.fixture
def offline(monkeypatch):
    """Turns the network off, as HF_HUB_OFFLINE does."""
    return lambda: monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_language_model_and_its_processor(hub, parts, offline):
    _, _, model, processor = parts
    first = model.push_to_hub("owner/lm", private=True, max_shard_size="400KB")
    processor.push_to_hub("owner/lm", commit_message="Processor")
    assert first.new["config.json"] and sum(name.endswith(".safetensors") for name in first.new) > 1
    assert {"hub_mixin_seed.py", "modeling_seed.py", "processing_seed.py"} <= hub.files("owner/lm").keys()
    assert "README.md" not in hub.files("owner/lm")  # no card is made up
    for _ in range(2):
        loaded = SeedForCausalLM.from_pretrained("owner/lm")
        assert same_weights(loaded, model)
        again = AutoModelForCausalLM.from_pretrained("owner/lm")
        assert_equal_up_to_rounding(again(IDS).logits, model.eval()(IDS).logits)
        assert SeedConfig.from_pretrained("owner/lm").image_token_layout == model.config.image_token_layout
        again = SeedProcessor.from_pretrained("owner/lm")
        assert type(AutoProcessor.from_pretrained("owner/lm")) is SeedProcessor
        assert type(AutoTokenizer.from_pretrained("owner/lm")) is SeedTokenizer
        text = "a photo" + processor.tokenizer.codes_to_text(torch.tensor([[1, 2, 3, 4]]))
        assert again(text=text)["input_ids"] == processor(text=text)["input_ids"]
        assert again.image_processor.to_dict() == processor.image_processor.to_dict()
        hub.requests.clear()
        offline()  # and the same from the cache
    assert not hub.requests
    with pytest.raises((OSError, LocalEntryNotFoundError)):
        SeedForCausalLM.from_pretrained("owner/never-downloaded")


@pytest.mark.parametrize(
    "name", ["image_tokenizer", "image_processor", "tokenizer", "config", "image_tokenizer_config"]
)
def test_every_class_by_revision(hub, parts, name):
    """What is on a branch is that of the branch."""
    _, image_tokenizer, model, processor = parts
    makers = {
        "image_tokenizer": lambda: build_image_tokenizer(seed=1),
        "image_processor": lambda: SeedImageProcessor(size={"height": 16, "width": 16}),
        "tokenizer": lambda: processor.tokenizer,
        "config": lambda: model.config,
        "image_tokenizer_config": lambda: image_tokenizer.config,
    }
    thing = makers[name]()
    assert isinstance(thing, HubUploadMixin)
    report = thing.push_to_hub("owner/part", revision="second")
    assert report.url and list(hub.files("owner/part")) == [".gitattributes"]
    for revision in ("second", report.url.rpartition("/")[2]):
        loaded = type(thing).from_pretrained("owner/part", revision=revision)
        if name == "image_tokenizer":
            assert same_weights(loaded, thing)
            assert same_weights(AutoModel.from_pretrained("owner/part", revision=revision), thing)
        elif name == "tokenizer":
            assert loaded.get_vocab() == thing.get_vocab() and loaded.image_token_layout == thing.image_token_layout
        else:
            assert without_place(loaded) == without_place(thing)
    if "config" not in name:  # of which transformers makes a default one
        with pytest.raises((OSError, ValueError)):
            type(thing).from_pretrained("owner/part")  # the main branch has none


def test_pipeline(hub, parts, offline):
    folder, image_tokenizer, model, processor = parts
    pipeline = SeedPipeline.from_pretrained(folder / "pipeline", language_model=model, processor=processor)
    report = pipeline.push_to_hub("owner/pipeline", create_pr=False)
    assert {"language_model/model.safetensors", "processor/tokenizer.json"} <= {*report.new}
    codes = torch.tensor([[3, 5, 7, 9]])
    wanted = pipeline(codes=codes, generator=torch.Generator().manual_seed(0)).images[0]
    commit = report.url.rpartition("/")[2]
    for revision in (None, commit):
        loaded = SeedPipeline.from_pretrained("owner/pipeline", revision=revision)
        got = loaded(codes=codes, generator=torch.Generator().manual_seed(0)).images[0]
        assert_same_picture(got, wanted)
        assert_codes_of_prompt(pipeline, "a cat", loaded.encode_prompt("a cat"))
    assert same_weights(
        SeedImageTokenizer.from_pretrained("owner/pipeline", subfolder="image_tokenizer"), image_tokenizer
    )
    assert SeedImageTokenizerConfig.from_pretrained("owner/pipeline", subfolder="image_tokenizer").codebook_size == 16
    offline()
    hub.requests.clear()
    SeedPipeline.from_pretrained("owner/pipeline")
    assert not hub.requests


def test_adapter(hub, parts, tmp_path):
    """The base by id too, at its revision."""
    _, _, model, _ = parts
    model.push_to_hub("owner/lm", revision="v1")
    base = SeedForCausalLM.from_pretrained("owner/lm", revision="v1")
    config = LoraConfig(r=2, init_lora_weights=False, task_type="CAUSAL_LM", revision="v1", **base.lora_settings())
    adapted = get_peft_model(base, config).eval()
    adapted.save_pretrained(tmp_path / "adapter")
    values = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (values["base_model_name_or_path"], values["revision"]) == ("owner/lm", "v1")
    card = write_card(tmp_path / "adapter", "owner/adapter", licence="mit")  # in place of the stub that PEFT writes
    push_folder(tmp_path / "adapter", "owner/adapter")
    assert (
        ModelCard(hub.files("owner/adapter")["README.md"].decode()).data.base_model
        == "owner/lm"
        == card.data.base_model
    )
    loaded = SeedForCausalLM.from_pretrained("owner/adapter")
    torch.testing.assert_close(loaded(IDS).logits, adapted(IDS).logits)


def test_codes(hub, tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.url)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    folder = write_codes_folder(tmp_path / "codes")
    write_card(folder, "owner/codes", licence="mit")
    report = push_folder(folder, "owner/codes", private=True)
    assert report.repo_type == "dataset" and hub.repositories["dataset", "owner/codes"].private
    assert read_codes("owner/codes")["codes"] == CODES
    assert main(["info", "owner/codes"]) == 0
    repository = hub.repositories["dataset", "owner/codes"]
    repository.private, repository.gated = False, "auto"
    monkeypatch.setenv("HF_TOKEN", hub.guest_token)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache_of_a_guest"))
    with pytest.raises(ValueError, match="the Hub refused it .*restricted"):
        find_folder("owner/codes", is_data=True)


def test_saving_with_push_to_hub_keeps_the_card(hub, tmp_path):
    """`save_pretrained(push_to_hub=True)` of transformers writes a card of its own, which does not go out."""
    model = build_image_tokenizer()
    card = tmp_path / "card"
    model.save_pretrained(card)
    (card / "README.md").write_text("---\nlicense: mit\n---\n\nMine.\n")
    push_folder(card, "owner/tokenizer")
    model.save_pretrained(tmp_path / "tokenizer", push_to_hub=True, repo_id="owner/tokenizer")
    model.push_to_hub("owner/tokenizer")
    with pytest.raises(TypeError, match="commit_description"):
        model.push_to_hub("owner/new", commit_description="not known")
    assert hub.files("owner/tokenizer")["README.md"] == (card / "README.md").read_bytes()
