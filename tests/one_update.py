"""What one optimizer update changes in real modules, for tests that cut the same global batch in other ways."""

import torch
from tiny.image_tokenizer import TINY, tiny_image_tokenizer
from tiny.language import build_seed_model
from tiny.training import parse_args

from seed_hf.trainer.feature_cache import FeatureCache
from seed_hf.trainer.packing import collate_samples, model_inputs
from seed_hf.trainer.run import TrainingRun


# no dropout: its noise depends on how the batch is cut
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def update(folder, model, dataset, batch_size, make_loss, **settings):
    """Changes of all trainable parameters by one update of eight samples, and the loss of each micro-batch.

    With this epsilon AdamW's first update is the gradient itself.
    """
    flags = f"--output_dir {folder} --batch_size {batch_size} --global_batch_size 8 --max_steps 1 --weight_decay 0"
    run = TrainingRun(parse_args([*flags.split(), "--learning_rate", "1e6", "--adam_epsilon", "1e6"]), model)
    before = {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}
    loss_of, fit_settings = make_loss(run)
    shown = []

    def compute_loss(batch):
        loss, value = loss_of(batch)
        shown.append(value.item())
        return loss, {}

    run.fit(run.make_batches(dataset, **settings), compute_loss, **fit_settings)
    after = dict(model.named_parameters())
    return {name: after[name].detach() - value for name, value in before.items()}, shown


def update_stage_1(folder, gather, train_vision, batch_size, cached=True):
    """Of the contrastive stage; also how often the ViT ran."""
    model = tiny_image_tokenizer(contrastive_gather=gather, qformer_config={**TINY["qformer_config"], **NO_DROPOUT})
    model.requires_grad_(False)
    parts = [model.causal_qformer, model.vision_projection, model.text_projection, model.vision_model.post_layernorm]
    for part in parts + [model.vision_model] * train_vision:
        part.requires_grad_(True)
    model.temperature.requires_grad_(True)
    generator = torch.Generator().manual_seed(0)
    size, words = model.config.vision_config.image_size, model.config.qformer_config.vocab_size
    pictures = torch.randn(8, 3, size, size, generator=generator)
    texts = torch.randint(0, words, (8, 6), generator=generator)
    dataset = [{"pixel_values": picture, "input_ids": text} for picture, text in zip(pictures, texts, strict=True)]
    encoded = []
    model.vision_model.encoder.layers[0].register_forward_hook(lambda *_: encoded.append(1))

    def make_loss(run):
        cache = FeatureCache(model, run.accelerator)
        if not cached:
            return lambda batch: (run.model(**batch).loss,) * 2, {}
        return lambda batch: cache.loss_of(run.model(**batch)), {"look_ahead": cache.look_ahead}

    return *update(folder, model, dataset, batch_size, make_loss), len(encoded)


def update_stage_2(folder, batch_size):
    """Of codebook, decoder blocks and generation head."""
    model = tiny_image_tokenizer(reverse_qformer_config={**TINY["reverse_qformer_config"], **NO_DROPOUT})
    model.requires_grad_(False)
    for part in (model.quantizer, model.reconstruction_decoder, model.generation_decoder, model.generation_head):
        part.requires_grad_(True)
    generator, config = torch.Generator().manual_seed(0), model.config
    embeds = torch.randn(8, config.num_query_tokens, config.qformer_config.hidden_size, generator=generator)
    targets = torch.randn(8, config.num_generation_tokens, config.generation_dim, generator=generator)
    dataset = [{"causal_embeds": own, "generation_targets": to} for own, to in zip(embeds, targets, strict=True)]
    return update(folder, model, dataset, batch_size, lambda run: (lambda batch: (run.model(**batch).loss,) * 2, {}))


def update_stage_3(folder, batch_size, row_length):
    """Of a language model, on samples with unequal numbers of targets."""
    model, _ = build_seed_model("llama")
    generator, dataset = torch.Generator().manual_seed(0), []
    for length in (9, 14, 7, 11, 20, 5, 16, 8):
        ids = torch.randint(1, 300, (length,), generator=generator).tolist()
        dataset.append({"input_ids": ids, "labels": [-100] * 4 + ids[4:], "is_image_task": False})

    def make_loss(run):
        def loss_of(batch):
            return (run.model(**model_inputs(batch), target_logits_only=True, use_cache=False).loss,) * 2

        return loss_of, {"count_targets": lambda batch: float((batch["labels"] != -100).sum())}

    def collate(samples):
        return collate_samples(samples, 0, row_length)

    return update(folder, model, dataset, batch_size, make_loss, collate_fn=collate)


def assert_same_update(got, expected):
    """Up to the order of float32 sums."""
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        value, other = torch.as_tensor(value), torch.as_tensor(got[name])
        torch.testing.assert_close(other, value, rtol=1e-3, atol=1e-6 + 1e-4 * value.abs().max().item(), msg=name)
