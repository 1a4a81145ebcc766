"""SeedImageTokenizer: shapes, saving, stability of codes, objectives, errors."""

import re

import pytest
import torch
from rounding import assert_equal_up_to_rounding
from safetensors.torch import load_file
from tiny.image_tokenizer import TINY, tiny_image_tokenizer, tiny_pixels
from torch.nn import functional as F
from transformers import AutoModel
from transformers.models.janus.modeling_janus import JanusVQVAEModelOutput

from seed_hf import SeedImageTokenizer, SeedImageTokenizerConfig
from seed_hf.models.losses_seed import contrastive_loss


HEADS = ("text", "mlp", "qformer")


@pytest.fixture(scope="module")
def model():
    return tiny_image_tokenizer()


def text_batch(batch_size=4):
    generator = torch.Generator().manual_seed(1)
    input_ids = torch.randint(5, 50, (batch_size, 7), generator=generator)
    attention_mask = torch.ones_like(input_ids)
    attention_mask[1, 4:] = 0
    return {"input_ids": input_ids, "attention_mask": attention_mask}


def test_fresh_codebook_is_uniform_and_small():
    """As the original's; transformers skips modules of registered classes without parameters of their own."""
    weight = SeedImageTokenizer(SeedImageTokenizerConfig(**TINY)).quantizer.embedding.weight
    assert weight.abs().max() <= 1 / 64 < 1.02 * weight.abs().max()


@pytest.mark.parametrize("head", HEADS)
def test_shapes(head):
    model = tiny_image_tokenizer(generation_head=head)
    codes = model.encode(tiny_pixels(3))
    assert codes.shape == (3, 8) and codes.dtype == torch.long
    assert codes.unique().numel() > 4
    expected = (3, 6, 32) if head == "text" else (3, 32)
    assert model.decode(codes).shape == expected
    assert model(tiny_pixels(3)).generation_embeds.shape == expected
    assert torch.equal(model(tiny_pixels(3)).codes, codes)


def test_encode_gives_what_vq_models_give():
    """Under their names, and without moving the codebook, even of a model that trains."""
    model = tiny_image_tokenizer(codebook_ema_decay=0.9).train()
    pixels, before = tiny_pixels(3), model.quantizer.embedding.weight.clone()
    output = model.encode(pixels, return_dict=True)
    assert set(JanusVQVAEModelOutput.__dataclass_fields__) <= set(type(output).__dataclass_fields__)
    assert torch.equal(model.quantizer.embedding.weight, before)
    model.eval()
    output, wanted = model.encode(pixels, return_dict=True), model(pixels)
    assert torch.equal(output.image_tokens, model.encode(pixels))
    assert_equal_up_to_rounding(output.last_hidden_state, wanted.causal_embeds)
    assert_equal_up_to_rounding(output.quantized_last_hidden_state, model.get_code_vectors(wanted.codes))
    assert_equal_up_to_rounding(output.embedding_loss, wanted.quantizer_loss)
    pixels[1, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="in 1 of 3 images"):
        model.encode(pixels, return_dict=True)


def test_no_layer_is_split_over_devices(model):
    """Ours, and those that its parts bring."""
    assert {"Blip2EncoderLayer", "Blip2QFormerLayer", "Blip2VisionEmbeddings"} <= set(model._no_split_modules)


