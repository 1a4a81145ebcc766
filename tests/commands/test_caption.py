"""`seed-hf caption` and `seed-hf ask`: what seed-mini says about drawings that it has not seen."""

import json
import shutil

from huggingface_hub import HfApi

from seed_hf.commands import main
from seed_hf.inference import generate_texts
from seed_hf.mini import (
    mini_image,
    mini_language_model_path,
    mini_pictures_path,
    mini_pipeline_path,
)


QUESTION = "What kind of thing is this?"


def test_captions(tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes(b"broken")
    files = [mini_image("doughnut"), mini_image("rainbow")]
    assert main(["caption", files[0], str(tmp_path), files[1]]) == 1
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [f"{files[0]}: doughnut", f"{files[1]}: rainbow"]
    assert "broken.png" in printed.err and "1 could not be read" in printed.err


def name_image_tokenizer(folder, **fields):
    """A copy of seed-mini's language model that names another image tokenizer."""
    shutil.copytree(mini_language_model_path(), folder, dirs_exist_ok=True)
    for name in ("tokenizer_config.json", "config.json"):
        config = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(config | fields))


def test_the_image_tokenizer_has_to_be_named(tmp_path, capsys):
    name_image_tokenizer(tmp_path, image_tokenizer_id=None)
    for words in (["caption", mini_image("owl")], ["draw", "an owl", "--output", str(tmp_path / "owl.png")]):
        assert main([*words, "--model", str(tmp_path)]) == 1
        assert "names no image tokenizer, and has none inside; allowed: " in capsys.readouterr().err


def test_the_named_revision_counts(tmp_path, hub, capsys):
    """Of the image tokenizer, in an evaluation as in a caption."""
    HfApi().create_repo("owner/tok")
    name_image_tokenizer(tmp_path, image_tokenizer_id="owner/tok", image_tokenizer_revision="0123abc")
    measure = ["eval", "caption", str(tmp_path), "--dataset", "emoji", "--split", "validation", "--limit", "2"]
    for words in (
        [*measure, "--output", str(tmp_path / "x.json")],
        ["caption", mini_image("owl"), "--model", str(tmp_path)],
    ):
        assert main(words) == 1
        assert "has no revision '0123abc'" in capsys.readouterr().err


def test_first_codes_alone(load_mini, capsys):
    """As many of them as asked for, no others, and less is said of fewer."""
    files = [mini_image("doughnut"), mini_image("rainbow")]
    model, processor = load_mini()
    codes = processor.encode_image(files, model.image_tokenizer)
    codes[:, 8:] = 0  # not read
    captions = generate_texts(model, processor, codes[:, :8], processor.caption_prompt, max_new_tokens=20)
    assert main(["caption", *files, "--num-codes", "8"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{file}: {caption}" for file, caption in zip(files, captions, strict=True)
    ]
    assert main(["caption", files[0], "--num-codes", "32"]) == 0
    assert capsys.readouterr().out == f"{files[0]}: doughnut\n"
    assert main(["ask", files[0], QUESTION, "--num-codes", "33"]) == 1
    assert "`--num-codes` is 33; allowed: 1 to 32." in capsys.readouterr().err


def test_answers_are_those_of_the_model(load_mini, capsys):
    model, processor = load_mini()
    codes = processor.encode_image(mini_image("owl"), model.image_tokenizer)
    prompt = processor.question_prompt.replace("{question}", QUESTION)
    (answer,) = generate_texts(model, processor, codes, prompt, max_new_tokens=20)
    assert answer and main(["ask", mini_image("owl"), QUESTION]) == 0
    assert capsys.readouterr().out == f"{answer}\n"
    assert main(["ask", mini_image("owl"), QUESTION, "--json"]) == 0
    row = {"file": mini_image("owl"), "question": QUESTION, "answer": answer}
    assert json.loads(capsys.readouterr().out) == row
    assert main(["ask", mini_image("owl"), "<image><img>", "--max-new-tokens", "2"]) == 0  # a question is only text
    assert main(["ask", mini_image("owl"), " "]) == 1
    assert "`question` is empty; allowed: some words." in capsys.readouterr().err
    assert main(["ask", mini_image("owl"), "apple " * 600]) == 1
    assert "allowed: 512, the context of the language model" in capsys.readouterr().err


def test_a_model_that_only_names_its_image_tokenizer(tmp_path, capsys):
    shutil.copytree(mini_language_model_path(), tmp_path / "copy")
    assert main(["caption", mini_image("doughnut"), "--json", "--model", str(tmp_path / "copy")]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"file": mini_image("doughnut"), "caption": "doughnut"}
    assert printed.err.splitlines()[0] == f"using {tmp_path / 'copy'}"


def test_a_model_that_cannot_speak(capsys):
    assert main(["caption", mini_image("owl"), "--model", mini_pipeline_path()]) == 1
    assert "is a pipeline without a language model; allowed: " in capsys.readouterr().err.splitlines()[-1]


def test_an_exported_model_is_named_as_one(tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"model_type": "llama", "vocab_size": 7099}')
    assert main(["caption", mini_image("owl"), "--model", str(tmp_path)]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert main(["caption", mini_image("owl"), "--model", mini_pictures_path()]) == 1
    assert "has no config.json; allowed: " in capsys.readouterr().err.splitlines()[-1]
    assert "is a plain llama model, such as `seed-hf export-lm` writes" in line and "`--model`" in line


def test_an_image_that_is_not_there(capsys):
    assert main(["ask", "nowhere.png", QUESTION]) == 1
    assert "skipped: nowhere.png: " in capsys.readouterr().err
