"""BLIP-2 in the layouts of transformers and of LAVIS, as the start of stage 1."""

import pytest
import torch
from parity_fixtures import COPY, Fixture
from tiny.checkpoints import save_blip2, write_release
from torch.nn import functional as F
from transformers import Blip2ForImageTextRetrieval, Blip2Model

from seed_hf import SeedImageTokenizer
from seed_hf.convert.checkpoint_files import Checkpoint
from seed_hf.convert.image_tokenizer import convert_image_tokenizer


TEXT_SIDE = ["causal_qformer.text_embeddings.*", "causal_qformer.qformer.encoder.layer.*.intermediate.*"]
TEXT_SIDE += ["causal_qformer.qformer.encoder.layer.?.output.*", "*_projection.*"]
ADDED = {"quantizer", "reconstruction_decoder", "generation_decoder", "generation_head"}


@pytest.fixture(scope="module")
def retrieval(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blip2")
    return folder, save_blip2(folder, Blip2ForImageTextRetrieval)


def test_retrieval_model_starts_stage_1(retrieval, tmp_path):
    """BLIP-2's ViT and text features, text feed-forwards at the queries, and new parts for what SEED adds."""
    folder, blip2 = retrieval
    report = convert_image_tokenizer([folder], tmp_path / "out", "blip-2")
    assert {name.split(".")[0] for name in report.fresh} == ADDED | {"temperature"}
    assert set(report.dropped) >= {"itm_head.weight", "qformer.encoder.layer.0.output_query.LayerNorm.bias"}
    model = SeedImageTokenizer.from_pretrained(tmp_path / "out")
    assert model.temperature.item() == pytest.approx(0.07)
    for layer in model.causal_qformer.qformer.encoder.layer:
        for part in ("intermediate", "output"):
            text, query = getattr(layer, part).state_dict(), getattr(layer, f"{part}_query").state_dict()
            assert all(torch.equal(text[name], query[name]) for name in text)
    for name, weight in blip2.vision_model.state_dict().items():
        assert torch.equal(model.vision_model.state_dict()[name], weight), name
    ids, mask = torch.tensor([[2, 7, 9, 0]]), torch.tensor([[1, 1, 1, 0]])
    both = {"input_ids": ids.expand(2, -1), "attention_mask": mask.expand(2, -1)}
    output = model(torch.randn(2, 3, 28, 28), **both)
    with torch.no_grad():
        words = blip2.embeddings(input_ids=ids)
        hidden = blip2.qformer(query_embeds=words, query_length=0, attention_mask=mask).last_hidden_state
        expected = F.normalize(blip2.text_projection(hidden[:, 0]), dim=-1)
    torch.testing.assert_close(output.text_features, expected.expand(2, -1))
    output.loss.backward()
    assert model.causal_qformer.query_tokens.grad.abs().sum() > 0


def test_fresh_parts_are_as_in_a_new_model(retrieval, tmp_path):
    """Two conversions start from the same numbers, and these have the spread of a new model's."""
    for name in ("first", "second"):
        convert_image_tokenizer([retrieval[0]], tmp_path / name, "blip-2")
    first, second = (SeedImageTokenizer.from_pretrained(tmp_path / name) for name in ("first", "second"))
    new = SeedImageTokenizer(first.config)
    for part in ADDED:
        for name, weight in getattr(first, part).named_parameters():
            assert torch.equal(weight, getattr(second, part).get_parameter(name))
            expected = getattr(new, part).get_parameter(name)
            torch.testing.assert_close(weight.std(correction=0), expected.std(correction=0), rtol=0.3, atol=1e-6)


def test_query_feed_forward_can_be_kept(retrieval, tmp_path):
    folder, blip2 = retrieval
    convert_image_tokenizer([folder], tmp_path / "out", "blip-2", keep_query_feed_forward=True)
    model = SeedImageTokenizer.from_pretrained(tmp_path / "out")
    for name, weight in blip2.qformer.state_dict().items():
        assert torch.equal(model.causal_qformer.qformer.state_dict()[name], weight), name


def test_model_without_text_side_has_to_be_said(tmp_path):
    """`Blip2Model` has no text feed-forwards: its own query ones are kept, the text side starts fresh."""
    blip2 = save_blip2(tmp_path / "blip2", Blip2Model)
    with pytest.raises(ValueError, match="missing.*layer.0.intermediate.dense.weight"):
        convert_image_tokenizer([tmp_path / "blip2"], tmp_path / "out", "blip-2")
    report = convert_image_tokenizer([tmp_path / "blip2"], tmp_path / "out", "blip-2", allow_missing=TEXT_SIDE)
    assert report.dropped["language_projection.weight"] == "BLIP-2's language model and the way to it"
    model = SeedImageTokenizer.from_pretrained(tmp_path / "out")
    for name, weight in blip2.qformer.state_dict().items():
        assert torch.equal(model.causal_qformer.qformer.state_dict()[name], weight), name


def test_lavis_layout(tmp_path):
    """The layout of the original, with a matching head, and the ViT as a file of its own."""
    fixture = Fixture(COPY / "stage1_contrastive_tiny")
    heads = {"itm_head.weight": torch.zeros(2, 48), "itm_head.bias": torch.zeros(2), "opt_proj.bias": torch.zeros(9)}
    paths = write_release(fixture.weights, tmp_path, "seed-1")
    torch.save({"model": dict(Checkpoint(paths[1:])) | heads}, tmp_path / "blip2_pretrained.pth")
    paths[1] = tmp_path / "blip2_pretrained.pth"
    report = convert_image_tokenizer(paths, tmp_path / "out", "blip-2", config=fixture.config())
    assert {name.split(".")[0] for name in report.fresh} == ADDED - {"reconstruction_decoder"}
    assert set(heads) < set(report.dropped)
    model = SeedImageTokenizer.from_pretrained(tmp_path / "out")
    io = fixture.io
    output = model(io["pixel_values"], input_ids=io["input_ids"], attention_mask=io["attention_mask"])
    torch.testing.assert_close(output.text_features, io["text_feat"], atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(model.temperature, io["temperature"])


def test_other_model_is_refused(tmp_path):
    torch.save({"fc.weight": torch.ones(2)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="allowed: BLIP-2 with a Q-Former under"):
        convert_image_tokenizer([tmp_path / "other.pth"], tmp_path / "out", "blip-2")
