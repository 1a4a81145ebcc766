"""Contrastive gradients of micro-batches with cached features are those of the one big batch."""

import pytest
import torch
from accelerate.state import AcceleratorState
from tiny_image_tokenizer import TINY, tiny_image_tokenizer
from tiny_training import parse_args

from seed_hf.training_feature_cache import FeatureCache
from seed_hf.training_run import TrainingRun


@pytest.fixture(autouse=True)
def fresh_accelerator():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def change_of_weights(folder, gather, train_vision, batch_size, cached=True):
    """What one update changes; with this epsilon AdamW's first update is the gradient itself. Also the logged loss."""
    # no dropout: its noise depends on the batch
    qformer = {**TINY["qformer_config"], "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = tiny_image_tokenizer(contrastive_gather=gather, qformer_config=qformer)
    model.requires_grad_(False)
    parts = [model.causal_qformer, model.vision_projection, model.text_projection, model.vision_model.post_layernorm]
    for part in parts + [model.vision_model] * train_vision:
        part.requires_grad_(True)
    model.temperature.requires_grad_(True)
    flags = f"--output_dir {folder} --batch_size {batch_size} --global_batch_size 8 --max_steps 1 --weight_decay 0"
    run = TrainingRun(parse_args([*flags.split(), "--learning_rate", "1e6", "--adam_epsilon", "1e6"]), model)
    size, words = model.config.vision_config.image_size, model.config.qformer_config.vocab_size
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(8, 3, size, size, generator=generator)
    texts = torch.randint(0, words, (8, 6), generator=generator)
    dataset = [{"pixel_values": picture, "input_ids": text} for picture, text in zip(pictures, texts, strict=True)]
    cache, encoded = FeatureCache(run), []
    model.vision_model.encoder.layers[0].register_forward_hook(lambda *_: encoded.append(1))
    before = {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}
    shown = []

    def compute_loss(batch):
        output = run.model(**batch)
        loss, value = cache.loss_of(output) if cached else (output.loss, output.loss)
        shown.append(value.item())
        return loss, {"loss": value}

    run.fit(run.make_batches(dataset), compute_loss, look_ahead=cache.look_ahead if cached else None)
    after = dict(model.named_parameters())
    return {name: after[name].detach() - value for name, value in before.items()}, shown, len(encoded)


@pytest.mark.parametrize("train_vision", [False, True])
@pytest.mark.parametrize("gather", ["full", "detached"])
def test_cached_features_give_the_gradient_of_the_big_batch(tmp_path, gather, train_vision):
    expected, (loss,), _ = change_of_weights(tmp_path / "big", gather, train_vision, batch_size=8)
    got, losses, encoded = change_of_weights(tmp_path / "small", gather, train_vision, batch_size=2)
    assert losses == pytest.approx([loss] * 4, rel=1e-5)
    assert encoded == (8 if train_vision else 4)  # a frozen ViT sees each picture once
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=1e-3, atol=1e-6 + 1e-4 * value.abs().max().item(), msg=name)


def test_plain_accumulation_is_another_gradient(tmp_path):
    expected, *_ = change_of_weights(tmp_path / "big", "full", False, batch_size=8)
    got, *_ = change_of_weights(tmp_path / "small", "full", False, batch_size=2, cached=False)
    name = "vision_projection.weight"
    assert torch.nn.functional.cosine_similarity(got[name].flatten(), expected[name].flatten(), dim=0) < 0.98
