"""What only prints help loads neither torch nor transformers; what uses a class registers it."""

import subprocess
import sys

import pytest


HEAVY = {"torch", "torchvision", "transformers", "diffusers", "peft", "datasets", "matplotlib", "tensorboard", "gguf"}
HEAVY |= {"gradio", "fastapi"}


def loaded_after(code: str) -> set[str]:
    """Of HEAVY: what a fresh process has loaded after some code."""
    code += "\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return HEAVY & set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("flags", [["--help"], ["--version"], ["nonsense"]])
def test_the_command_line_is_light(flags):
    code = f"import sys, seed_hf_script; sys.argv[1:] = {flags}\ntry: seed_hf_script.main()\nexcept SystemExit: pass"
    assert loaded_after(code) == set()


def test_the_help_of_every_command_is_light():
    code = "import sys, seed_hf_script\nfrom seed_hf.commands import COMMANDS\nfor name in COMMANDS:\n"
    code += "    sys.argv[1:] = [name, '--help']\n    try: seed_hf_script.main()\n    except SystemExit: pass"
    assert loaded_after(code) == set()


REGISTERS = {
    "the package": "import seed_hf\nassert not torch.cuda.is_initialized()\n"
    "AutoConfig.for_model('seed_image_tokenizer')",
    "after a script started": "import seed_hf_script, seed_hf\nseed_hf.SeedConfig\nAutoConfig.for_model('seed')",
}
FORKS = """
import os, sys, torch
from transformers import AutoConfig, Blip2VisionModel, GenerationMixin, PreTrainedTokenizerFast, ProcessorMixin
for code in {codes}:
    if os.fork() == 0:
        exec(code)
        print(*sys.modules, flush=True)
        os._exit(0)
    assert os.wait()[1] == 0, code
"""


def test_what_uses_a_class_registers_it_and_is_light():
    """Neither the picture nor the training libraries are loaded, and no accelerator is started.

    Forks of one process, whose torch and transformers, with what every model needs of them, take seconds.
    """
    command = [sys.executable, "-c", FORKS.format(codes=[*REGISTERS.values()])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded_by = [HEAVY & set(line.split()) for line in done.stdout.splitlines()]
    assert dict(zip(REGISTERS, loaded_by, strict=True)) == dict.fromkeys(REGISTERS, {"torch", "transformers"})
