"""Starts every sub-command of `seed-hf`, the demo and every training script in one process without some packages.

python tests/missing_packages_checks.py datasets pyarrow ...    prints {program: what it wrote to stderr} as JSON
"""

import contextlib
import io
import json
import runpy
import sys
from pathlib import Path


ROOT = Path(__file__).parents[1]
COMMANDS = {
    "tokenize": "nowhere.png --output codes.parquet",
    "reconstruct": "nowhere.jsonl --output out",
    "caption": "nowhere.png --model nowhere",
    "ask": "nowhere.png what? --model nowhere",
    "draw": "apple --output out --model nowhere",
    "chat": "--model nowhere",
    "info": "nowhere",
    "search": "nowhere.jsonl words",
    "serve": "--model nowhere",
    "demo": "--pipeline nowhere",
    "convert": "pipeline seed-mini --decoder nowhere --output out",
    "export-lm": "nowhere out",
    "export-encoder": "nowhere --output out",
    "encode": "seed-mini nowhere codes",
    "eval": "caption seed-mini --dataset emoji --output x.json",
    "edit": "mix nowhere.png nowhere.png --output out.png",
    "report": "nowhere.jsonl --output report.html",
    "card": "seed-mini owner/seed-mini",
    "push": "nowhere owner/name --dry-run",
    "app": "--model nowhere",
}

# what makes a script start to work; the others have nothing to do, or import what they need before they parse
SCRIPTS = {
    "train_qformer.py": "--config nowhere --dataset nowhere --output_dir out",
    "train_codebook.py": "--init_model nowhere --dataset nowhere --output_dir out",
    "train_causal_lm.py": "--image_tokenizer nowhere --dataset nowhere --output_dir out",
    "train_decoder.py": "--vae nowhere --output_dir out",
    "train_vae.py": "--output_dir out",
    "prepare_data.py": "--dataset nowhere --output_dir out",
    "build_emoji_dataset.py": "",
    "assemble.py": "--image_tokenizer nowhere --decoder nowhere --vae nowhere",
    "make_tables.py": "--output_dir out",
    "evaluate_mini.py": "",
}


class WithoutPackages:
    """A finder of modules that does not find some, neither for `import` nor for whoever asks for them."""

    def __init__(self, finder, names):
        self.finder, self.names = finder, names

    def find_spec(self, name, *args):
        return None if name.partition(".")[0] in self.names else self.finder.find_spec(name, *args)

    def __getattr__(self, name):
        return getattr(self.finder, name)


def stderr_of(start, *args, **kwargs) -> str:
    """What a program leaves on stderr, with what Python itself does with its error."""
    sys.modules.pop("seed_hf_script", None)
    sys.excepthook = sys.__excepthook__
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as written:
        try:
            start(*args, **kwargs)
        except SystemExit:
            pass
        except BaseException:
            sys.excepthook(*sys.exc_info())
    return written.getvalue()


def main(names: list[str]):
    """All programs, one after the other."""
    sys.path[:0] = [str(ROOT), str(ROOT / "training"), str(ROOT / "training" / "mini")]
    sys.meta_path[:] = [WithoutPackages(finder, names) for finder in sys.meta_path]
    from seed_hf.commands import main as seed_hf

    written = {name: stderr_of(seed_hf, [name, *flags.split()]) for name, flags in COMMANDS.items()}
    sys.argv[1:] = ["--help"]
    written["python -m seed_hf.demo"] = stderr_of(runpy.run_module, "seed_hf.demo", run_name="__main__")
    for path in sorted((ROOT / "training").rglob("*.py")):
        if "__main__" in path.read_text(encoding="utf-8"):
            sys.argv = [path.name, *SCRIPTS.get(path.name, "--help").split()]
            written[path.name] = stderr_of(runpy.run_path, str(path), run_name="__main__")
    print(json.dumps(written))


if __name__ == "__main__":
    main(sys.argv[1:])