@pytest.mark.parametrize("head", HEADS)
def test_save_and_reload_give_equal_outputs(tmp_path, head):
    model = tiny_image_tokenizer(generation_head=head)
    model.save_pretrained(tmp_path)
    weights = [path for path in tmp_path.glob("model*") if path.suffix != ".py"]
    assert [path.suffix for path in weights] == [".safetensors"]
    again, info = SeedImageTokenizer.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    again.save_pretrained(tmp_path / "again")
    saved, resaved = ((folder / "config.json").read_text() for folder in (tmp_path, tmp_path / "again"))
    # loading writes the dtype into every sub-config, where some versions of transformers leave it out until it is set
    assert set(re.findall('"dtype": (.*),', resaved)) == {'"float32"'}
    assert set(re.findall('"dtype": (.*),', saved)) <= {'"float32"', "null"}
    assert re.sub('"dtype": .*', "", saved).split() == re.sub('"dtype": .*', "", resaved).split()
    assert type(AutoModel.from_pretrained(tmp_path)) is SeedImageTokenizer
    pixels, codes = tiny_pixels(), model.encode(tiny_pixels())
    assert torch.equal(again.encode(pixels), codes)
    assert_equal_up_to_rounding(again.decode(codes), model.decode(codes))
    features = [each.get_text_features(**text_batch()).pooler_output for each in (again, model)]
    assert_equal_up_to_rounding(*features)
    features = [each.get_image_features(codes=codes).pooler_output for each in (again, model)]
    assert_equal_up_to_rounding(*features)
    assert again.vision_model.post_layernorm.eps == 1e-5


def test_a_moving_average_stays_without_a_gradient_after_loading(tmp_path):
    tiny_image_tokenizer(codebook_ema_decay=0.9).save_pretrained(tmp_path)
    model = SeedImageTokenizer.from_pretrained(tmp_path)
    fixed = [name for name, value in model.named_parameters() if not value.requires_grad]
    assert fixed == ["quantizer.embedding.weight"]


def test_checkpoint_folder_is_read_strictly(tmp_path, model):
    from safetensors.torch import save_file

    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop("quantizer.embedding.weight")
    weights["extra.weight"] = torch.zeros(2)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"quantizer\.embedding\.weight.*extra\.weight"):
        SeedImageTokenizer.from_pretrained(tmp_path)


def test_misshapen_weights_are_refused(tmp_path, model):
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"quantizer\.embedding\.weight"):
        SeedImageTokenizer.from_pretrained(tmp_path, codebook_size=65)


@pytest.mark.parametrize("attention", ("eager", "sdpa"))
def test_codes_do_not_depend_on_the_batch(model, attention):
    model.set_attn_implementation(attention)
    pixels = tiny_pixels(5)
    together = model.encode(pixels)
    alone = torch.cat([model.encode(image[None]) for image in pixels])
    assert torch.equal(together, alone)


def test_prefix_of_codes_needs_no_rest(model):
    codes = model.encode(tiny_pixels())
    assert torch.equal(model.get_code_vectors(codes)[:, :3], model.get_code_vectors(codes[:, :3]))


@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16))
def test_half_precision(dtype):
    model = tiny_image_tokenizer().to(dtype)
    codes = model.encode(tiny_pixels().to(dtype))
    generated = model.decode(codes)
    assert generated.dtype == dtype and torch.isfinite(generated).all()
    agreement = (codes == tiny_image_tokenizer().encode(tiny_pixels())).float().mean()
    assert agreement > 0.5


def test_features_are_normalised_and_comparable(model):
    codes = model.encode(tiny_pixels(4))
    features = [model.get_image_features(tiny_pixels(4)), model.get_image_features(codes=codes)]
    features.append(model.get_text_features(**text_batch()))
    for feature in features:
        assert feature.pooler_output.shape == (4, 24)
        torch.testing.assert_close(feature.pooler_output.norm(dim=-1), torch.ones(4))
    assert torch.equal(features[0].last_hidden_state, model.get_causal_embeds(tiny_pixels(4)))
    assert torch.equal(features[1].last_hidden_state, model.reconstruct(codes))


def test_padding_does_not_change_text_features(model):
    batch = text_batch()
    short = {name: value[1:2, :4] for name, value in batch.items()}
    together, alone = (model.get_text_features(**inputs).pooler_output for inputs in (batch, short))
    torch.testing.assert_close(together[1:2], alone)


def test_outputs_are_those_of_any_model_of_transformers(model):
    layers = {"output_hidden_states": True, "output_attentions": True}
    model.set_attn_implementation("eager")
    inputs = {"pixel_values": tiny_pixels(4), **text_batch(), **layers}
    output = model(**inputs)
    as_tuple = model(**inputs, return_dict=False)
    assert as_tuple[0] is not None and torch.equal(as_tuple[0], output.loss)
    assert torch.equal(output.hidden_states[-1], output.causal_embeds)
    # one for each layer, the cross-attentions not among them
    assert [tuple(attention.shape) for attention in output.attentions] == [(4, 4, 8, 8)] * 2
    assert not output.attentions[0].triu(1).any()


