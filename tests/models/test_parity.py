"""Every number of every reference fixture, under every attention implementation.

Drop another fixture of the same form into the folder (or point `SEED_PARITY_DIR` at one) and it is tested too.
"""

import copy
import json
import re
from functools import cached_property

import pytest
import torch
from parity_fixtures import COPY, Fixture, find_fixtures
from rounding import largest
from torch.nn import functional as F

from seed_hf import SeedImageTokenizer, SeedImageTokenizerConfig
from seed_hf.convert.seed_keys import convert_state_dict, load_original, rename_key
from seed_hf.models.losses_seed import contrastive_loss


FIXTURES = find_fixtures()
IDS = [fixture.folder.name for fixture in FIXTURES]
TRAINED = [fixture for fixture in FIXTURES if fixture.stage != "tokenizer"]
ATTENTION = ("eager", "sdpa")
# parts of the model that a stage-1 checkpoint does not hold
NOT_IN_STAGE_1 = ("quantizer.*", "generation_decoder.*", "generation_head.*")
INPUTS = {"pixel_values", "input_ids", "attention_mask", "target_features", "decode_codes"}


def load(fixture: Fixture, attention: str, **config) -> SeedImageTokenizer:
    allowed = NOT_IN_STAGE_1 if fixture.stage == "contrastive" else ()
    model = load_original(fixture.weights, fixture.config(**config), allow_missing=allowed)
    model.set_attn_implementation(attention)
    return model


def image_side(model: SeedImageTokenizer, io: dict) -> dict[str, torch.Tensor]:
    vision = model.vision_model
    vit_output = vision.encoder(vision.embeddings(io["pixel_values"])).last_hidden_state
    return {
        "vit_output": vit_output,
        "image_embeds": vision(io["pixel_values"]).last_hidden_state,
        "causal_embeds": model.get_causal_embeds(io["pixel_values"]),
    }


def tokenizer_outputs(model: SeedImageTokenizer, io: dict) -> dict[str, torch.Tensor]:
    outputs = image_side(model, io)
    quantized = model.quantizer(outputs["causal_embeds"])
    decoder_output = model.generation_decoder(quantized.decoded)
    outputs |= {
        "pre_quant": quantized.projected,
        "codes": model.encode(io["pixel_values"]),
        "quantized": quantized.quantized,
        "quantize_loss": quantized.loss,
        "code_up": quantized.decoded,
        "decoder_blocks_output": decoder_output,
        "generation_embeds": model.decode(model.encode(io["pixel_values"])),
    }
    if "decode_codes" in io:
        outputs["decode_generation_embeds"] = model.decode(io["decode_codes"])
    head = model.generation_head
    if model.config.generation_head == "mlp":
        outputs["image_down_output"] = head.narrow(decoder_output)
    else:
        outputs["reverse_output"] = head.reverse_qformer(decoder_output)
    return outputs


def codebook_outputs(model: SeedImageTokenizer, io: dict) -> dict[str, torch.Tensor]:
    outputs = tokenizer_outputs(model, io)
    result = model(io["pixel_values"], generation_targets=io["target_features"])
    outputs |= {
        "recon": result.reconstructed_embeds,
        "distilled": result.generation_embeds,
        "loss": result.loss,
        "loss_embed_raw": result.quantizer_loss,
        "loss_embed_x5": 5 * result.quantizer_loss,
        "loss_recon_x2": 2 * result.reconstruction_loss,
        "loss_distil_x05": 0.5 * result.generation_loss,
    }
    return outputs


def contrastive_outputs(model: SeedImageTokenizer, io: dict) -> dict[str, torch.Tensor]:
    outputs = image_side(model, io)
    result = model(io["pixel_values"], input_ids=io["input_ids"], attention_mask=io["attention_mask"])
    similarity = result.image_features @ result.text_features.t() / model.temperature
    outputs |= {
        "text_hidden": model.causal_qformer.encode_text(io["input_ids"], io["attention_mask"]).last_hidden_state,
        "image_feat": result.image_features,
        "text_feat": result.text_features,
        "temperature": model.temperature,
        "sim_i2t": similarity,
        "sim_t2i": similarity.t(),
        "targets": torch.arange(len(io["pixel_values"])),
        "loss_itc": result.loss,
        "loss_2proc": two_process_losses(model, result),
    }
    return outputs


def two_process_losses(model: SeedImageTokenizer, result) -> torch.Tensor:
    """The loss each of two processes sees: its rows against all columns (real processes: test_losses_seed.py)."""
    features = (result.image_features, result.text_features)
    losses = []
    for rows in torch.arange(len(features[0])).chunk(2):
        image, text = (feature[rows] for feature in features)
        directions = (image @ features[1].t() / model.temperature, text @ features[0].t() / model.temperature)
        smoothing = model.config.label_smoothing
        losses.append(sum(F.cross_entropy(logits, rows, label_smoothing=smoothing) for logits in directions) / 2)
    return torch.stack(losses)


