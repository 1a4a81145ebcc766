"""Stage 3's loss: smoothed where the target is text, and that of one big batch however it is cut."""

import shutil
from types import SimpleNamespace

import pytest
import torch
import train_causal_lm
from tiny.hub import cache_copy
from tiny.language import build_base_tokenizer, build_language_model, build_seed_model
from torch.nn import functional as F

from seed_hf.trainer.packing import collate_samples
from seed_hf.trainer.settings import LanguageModelSettings, LoraSettings
from seed_hf.trainer.stages.causal_lm import LanguageModelStage, _load_language_model, add_lora


@pytest.fixture(scope="module")
def model():
    return build_seed_model("llama", "learned")[0]


@pytest.fixture
def samples(model):
    """Captions and images in turns, of unequal lengths."""
    generator, samples = torch.Generator().manual_seed(0), []
    for number, length in enumerate((9, 14, 7, 11)):
        ids = torch.randint(1, 300, (length,), generator=generator).tolist()
        samples.append({"input_ids": ids, "labels": [-100] * 4 + ids[4:], "is_image_task": number % 2 == 1})
    return samples


def stage_of(model, label_smoothing):
    """Only what the loss needs."""
    stage = object.__new__(LanguageModelStage)
    stage.run, stage.model = SimpleNamespace(model=model), model
    stage.attn_implementation, stage.label_smoothing = "sdpa", label_smoothing
    return stage


@torch.no_grad()
def expected_loss(model, sample, label_smoothing):
    """Sum over the targets of one sample, by PyTorch's own label smoothing."""
    ids = torch.tensor([sample["input_ids"]])
    logits = model(input_ids=ids).logits[0, 3:-1]
    smoothing = 0.0 if sample["is_image_task"] else label_smoothing
    return F.cross_entropy(logits, ids[0, 4:], label_smoothing=smoothing, reduction="sum").item()


@pytest.mark.parametrize("row_length", [0, 48])
def test_label_smoothing_is_pytorchs_for_text_and_none_for_codes(model, samples, row_length):
    stage, plain = stage_of(model, 0.2), stage_of(model, 0.0)
    batch = collate_samples(samples, 0, row_length)
    count = stage.count_targets(batch)
    with torch.no_grad():
        loss, without = (each.compute_loss(batch)[0] for each in (stage, plain))
        parts = [collate_samples(part, 0, row_length) for part in (samples[:1], samples[1:])]
        # weighted as OptimizerUpdate weights micro-batches
        cut = sum(stage.compute_loss(part)[0] * stage.count_targets(part) for part in parts) / count
    assert loss.item() == pytest.approx(sum(expected_loss(model, each, 0.2) for each in samples) / count, rel=1e-5)
    assert without.item() == pytest.approx(sum(expected_loss(model, each, 0) for each in samples) / count, rel=1e-5)
    assert cut.item() == pytest.approx(loss.item(), rel=1e-5)
    assert abs(loss - without) > 1e-3


def test_its_gradient_is_pytorchs(model, samples):
    table = model.get_input_embeddings().weight
    (got,) = torch.autograd.grad(stage_of(model, 0.2).compute_loss(collate_samples(samples[:1], 0))[0], table)
    ids = torch.tensor([samples[0]["input_ids"]])
    wanted_loss = F.cross_entropy(model(input_ids=ids).logits[0, 3:-1], ids[0, 4:], label_smoothing=0.2)
    (wanted,) = torch.autograd.grad(wanted_loss, table)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)


def test_shares_out_of_range_are_refused(model):
    for share in (-0.1, 1.0):
        with pytest.raises(ValueError, match=f"`label_smoothing` is {share}; allowed"):
            LanguageModelStage(None, None, [], [], label_smoothing=share)


def test_what_no_evaluation_could_use_is_refused_before_training(tmp_path):
    with pytest.raises(ValueError, match="num_eval_images=0 must be at least 1"):
        train_causal_lm.parse_args(["--output_dir", "out", "--image_tokenizer", "x", "--num_eval_images", "0"])
    run = SimpleNamespace(unwrapped_model=None)
    with pytest.raises(ValueError, match="`held_out` is empty"):
        LanguageModelStage(run, None, [], [])
    with pytest.raises(ValueError, match="`picture_decoder` is '.*'; allowed: a folder"):
        LanguageModelStage(run, None, [], [{}], picture_decoder=str(tmp_path))


def new_adapter(init_adapter=None, embedding="projected_codes", **settings):
    model = build_seed_model("llama", embedding, **settings)[0]
    return add_lora(model, LoraSettings(init_adapter=init_adapter and str(init_adapter)), "lm")


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft asks by the old name
def test_an_adapter_is_loaded_as_a_whole_or_refused(tmp_path):
    fits, half, other = tmp_path / "fits", tmp_path / "half", tmp_path / "learned"
    trained = new_adapter()
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter += 0.1 if parameter.requires_grad else 0
    trained.save_pretrained(fits, save_embedding_layers=False)
    again = dict(new_adapter(fits).named_parameters())
    assert all(torch.equal(again[name], value) for name, value in trained.named_parameters() if value.requires_grad)
    new_adapter(embedding="learned").save_pretrained(other, save_embedding_layers=False)
    for folder, embedding in ((fits, "learned"), (other, "projected_codes")):
        with pytest.raises(ValueError, match=r"`init_adapter` '.*' is one of another model: missing \["):
            new_adapter(folder, embedding)
    trained.peft_config["default"].lora_alpha = 16
    trained.save_pretrained(half, save_embedding_layers=False)
    with pytest.raises(ValueError, match=r"has lora_alpha=16, and this run has lora_alpha=32; allowed: the same"):
        new_adapter(half)


def test_the_tokenizer_is_that_of_the_revision(tmp_path, monkeypatch):
    for name, kind in (("old", "llama"), ("new", "gpt2")):
        build_base_tokenizer(kind).save_pretrained(tmp_path / name)
        build_language_model().save_pretrained(tmp_path / name)
    old = cache_copy(tmp_path / "old", tmp_path / "cache", "owner/lm")
    shutil.copytree(tmp_path / "new", old.with_name("1" * 40))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    for revision, bos in ((None, "<s>"), ("1" * 40, "<|endoftext|>")):
        settings = LanguageModelSettings(
            language_model="owner/lm", language_model_revision=revision, image_tokenizer="x"
        )
        assert _load_language_model(settings, "auto", [])[1].bos_token == bos