def test_stage_1_objective_trains_the_qformer(model):
    output = model(tiny_pixels(4), **text_batch())
    output.loss.backward()
    assert model.causal_qformer.query_tokens.grad.abs().sum() > 0
    assert model.text_projection.weight.grad.abs().sum() > 0
    assert model.quantizer.embedding.weight.grad is None
    model.zero_grad()


def test_stage_2_objective_weighs_its_parts(model):
    output = model(tiny_pixels(4), generation_targets=torch.randn(4, 6, 32))
    parts = 5 * output.quantizer_loss + 2 * output.reconstruction_loss + 0.5 * output.generation_loss
    torch.testing.assert_close(output.loss, parts)
    output.loss.backward()
    assert model.quantizer.embedding.weight.grad.abs().sum() > 0
    model.zero_grad()


def test_code_contrastive_option_adds_a_term():
    model = tiny_image_tokenizer(code_contrastive_loss_weight=2.0)
    targets = torch.randn(4, 6, 32)
    without = model(tiny_pixels(4), generation_targets=targets)
    with_text = model(tiny_pixels(4), generation_targets=targets, **text_batch())
    assert without.contrastive_loss is None
    torch.testing.assert_close(with_text.loss, without.loss + 2 * with_text.contrastive_loss)


def test_generation_contrastive_option_adds_a_term():
    model, targets = tiny_image_tokenizer().eval(), torch.randn(4, 6, 32)
    without = model(tiny_pixels(4), generation_targets=targets)
    model.config.generation_contrastive_loss_weight = 2.0
    added = model(tiny_pixels(4), generation_targets=targets)
    directions = [torch.nn.functional.normalize(x.flatten(1), dim=1) for x in (without.generation_embeds, targets)]
    term = contrastive_loss(*directions, model.temperature, model.config.label_smoothing)
    torch.testing.assert_close(added.loss, without.loss + 2 * term)


@pytest.mark.parametrize("head", HEADS)
def test_prototypes_turn_generation_embeddings(tmp_path, head):
    """So sharp, the nearest one alone counts; lengths and the objective of stage 2 stay."""
    model = tiny_image_tokenizer(generation_head=head, prototype_sharpness=1e4)
    codes, plain = model.encode(tiny_pixels()), model(tiny_pixels())
    known = torch.randn(5, *plain.generation_embeds.shape[1:])
    loss = model(tiny_pixels(), generation_targets=plain.generation_embeds).loss
    model.use_prototypes(known)
    turned = model.decode(codes)
    assert_equal_up_to_rounding(model(tiny_pixels()).generation_embeds, turned)
    similarity = F.cosine_similarity(plain.generation_embeds.flatten(1)[:, None], known.flatten(1), dim=-1)
    wanted = F.normalize(known[similarity.argmax(1)].flatten(1), dim=-1)
    lengths = plain.generation_embeds.flatten(1).norm(dim=-1, keepdim=True)
    assert_equal_up_to_rounding(turned.flatten(1), wanted * lengths)
    assert_equal_up_to_rounding(model(tiny_pixels(), generation_targets=plain.generation_embeds).loss, loss)
    model.save_pretrained(tmp_path)
    assert_equal_up_to_rounding(SeedImageTokenizer.from_pretrained(tmp_path).decode(codes), turned)
    for wrong in (known[:0], known[0, 0], known[..., :3], known[..., None]):
        with pytest.raises(ValueError, match=r"`embeds` has shape .* allowed: \(1 to 1048576, "):
            model.use_prototypes(wrong)


def test_bidirectional_baseline_sees_later_queries():
    for causal in (True, False):
        model = tiny_image_tokenizer(causal_queries=causal)
        before = model.get_causal_embeds(tiny_pixels())
        with torch.no_grad():
            model.causal_qformer.query_tokens[:, -1] += 1
        after = model.get_causal_embeds(tiny_pixels())
        assert torch.equal(before[:, 0], after[:, 0]) == causal