OUTPUTS = {"tokenizer": tokenizer_outputs, "codebook": codebook_outputs, "contrastive": contrastive_outputs}


def assert_close(name: str, actual: torch.Tensor, expected: torch.Tensor):
    if not expected.is_floating_point():
        assert torch.equal(actual, expected), f"{name}: {(actual != expected).sum()} of {expected.numel()} differ"
        return
    # tolerance stated in every meta.json
    torch.testing.assert_close(actual.detach(), expected, atol=2e-5, rtol=1e-4, msg=lambda text: f"{name}: {text}")


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("fixture", FIXTURES, ids=IDS)
def test_every_listed_output(fixture, attention):
    model = load(fixture, attention)
    outputs = OUTPUTS[fixture.stage](model, fixture.io)
    listed = {name for name in fixture.meta["tensors"] if not name.startswith("grad") and name not in INPUTS}
    assert listed <= set(outputs), f"not computed here: {sorted(listed - set(outputs))}"
    for name in sorted(listed):
        assert_close(name, outputs[name], fixture.io[name])


def gradients(model: SeedImageTokenizer, fixture: Fixture) -> dict[str, torch.Tensor]:
    """Gradients of the stage's loss, in the model's dtype, under the original's parameter names."""
    model.zero_grad()
    io = {k: v.to(model.dtype) if v.is_floating_point() else v for k, v in fixture.io.items()}
    if fixture.stage == "contrastive":
        loss = model(io["pixel_values"], input_ids=io["input_ids"], attention_mask=io["attention_mask"]).loss
    else:
        loss = model(io["pixel_values"], generation_targets=io["target_features"]).loss
    loss.backward()
    grads = {name: parameter.grad for name, parameter in model.named_parameters()}
    return {key: grads.get(rename_key(key)) for key in fixture.weights if rename_key(key) is not None}


class ExactGradients:
    """Gradients in float64: those of the formulas, on any machine.

    In float32, kernels of two processors may fall on two sides of a kink (a ReLU, two codes that are as near), or
    differ where large terms cancel.
    """

    def __init__(self, fixture: Fixture, attention: str, **config):
        self.model, self.fixture = load(fixture, attention, **config), fixture
        self.values = gradients(copy.deepcopy(self.model).double(), fixture)

    @cached_property
    def in_float32(self) -> list[dict[str, torch.Tensor]]:
        """Eight computations in float32, with each weight up to two roundings off so that each rounds otherwise."""
        generator, drawn = torch.Generator().manual_seed(0), []
        for _ in range(8):
            model = copy.deepcopy(self.model)
            with torch.no_grad():
                for weight in model.parameters():
                    noise = 2 * torch.rand(weight.shape, generator=generator) - 1
                    weight.mul_(1 + 2 * torch.finfo(torch.float32).eps * noise)
            drawn.append(gradients(model, self.fixture))
        return drawn

    def check(self, expected: dict[str, torch.Tensor]):
        """Each within 1e-4 of its largest number (stated in every meta.json).

        The references are in float32. One that float32 cannot state so well, because it lies beside a kink or is what
        is left of terms that cancel, may be off by twice the largest error that float32 makes of it here.
        """
        for key, value in expected.items():
            error = largest(self.values[key] - value)
            if not error <= 1e-4 * largest(value):
                allowed = 2 * max(largest(drawn[key] - self.values[key]) for drawn in self.in_float32)
                assert error <= allowed, f"{key}: {error} of {largest(value)}; rounding explains {allowed}"


def reference_gradients(fixture: Fixture, prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in fixture.io.items() if k.startswith(prefix)}


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("fixture", FIXTURES, ids=IDS)
def test_gradients(fixture, attention):
    groups = {"grad.": {"contrastive_gather": "detached"}, "grad_one_graph.": {"contrastive_gather": "full"}}
    for prefix, config in groups.items():
        if expected := reference_gradients(fixture, prefix):
            ExactGradients(fixture, attention, **config).check(expected)


