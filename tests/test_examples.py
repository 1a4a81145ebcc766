"""Every script in examples/ runs on seed-mini; what it saves loads."""

import importlib.util

import pytest
import torch
from PIL import Image
from tiny import ROOT

from seed_hf import SeedForCausalLM


pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # TRL uses names that transformers has renamed
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run(name, *flags):
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    return example.main([*map(str, flags)])


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_is_short(path):
    assert len([line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]) < 60


def test_fine_tune_on_a_folder(tmp_path, capsys):
    for color in ("red", "blue"):
        Image.new("RGB", (60, 60), color).save(tmp_path / f"{color}.png")
    (tmp_path / "metadata.csv").write_text("file_name,text\nred.png,a red square\nblue.png,a blue square\n")
    trainer = run("fine_tune_on_a_folder", tmp_path, "--output-dir", tmp_path / "out", "--max-steps", 2)
    assert "a red square: " in capsys.readouterr().out
    model = SeedForCausalLM.from_pretrained(tmp_path / "out", dtype="float32")
    ids = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(model(ids).logits, trainer.model.eval()(ids).logits, atol=1e-4, rtol=1e-4)


def test_draw_better_with_grpo(tmp_path, capsys):
    trainer = run("draw_better_with_grpo", "--output-dir", tmp_path / "out", "--max-steps", 5)
    assert "mean reward of the first" in capsys.readouterr().out
    assert -1 < trainer.state.log_history[0]["rewards/code_text_similarity/mean"] < 1
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()