def test_cached_causal_embeds_equal_pixels(model):
    targets = torch.randn(2, 6, 32)
    from_pixels = model(tiny_pixels(), generation_targets=targets).loss
    cached = model.get_causal_embeds(tiny_pixels()).detach()
    torch.testing.assert_close(model(causal_embeds=cached, generation_targets=targets).loss, from_pixels)


def test_frozen_qformer_stays_in_eval_mode():
    model = tiny_image_tokenizer()
    model.causal_qformer.requires_grad_(False)
    model.train()
    assert not model.causal_qformer.training and model.generation_head.training
    model.causal_qformer.requires_grad_(True)
    assert model.train().causal_qformer.training


def test_attention_implementation_reaches_every_part(model):
    for attention in ("eager", "sdpa"):
        model.set_attn_implementation(attention)
        names = ("vision_config", "qformer_config", "decoder_config", "reverse_qformer_config")
        assert {getattr(model.config, name)._attn_implementation for name in names} == {attention}
        assert model.generation_decoder.encoder.config._attn_implementation == attention


@pytest.mark.parametrize("codebook_per_query", [False, True])
def test_first_codes_stand_for_an_image(codebook_per_query):
    model = tiny_image_tokenizer(codebook_per_query=codebook_per_query)
    torch.nn.init.normal_(model.quantizer.embedding.weight)
    for layer in model.quantizer.decode_layers[::2]:
        torch.nn.init.normal_(layer.weight)
    codes = torch.arange(8)[None] * 8
    decoded = model.quantizer.decode(model.quantizer.lookup(torch.arange(64))).unflatten(0, (8, 8))
    means = decoded.mean(1) if codebook_per_query else decoded.mean((0, 1)).expand(8, -1)
    mixed = torch.cat([model.quantizer.decode(model.quantizer.lookup(codes[:, :3])), means[None, 3:]], dim=1)
    whole, prefix = model.decode(codes), model.decode(codes[:, :3])
    assert_equal_up_to_rounding(prefix, model.generation_head(model.generation_decoder(mixed)))
    assert (whole - prefix).abs().max() > 1e-3
    # nothing of what is left out is read
    features = model.get_image_features(codes=codes[:, :3]).pooler_output
    assert_equal_up_to_rounding(features, model._project_image(model._rebuild(mixed)))


def test_nested_dropout_decodes_first_codes():
    """Only in training, only where it is asked for, and always a true part of the codes, from the left."""
    model = tiny_image_tokenizer(prefix_probability=0.75)
    decoded = torch.randn(400, 8, model.config.qformer_config.hidden_size)
    torch.manual_seed(0)
    kept = (model._keep_prefixes(decoded) == decoded).all(-1)
    counts = kept.sum(1)
    assert torch.equal(kept, torch.arange(8) < counts[:, None])
    # 300 of 400 are expected to be cut; five standard deviations of 9
    assert 255 < (counts < 8).sum() < 345 and set(counts.tolist()) == set(range(1, 9))
    calls, keep_prefixes = [], model._keep_prefixes
    model._keep_prefixes = lambda decoded: calls.append(1) or keep_prefixes(decoded)
    for model.config.prefix_probability, is_training in ((0.75, False), (0.0, True), (0.75, True)):
        assert not calls
        model.train(is_training)(tiny_pixels(), generation_targets=torch.randn(2, 6, 32))
    assert calls == [1]


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.zeros(2, 8), "dtype torch.float32"),
        (torch.zeros(2, 9, dtype=torch.long), r"\(2, 9\); allowed: \(batch_size, 1 to 8\)"),
        (torch.zeros(2, 0, dtype=torch.long), r"\(2, 0\); allowed: \(batch_size, 1 to 8\)"),
        (torch.zeros(8, dtype=torch.long), r"\(8,\); allowed"),
        (torch.full((1, 8), 64), r"holds 64; allowed: \[0, 64\)"),
        (torch.full((1, 8), -1), "holds -1; allowed"),
        (torch.zeros(2, 8, dtype=torch.bool), "dtype torch.bool"),
    ],
)
def test_bad_codes(model, codes, message):
    with pytest.raises(ValueError, match=message):
        model.decode(codes)


