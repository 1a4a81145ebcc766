"""Every script in examples/ runs on seed-mini; what it saves loads."""

import importlib.util
import signal

import pytest
import torch
from PIL import Image
from tiny import ROOT
from tiny.shards import write_shards

from seed_hf import SeedForCausalLM
from seed_hf.data.codes import read_codes


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


SBATCH = "#!/bin/sh\necho Submitted batch job 7\n"
SCONTROL = "#!/bin/sh\necho here\n"  # what datatrove asks for the names of the hosts


def test_encode_on_a_cluster(tmp_path, monkeypatch):
    """Slurm gets a script for two tasks; each, started as Slurm starts it, makes its share."""
    dill = pytest.importorskip("dill")
    pytest.importorskip("datatrove", reason="comes with the cluster extra")
    for name, script in (("sbatch", SBATCH), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    write_shards(tmp_path / "shards", num_shards=1, samples_per_shard=3)
    flags = ["--executor", "slurm", "--tasks", 2, "--partition", "gpus", "--logs", tmp_path / "logs"]
    run("encode_on_a_cluster", "seed-mini", tmp_path / "shards" / "{split}-*.tar", tmp_path / "codes", *flags)
    script = (tmp_path / "logs" / "launch_script.slurm").read_text()
    assert {"#SBATCH --array=0-1", "#SBATCH --gpus=1", "#SBATCH --partition=gpus"} <= set(script.splitlines())
    monkeypatch.setenv("SLURM_NODELIST", "here")
    handler = signal.getsignal(signal.SIGUSR1)  # on which a task of Slurm is put into the queue again
    for task in range(2):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(task))
        with (tmp_path / "logs" / "executor.pik").open("rb") as file:
            dill.load(file).run()
    signal.signal(signal.SIGUSR1, handler)
    assert read_codes(tmp_path / "codes")["key"][:] == ["000000", "000001", "000002"]
    assert len(list((tmp_path / "logs" / "completions").iterdir())) == 2
