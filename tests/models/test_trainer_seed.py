"""Training targets where images are inserted, and transformers' own Trainer on both models."""

import pytest
import torch
from tiny.image_tokenizer import tiny_image_tokenizer, tiny_pixels
from tiny.language import build_codes, build_seed_model, placeholder_span
from torch.nn.functional import cross_entropy, pad
from transformers import Trainer, TrainingArguments
from transformers.utils.generic import find_labels

from seed_hf import SeedForCausalLM


def image_and_text(tokenizer):
    """Ids with `<image>`, the same with image tokens, and the codes; two rows, in the second the image comes last."""
    layout, codes = tokenizer.image_token_layout, build_codes(2)
    empty, spans = placeholder_span(layout), [layout.span(row) for row in codes]
    before = torch.tensor([[*empty, 5, 6], [5, 6, *empty]])
    return before, torch.tensor([[*spans[0], 5, 6], [5, 6, *spans[1]]]), codes


@pytest.mark.parametrize("only_targets", [False, True])
@pytest.mark.parametrize("embedding", ["projected_codes", "learned"])
def test_targets_follow_inserted_images(embedding, only_targets):
    """The right value is computed here, from the logits of the whole sequence with its image tokens."""
    model, tokenizer = build_seed_model(embedding=embedding)
    before, after, codes = image_and_text(tokenizer)
    logits, settings = model(after).logits, {"codes": codes, "target_logits_only": only_targets}

    def loss_of(targets):
        return cross_entropy(logits[:, :-1].flatten(0, 1).float(), targets[:, 1:].flatten())

    torch.testing.assert_close(model(before, labels=before, **settings).loss, loss_of(after))
    masked, wanted = before.clone(), after.clone()
    masked[0, :4] = wanted[0, :4] = -100
    torch.testing.assert_close(model(before, labels=masked, **settings).loss, loss_of(wanted))
    shifted = pad(before[:, 1:], (0, 1), value=-100)
    torch.testing.assert_close(model(before, shift_labels=shifted, **settings).loss, loss_of(after))
    packed = {"position_ids": torch.arange(before.shape[1]).repeat(2)[None], "codes": codes}
    row, wanted = before.flatten()[None], after.flatten()[None]
    logits = model(wanted, position_ids=packed["position_ids"]).logits
    packed["target_logits_only"] = only_targets
    torch.testing.assert_close(model(row, labels=row, **packed).loss, loss_of(wanted))


def test_a_placeholder_without_an_image_is_no_target():
    model, tokenizer = build_seed_model()
    before, after, _ = image_and_text(tokenizer)
    is_image = tokenizer.image_token_layout.is_image_token(after)
    wanted = before.masked_fill(is_image, -100)
    torch.testing.assert_close(model(before, labels=before).loss, model(before, labels=wanted).loss)
    embeds = model.embed_tokens(after)
    got = model(inputs_embeds=embeds, labels=before).loss
    torch.testing.assert_close(got, model(inputs_embeds=embeds, labels=wanted).loss)
    # the last target of a part of a sequence is in the next part
    last = torch.full_like(before, tokenizer.image_placeholder_token_id)
    replaced = tokenizer.image_token_layout.replace_placeholder_targets(last, after[:, 1:])
    assert (replaced[:, -1] == -100).all() and (replaced != tokenizer.image_placeholder_token_id).all()


def test_no_argument_is_mistaken_for_labels():
    assert find_labels(SeedForCausalLM) == ["labels"]


def arguments(folder, **kwargs):
    return TrainingArguments(str(folder), use_cpu=True, report_to=[], remove_unused_columns=False, **kwargs)


def test_the_trainer_evaluates_a_language_model(tmp_path):
    model, tokenizer = build_seed_model()
    before, _, codes = image_and_text(tokenizer)

    def collate(rows):
        return {"input_ids": before[rows], "codes": codes[rows], "labels": before[rows]}

    shapes = []

    def measure(prediction):
        shapes.append(prediction.label_ids.shape)
        return {"called": 1.0}

    trainer = Trainer(model, arguments(tmp_path), data_collator=collate, eval_dataset=[0, 1], compute_metrics=measure)
    metrics = trainer.evaluate()
    wanted = model(before, codes=codes, labels=before).loss.item()
    # float32 may sum in another order
    assert metrics["eval_loss"] == pytest.approx(wanted, rel=1e-4) and metrics["eval_called"] == 1.0
    assert shapes == [tuple(before.shape)]


def test_the_trainer_keeps_the_best_model(tmp_path):
    """Three epochs on images by their codes, measured after each; the second counts as the best one."""
    model, tokenizer = build_seed_model()
    before, after, codes = image_and_text(tokenizer)
    seen, scores = [], iter([0.1, 0.9, 0.5])

    def collate(rows):
        return {"input_ids": before[rows], "codes": codes[rows], "labels": before[rows]}

    def measure(prediction):
        assert prediction.predictions.shape == (2, before.shape[1], model.config.vocab_size)
        # what may be compared with logits: labels in which images have taken their places
        right = prediction.predictions[:, :-1].argmax(-1) == after.numpy()[:, 1:]
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return {"score": next(scores, 0.0), "accuracy": right.mean()}

    settings = {"eval_strategy": "epoch", "save_strategy": "epoch", "metric_for_best_model": "score"}
    settings |= {"num_train_epochs": 3, "load_best_model_at_end": True, "learning_rate": 1e-2, "disable_tqdm": True}
    data = {"train_dataset": [0, 1], "eval_dataset": [0, 1], "compute_metrics": measure}
    trainer = Trainer(model, arguments(tmp_path, **settings), data_collator=collate, **data)
    trainer.train()
    assert trainer.state.best_metric == 0.9 and trainer.state.best_model_checkpoint.endswith("-2")
    assert all(torch.equal(value, seen[1][name]) for name, value in model.state_dict().items())
    assert any((value != seen[2][name]).any() for name, value in model.state_dict().items())
    prediction = trainer.predict([0, 1])
    assert torch.equal(torch.tensor(prediction.label_ids), before)
    # float32 may sum in another order
    torch.testing.assert_close(
        torch.tensor(prediction.predictions), model(before, codes=codes).logits.detach(), rtol=1e-4, atol=1e-5
    )
    assert 0 <= prediction.metrics["test_accuracy"] <= 1


def test_the_trainer_evaluates_an_image_tokenizer(tmp_path):
    """Its targets have no "label" in their name, so that they have to be named to the Trainer."""
    model = tiny_image_tokenizer()
    pixels = tiny_pixels()
    targets = torch.zeros_like(model.decode(model.encode(pixels)))

    def collate(rows):
        return {"pixel_values": pixels[rows], "generation_targets": targets[rows]}

    settings = arguments(tmp_path, label_names=["generation_targets"])
    trainer = Trainer(model, settings, data_collator=collate, eval_dataset=[0, 1])
    wanted = model(pixels, generation_targets=targets).loss.item()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(wanted, rel=1e-4)