@pytest.mark.parametrize("fixture", TRAINED, ids=[fixture.folder.name for fixture in TRAINED])
def test_a_gradient_with_one_number_changed_is_noticed(fixture):
    """By a hundredth of the largest, also in the gradients that rounding moves most."""
    exact = ExactGradients(fixture, "eager", contrastive_gather="detached")
    for key, value in reference_gradients(fixture, "grad.").items():
        changed = value.clone()
        changed.flatten()[value.numel() // 2] += 0.01 * largest(value)
        with pytest.raises(AssertionError, match=re.escape(key)):
            exact.check({key: changed})


@pytest.mark.parametrize("fixture", TRAINED, ids=[fixture.folder.name for fixture in TRAINED])
def test_gradients_in_float32(fixture):
    """What people train in gives the gradients of the formulas, but for the few numbers that a kink moves."""
    model = load(fixture, "sdpa")
    rounded = gradients(model, fixture)
    for key, exact in gradients(model.double(), fixture).items():
        if exact is not None and exact.norm() > 1e-6:
            assert (rounded[key] - exact).norm() < 1e-2 * exact.norm(), key


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("fixture", FIXTURES, ids=IDS)
def test_causality_by_perturbation(fixture, attention):
    """Changing query j leaves causal embeddings (and codes) i < j as they are, to the last bit, and changes j."""
    model, pixel_values = load(fixture, attention), fixture.io["pixel_values"]
    before, codes = model.get_causal_embeds(pixel_values), model.encode(pixel_values)
    generator = torch.Generator().manual_seed(0)
    for j in (0, 1, model.config.num_query_tokens // 2, model.config.num_query_tokens - 1):
        queries = model.causal_qformer.query_tokens
        original = queries.detach().clone()
        with torch.no_grad():
            queries[0, j] += torch.randn(queries.shape[-1], generator=generator)
        after = model.get_causal_embeds(pixel_values)
        assert torch.equal(before[:, :j], after[:, :j])
        assert torch.equal(codes[:, :j], model.encode(pixel_values)[:, :j])
        assert not torch.allclose(before[:, j], after[:, j])
        with torch.no_grad():
            queries.copy_(original)


def test_boolean_mask_would_leak():
    """Why the mask is additive: a boolean mask under eager attention lets query 0 see query 31."""
    fixture = FIXTURES[0]
    model = load(fixture, "eager")
    qformer = model.causal_qformer
    image_embeds = model.vision_model(fixture.io["pixel_values"]).last_hidden_state
    queries = qformer.query_tokens.expand(len(image_embeds), -1, -1)
    boolean = torch.ones(32, 32).tril().bool()[None, None].expand(len(image_embeds), -1, -1, -1)

    def run(query_embeds):
        inputs = {"attention_mask": boolean, "encoder_hidden_states": image_embeds}
        return qformer.qformer(query_embeds=query_embeds, **inputs).last_hidden_state

    changed = queries.clone()
    changed[:, 31] += torch.randn(queries.shape[-1])
    assert not torch.allclose(run(queries)[:, 0], run(changed)[:, 0])


@pytest.mark.parametrize("version", ("v1", "v2"))
def test_full_size_manifest(version):
    """The original's full-size names and shapes convert with nothing left over, and the sizes agree."""
    manifest = json.loads((COPY / f"manifest_{version}.json").read_text())
    with torch.device("meta"):
        entries = manifest["state_dict"].items()
        state_dict = {key: torch.empty(shape, dtype=getattr(torch, dtype)) for key, (shape, dtype) in entries}
        config = SeedImageTokenizerConfig() if version == "v1" else seed_2_config()
        model = SeedImageTokenizer(config)
        converted, report = convert_state_dict(state_dict, config)
    assert report.unknown == [] and report.missing == []
    assert {k: v.shape for k, v in converted.items()} == {k: v.shape for k, v in model.state_dict().items()}
    assert set(report.dropped.values()) == {"buffer 0..n-1, rebuilt at construction"}
    # ours has a key bias in each ViT block: zero, and without effect on a softmax over keys
    key_biases = 39 * 1408
    assert sum(p.numel() for p in model.parameters()) - key_biases == manifest["parameters_by_submodule"]["total"]


def seed_2_config() -> SeedImageTokenizerConfig:
    return SeedImageTokenizerConfig(generation_head="mlp", generation_dim=1024, use_reconstruction_decoder=True)


@pytest.mark.parametrize("change", ("missing", "unknown", "shape"))
def test_conversion_is_strict(change):
    fixture = next(f for f in FIXTURES if f.stage == "tokenizer")
    weights = dict(fixture.weights)
    if change == "missing":
        weights.pop("quantize.embedding.weight")
    elif change == "unknown":
        weights["visual_encoder.neck.weight"] = torch.zeros(40)
    else:
        weights["quantize.embedding.weight"] = torch.zeros(256, 31)
    expected = {"missing": "quantizer.embedding", "unknown": "visual_encoder.neck", "shape": r"\(256, 31\)"}
    with pytest.raises(ValueError, match=expected[change]):
        load_original(weights, fixture.config())


def test_folder_without_fixtures_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="No fixture"):
        find_fixtures(tmp_path)


def test_contrastive_loss_rejects_unknown_gather():
    with pytest.raises(ValueError, match="'full', 'detached'"):
        contrastive_loss(torch.eye(2), torch.eye(2), torch.tensor(1.0), gather="none")