@pytest.mark.parametrize("shape", [(3, 28, 28), (1, 1, 28, 28), (1, 3, 32, 28), (1, 3, 56, 56)])
def test_bad_pixels(model, shape):
    with pytest.raises(ValueError, match=r"`pixel_values` has shape .* allowed: \(batch_size, 3, 28, 28\)"):
        model.encode(torch.zeros(shape))


def test_missing_parts_are_named():
    model = tiny_image_tokenizer(use_text_tower=False, use_reconstruction_decoder=False)
    codes = model.encode(tiny_pixels())
    with pytest.raises(ValueError, match="use_text_tower"):
        model.get_text_features(**text_batch())
    with pytest.raises(ValueError, match="use_text_tower"):
        model.get_image_features(tiny_pixels())
    with pytest.raises(ValueError, match="use_reconstruction_decoder"):
        model.reconstruct(codes)
    with pytest.raises(ValueError, match="exactly one"):
        model.get_image_features()
    with pytest.raises(ValueError, match="exactly one"):
        model()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"generation_head": "video"}, "`generation_head` is 'video'; allowed"),
        ({"codebook_size": 0}, "`codebook_size` is 0"),
        ({"codebook_ema_decay": 1.0}, r"allowed: \[0, 1\)"),
        ({"dead_code_steps": 5}, "codebook_ema_decay"),
        ({"contrastive_gather": "some"}, "'full', 'detached'"),
        ({"generation_contrastive_loss_weight": 1.0, "use_text_tower": False}, "0 unless `use_text_tower`"),
        ({"decoder_config": {**TINY["decoder_config"], "hidden_size": 32}}, "decoder_config.hidden_size"),
        ({"codebook_ema_decay": float("nan")}, "`codebook_ema_decay` is nan"),
        ({"ln_vision_eps": float("nan")}, "`ln_vision_eps` is nan; allowed: a finite number, 0 or above"),
        ({"initializer_range": float("inf")}, "`initializer_range` is inf"),
        ({"dead_code_steps": -1}, "`dead_code_steps` is -1"),
        ({"quantizer_loss_weight": float("nan")}, "`quantizer_loss_weight` is nan"),
        ({"reconstruction_loss_weight": -1.0}, "`reconstruction_loss_weight` is -1.0"),
        ({"generation_loss_weight": -1.0}, "`generation_loss_weight` is -1.0"),
        ({"code_contrastive_loss_weight": -1.0}, "`code_contrastive_loss_weight` is -1.0"),
        ({"prefix_probability": 1.5}, "`prefix_probability` is 1.5"),
        ({"generation_contrastive_loss_weight": -1.0}, "`generation_contrastive_loss_weight` is -1.0"),
        ({"label_smoothing": -0.1}, "`label_smoothing` is -0.1"),
    ],
)
def test_bad_configuration(fields, message):
    with pytest.raises(ValueError, match=message):
        SeedImageTokenizerConfig(**{**TINY, **fields})


def test_default_configuration_is_the_published_size():
    with torch.device("meta"):
        model = SeedImageTokenizer(SeedImageTokenizerConfig())
    # 1154.1 M of original.md and the zero key biases of 39 ViT blocks
    assert sum(parameter.numel() for parameter in model.parameters()) == 1_154_069_952 + 39 * 1408


def test_gradient_checkpointing_gives_equal_gradients():
    grads = []
    for enabled in (False, True):
        model = tiny_image_tokenizer(qformer_config={**TINY["qformer_config"], "hidden_dropout_prob": 0.0,
                                                     "attention_probs_dropout_prob": 0.0})  # fmt: skip
        model.train()
        if enabled:
            # renamed in transformers 5.23
            enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
            enable()
        model(tiny_pixels(4), **text_batch()).loss.backward()
        grads.append(model.causal_qformer.query_tokens.grad)
    torch.testing.assert_close(*grads)
