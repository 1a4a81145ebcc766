"""`seed-hf info`: facts of seed-mini, of its parts and of what is no model."""

import json
import shutil
from pathlib import Path

from seed_hf.commands import main
from seed_hf.mini import mini_language_model_path, mini_pictures_path, mini_pipeline_path


def test_seed_mini(capsys):
    assert main(["info", "--json"]) == 0
    pipeline, language_model = map(json.loads, capsys.readouterr().out.splitlines())
    assert (pipeline["kind"], language_model["kind"]) == ("pipeline", "language-model")
    for facts in (pipeline, language_model):
        expected = {"name": "seed-mini", "num_query_tokens": 32, "codebook_size": 4096, "licence": "apache-2.0"}
        assert facts.items() >= expected.items()
    assert pipeline["decoder"] == "UNet2DConditionModel" and pipeline["language_model"] is None
    assert (pipeline["num_inference_steps"], pipeline["guidance_scale"]) == (12, 2)
    assert language_model["image_tokenizer_id"] == "seed-mini"
    assert language_model["bytes"] == sum(path.stat().st_size for path in Path(mini_language_model_path()).iterdir())


def test_words_for_people(capsys):
    assert main(["info", f"{mini_pipeline_path()}/image_tokenizer"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["kind"] == "image-tokenizer" and lines["licence"] == "not stated"


def test_the_card_says_the_licence(tmp_path, capsys):
    shutil.copytree(f"{mini_pipeline_path()}/image_tokenizer", tmp_path, dirs_exist_ok=True)
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    assert main(["info", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["licence"] == "mit"


def test_a_folder_names_no_other_to_be_read(tmp_path, capsys):
    folder, elsewhere = tmp_path / "model", tmp_path / "elsewhere"
    shutil.copytree(f"{mini_pipeline_path()}/image_tokenizer", folder)
    elsewhere.mkdir()
    (elsewhere / "conversion.json").write_text('{"kind": "seed-2"}')
    (folder / "training_arguments.json").write_text(json.dumps({"init_model": str(elsewhere)}))
    assert main(["info", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["licence"] is None
    (folder / "conversion.json").write_text('{"kind": "seed-2"}')
    assert main(["info", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["licence"]


def test_an_exported_model(tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"model_type": "llama", "vocab_size": 7099}')
    (tmp_path / "model.safetensors").touch()
    assert main(["info", str(tmp_path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["kind"], facts["model_type"]) == ("exported-language-model", "llama")
    assert facts["vocab_size"] == 7099


def test_no_model(capsys):
    assert main(["info", mini_pictures_path()]) == 1
    assert "is a folder without model or codes; allowed: " in capsys.readouterr().err
    assert main(["info", "nowhere"]) == 1
    assert capsys.readouterr().err.startswith("seed-hf info: no folder 'nowhere' exists, and the Hub could not")
