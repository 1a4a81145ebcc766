"""The report card: what it counts, and that every planted fault is named."""

import json

import pytest
import torch
from tiny.image_tokenizer import tiny_image_tokenizer
from tiny.pictures import build_images, build_prompt_pipeline

from seed_hf import SeedImageProcessor
from seed_hf.commands import main
from seed_hf.models import modeling_seed_qformer
from seed_hf.report import describe_codes, find_faults, make_report


IMAGES = build_images(24)


def random_codes(num_images=400, num_codes=4, codebook_size=16):
    return torch.randint(codebook_size, (num_images, num_codes), generator=torch.Generator().manual_seed(0))


def healthy_model():
    """The toy with a codebook of its own causal embeddings."""
    model = tiny_image_tokenizer()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.2)
        pixels = processor()(IMAGES, return_tensors="pt")["pixel_values"]
        projected = model.quantizer.project(model.get_causal_embeds(pixels)).flatten(0, 1)
        model.quantizer.embedding.weight.copy_(projected[:: len(projected) // 64][:64])
    return model.eval()


def processor():
    return SeedImageProcessor(size={"height": 28, "width": 28})


def names(report):
    return [fault["name"] for fault in report["faults"]]


def test_counts_on_codes_that_are_known():
    codes = torch.tensor([[0, 0], [0, 1], [1, 2], [1, 3]] * 50)
    report = describe_codes(codes, codebook_size=8)
    assert [place["num_used"] for place in report["places"]] == [2, 4]
    assert [place["entropy"] for place in report["places"]] == [1, 2] and report["bits_per_image"] == 3
    assert report["most_bits_per_image"] == 6 and report["dead_codes"] == 4 and report["equal_images"] == 196
    # the second code decides the first, which is one bit; chance explains at most a little of it
    assert 0.8 < report["places"][1]["information_from_the_left"] <= 1
    left_open = [place["entropy"] - place["information_from_the_left"] for place in report["places"]]
    assert [place["conditional_entropy"] for place in report["places"]] == left_open
    assert report["conditional_bits_per_image"] == sum(left_open)


def test_independent_places_share_nothing():
    report = describe_codes(random_codes(), 16)
    assert report["shared_information"]["share"] < 0.2 and find_faults(report) == []
    parts = describe_codes(random_codes() + 16 * torch.arange(4), 64, per_place=True)
    assert parts["bits_per_image"] == pytest.approx(report["bits_per_image"])
    assert parts["most_bits_per_image"] == report["most_bits_per_image"] == 16


def test_faults_of_codes_alone():
    collapsed = describe_codes(random_codes(codebook_size=2), codebook_size=256)
    assert [fault["name"] for fault in find_faults(collapsed)] == ["collapsed codebook"]
    codes = random_codes()
    codes[:, 2] = (codes[:, 0] + 5) % 16  # says the same in other words
    (fault,) = find_faults(describe_codes(codes, 16))
    assert fault["name"] == "duplicated query" and "Place 3 says what place 1 says" in fault["text"]


def test_a_healthy_model_has_no_fault():
    model = healthy_model()
    report = make_report("toy", model.config, None, model, processor(), IMAGES)
    assert names(report) == [] and report["leak"] < 1e-6
    # rounding decides where two codes are as near: one of these 192 may
    assert report["stability"]["one image at a time"] >= 191 / 192
    assert report["prefixes"][8] == 1
    assert torch.equal(model.causal_qformer.query_tokens, healthy_model().causal_qformer.query_tokens)


def test_a_leaky_mask_is_named(monkeypatch):
    model = healthy_model()
    mask = modeling_seed_qformer.causal_mask
    monkeypatch.setattr(modeling_seed_qformer, "causal_mask", lambda *args: 0 * mask(*args))
    assert "leaky mask" in names(make_report("toy", model.config, None, model, processor(), IMAGES))


def test_a_duplicated_query_is_named():
    model = healthy_model()
    with torch.no_grad():
        model.causal_qformer.query_tokens[:, 5] = model.causal_qformer.query_tokens[:, 4]
    report = make_report("toy", model.config, None, model, processor(), IMAGES)
    assert report["similar_queries"]["places"] == report["equal_queries"]["places"] == [4, 5]
    (fault,) = report["faults"]
    assert fault["name"] == "duplicated query" and "5" in fault["text"] and "6" in fault["text"]


def test_a_stale_codebook_is_named():
    """The encoder has moved on."""
    model = healthy_model()
    with torch.no_grad():
        model.quantizer.encode_layers[-1].bias += 5
    assert "stale codebook" in names(make_report("toy", model.config, None, model, processor(), IMAGES))


def test_a_language_model_of_other_codes(tmp_path):
    model = healthy_model()
    other = build_prompt_pipeline()
    with pytest.raises(ValueError, match="`language_model` knows a codebook of 16 and 4 codes .*; allowed: 64 and 8"):
        make_report(
            "toy",
            model.config,
            torch.zeros(2, 8).long(),
            model,
            language_model=(other.language_model, other.processor),
        )


def test_command(tmp_path, capsys):
    """The shipped drawings are few, but nothing is wrong with seed-mini; codes alone will do, too."""
    page = tmp_path / "report.html"
    assert main(["report", "--output", str(page), "--language-model", "seed-mini"]) == 0
    assert "0 faults" in capsys.readouterr().err
    text, numbers = page.read_text(), json.loads(page.with_suffix(".json").read_text())
    assert numbers["faults"] == [] and numbers["num_images"] == 12 and "codes" not in numbers
    told = numbers["language_model"]
    # nobody needs more than the even choice among 128 codes
    assert 0 < told["bits_per_code"] < 7 and told["bits_per_image"] == pytest.approx(sum(told["places"]))
    assert f"{told['bits_per_image']:.0f}, {told['bits_per_code']:.2f} a code" in text
    assert text.count("<svg") == 5 and "data:image/png" in text and "http" not in text
    rows = [{"file": f"{number}.png", "codes": [128 * place for place in range(32)]} for number in range(60)]
    codes = tmp_path / "codes.jsonl"
    codes.write_text("\n".join(map(json.dumps, rows)))
    assert main(["report", str(codes), "--output", str(page)]) == 0
    assert "collapsed codebook: On average a place uses 0.8 %" in capsys.readouterr().out
    assert "data:image/png" not in page.read_text()
    codes.write_text(json.dumps({"file": "a", "codes": [0] * 64}))
    assert main(["report", str(codes), "--output", str(page)]) == 1
    assert "(1, 64)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--limit", "1"], "`--limit` is 1; allowed: 2 or more"), (["nowhere.jsonl"], "nowhere.jsonl")],
)
def test_wrong_use(words, message, tmp_path, capsys):
    assert main(["report", *words, "--output", str(tmp_path / "report.html")]) == 1
    assert message in capsys.readouterr().err
