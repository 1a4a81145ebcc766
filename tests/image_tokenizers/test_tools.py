"""The commands and the language model take image tokenizers of other libraries."""

import json
from types import SimpleNamespace

import pytest
import torch
from rounding import assert_equal_up_to_rounding
from tiny.language import build_base_tokenizer, build_language_model
from tiny.other_tokenizers import CODEBOOK_SIZE, SIDE, save_toy
from tiny.pictures import build_images

from seed_hf.commands import main
from seed_hf.data.codes import read_codes
from seed_hf.image_tokenizers import encode_images, load_image_tokenizer
from seed_hf.inference import generate_texts
from seed_hf.loading import load_language_model
from seed_hf.report import find_faults, probe_model
from seed_hf.trainer.stages import causal_lm


NUM_CODES = 16


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Toys, and images in a folder."""
    root = tmp_path_factory.mktemp("tools")
    toys = {kind: str(save_toy(kind, root / kind)) for kind in ("janus", "vqmodel", "chameleon")}
    (root / "images").mkdir()
    for number, image in enumerate(build_images(6)):
        image.save(root / "images" / f"{number}.png")
    return SimpleNamespace(root=root, images=str(root / "images"), **toys)


def codes_of(text):
    return torch.tensor([json.loads(line)["codes"] for line in text.splitlines()])


def test_tokenize_and_encode_give_the_same_codes(place, capsys):
    size = ["--image-size", str(SIDE)]
    assert main(["tokenize", place.images, "--model", place.vqmodel, *size]) == 0
    codes = codes_of(capsys.readouterr().out)
    assert codes.shape == (6, NUM_CODES)
    folder = str(place.root / "codes")
    assert main(["encode", place.vqmodel, place.images, folder, *size]) == 0
    assert "6 images, 0 skipped" in capsys.readouterr().out
    rows = read_codes(folder, "train")
    assert (torch.tensor(rows["codes"]) == codes).double().mean() > 0.9
    # the same command goes on with what is there, and another size is another data set
    assert main(["encode", place.vqmodel, place.images, folder, *size]) == 0
    assert "0 of them now" in capsys.readouterr().out
    assert main(["encode", place.vqmodel, place.images, folder, "--image-size", "32"]) == 1
    assert "num_codes" in capsys.readouterr().err


def test_search_by_an_image_and_not_by_words(place, capsys):
    query = f"{place.images}/2.png"
    assert main(["search", place.images, query, "--model", place.chameleon, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[0]["file"] == query and rows[0]["similarity"] == pytest.approx(1, abs=1e-3)
    assert main(["search", place.images, "red", "--model", place.chameleon]) == 1
    error = capsys.readouterr().err
    assert "is a ChameleonVQVAE, which has no text side" in error and "an image file will do as query" in error


def test_a_report_on_one(place, tmp_path, capsys):
    page = tmp_path / "report.html"
    assert main(["report", place.images, "--model", place.janus, "--output", str(page)]) == 0
    numbers = json.loads(page.with_suffix(".json").read_text())
    assert numbers["num_codes"] == NUM_CODES and len(numbers["stability"]) == 4 and numbers["model"]["sha256"]
    assert "leak" not in numbers and "prefixes" not in numbers and "stale codebook" not in capsys.readouterr().out
    assert "What codes stand for" in page.read_text()


def test_a_stale_codebook_of_another_is_named(place):
    tokenizer = load_image_tokenizer(place.janus)
    images = build_images(6)
    healthy = probe_model(tokenizer, None, images)["relative_error"]
    with torch.no_grad():
        tokenizer.model.quant_conv.bias += 50
    stale = probe_model(tokenizer, None, images)
    assert healthy < 1 < stale["relative_error"]
    quiet = {"places": [], "num_images": 6, "codes_per_place": 64, "shared_information": {"places": None, "share": 0}}
    assert [fault["name"] for fault in find_faults(quiet | stale)] == ["stale codebook"]


def test_two_beside_each_other(place, tmp_path, capsys):
    page = tmp_path / "compared.html"
    models = [place.janus, place.chameleon, place.vqmodel]
    words = ["report", place.images, "--output", str(page), "--image-size", str(SIDE), "--model", *models]
    assert main(words) == 0
    assert "wrote" in capsys.readouterr().err
    reports = json.loads(page.with_suffix(".json").read_text())["reports"]
    assert [report["tokenizer"] for report in reports] == ["JanusVQVAE", "ChameleonVQVAE", "VQModel"]
    # each on its own, with the same numbers
    alone = tmp_path / "alone.html"
    assert main(["report", place.images, "--output", str(alone), "--model", place.janus]) == 0
    own = json.loads(alone.with_suffix(".json").read_text())
    assert own["bits_per_image"] == pytest.approx(reports[0]["bits_per_image"], rel=0.05)
    text = page.read_text()
    assert text.count("<th>") == 4 and text.count("no decoder") == 2 and text.count("data:image/png") == 18
    assert [report["psnr"] is None for report in reports] == [False, True, False]
    assert main([*words, "--language-model", "seed-mini"]) == 1
    assert "`--model` names 3 models; allowed: one" in capsys.readouterr().err


def build_model(place, monkeypatch, embedding="learned", **settings):
    """As stage 3 does, on a toy language model."""
    base = build_language_model(), build_base_tokenizer(), "toy"
    monkeypatch.setattr(causal_lm, "_load_language_model", lambda *args: base)
    names = {"image_tokenizer": place.janus, "image_tokenizer_id": None, "start_image_tokens": False}
    settings = SimpleNamespace(**{**names, "image_token_embedding": embedding, **settings})
    return causal_lm._build_new_model(settings, "float32", [{"codes": [0] * NUM_CODES}])


def test_a_language_model_reads_and_writes_its_codes(place, monkeypatch, tmp_path):
    processor, model, _ = build_model(place, monkeypatch)
    assert (model.config.codebook_size, model.config.num_query_tokens) == (CODEBOOK_SIZE, NUM_CODES)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    model, processor = load_language_model(str(tmp_path), "cpu")
    images = build_images(2)
    codes = processor.encode_image(images)
    tokenizer = load_image_tokenizer(place.janus)
    assert (codes == encode_images(tokenizer, images)).double().mean() > 0.9
    assert len(generate_texts(model, processor, codes, processor.caption_prompt, max_new_tokens=3)) == 2
    prompts = [processor.fill_prompt(processor.image_prompt, caption="a red apple")] * 2
    inputs = processor(text=prompts, return_tensors="pt")
    ids = model.generate(**inputs, generation_mode="image", do_sample=True)
    pieces = [model.config.image_token_layout.split(row.tolist()) for row in ids]
    written = torch.tensor([next(codes for kind, codes in row if kind == "image") for row in pieces])
    assert tokenizer.decode(written).shape == (2, 3, SIDE, SIDE)


def test_projected_codes_take_its_vectors(place, monkeypatch):
    _, model, _ = build_model(place, monkeypatch, "projected_codes")
    vectors = load_image_tokenizer(place.janus).get_code_vectors(torch.arange(CODEBOOK_SIZE))
    assert_equal_up_to_rounding(model.image_embeddings.codebook, vectors)
    with pytest.raises(ValueError, match="a JanusVQVAE, which has no image features near words"):
        build_model(place, monkeypatch, start_image_tokens=True)


def test_what_needs_seed_says_so(place, tmp_path, capsys):
    (tmp_path / "model_index.json").write_text('{"_class_name": "AmusedPipeline", "vqvae": ["diffusers", "VQModel"]}')
    image, output = f"{place.images}/0.png", str(tmp_path / "x.png")
    for command in (["edit", "mix", image, image], ["draw", "apple"], ["caption", image]):
        for model, kind in ((place.janus, "'janus_vqgan'"), (place.vqmodel, "'VQModel'"), (str(tmp_path), "pipeline")):
            written = [] if command[0] == "caption" else ["--output", output]
            assert main([*command, "--model", model, *written]) == 1
            error = capsys.readouterr().err
            assert f"{kind} of another library" in error and "allowed here: a model of SEED" in error
