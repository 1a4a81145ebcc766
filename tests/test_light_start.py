"""What only prints help loads neither torch nor transformers; what uses a class registers it."""

import subprocess
import sys

import pytest


HEAVY = "torch", "transformers", "diffusers", "peft", "datasets", "matplotlib"


def loaded_after(code: str) -> set[str]:
    """Of HEAVY: what a fresh process has loaded after some code."""
    code += "\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(HEAVY) & set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("flags", [["--help"], ["--version"], ["nonsense"]])
def test_the_command_line_is_light(flags):
    code = f"import sys, seed_hf_script; sys.argv[1:] = {flags}\ntry: seed_hf_script.main()\nexcept SystemExit: pass"
    assert loaded_after(code) == set()


def test_the_help_of_every_command_is_light():
    code = "import sys, seed_hf_script\nfrom seed_hf.commands import COMMANDS\nfor name in COMMANDS:\n"
    code += "    sys.argv[1:] = [name, '--help']\n    try: seed_hf_script.main()\n    except SystemExit: pass"
    assert loaded_after(code) == set()


def test_the_package_registers_and_leaves_diffusers_alone():
    code = "import seed_hf\nfrom transformers import AutoConfig\nAutoConfig.for_model('seed_image_tokenizer')"
    assert loaded_after(code) == {"torch", "transformers"}


def test_after_a_script_started_a_class_still_registers():
    code = "import seed_hf_script, seed_hf\nseed_hf.SeedConfig\n"
    code += "from transformers import AutoConfig\nAutoConfig.for_model('seed')"
    assert loaded_after(code) == {"torch", "transformers"}
