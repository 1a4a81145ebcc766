"""The repositories of seed-mini, ready to be pushed, with the cards that `seed-hf card` makes of them: `make cards`.

    python training/mini/make_cards.py --output_dir runs/seed-mini

Everything comes from the weights that ship with the package, the training logs in model_cards/seed-mini/training, and
evaluations in model_cards/seed-mini/evaluation, which are measured anew if they are not of these weights. After a
training `--runs out/stage1 out/stage2 ...` (in order) puts its logs in the place of the old ones. The cards are copied
to model_cards/seed-mini, and `seed-hf push runs/seed-mini/seed-mini owner/seed-mini` publishes a repository.
"""

import argparse
import json
import shlex
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


import seed_hf_script  # isort: skip  # noqa: F401

from seed_hf.trainer.flags import HelpFormatter


ROOT = Path(__file__).parents[2]
KEPT = ROOT / "model_cards" / "seed-mini"
NUM_DRAWN = 200
NUM_REPORTED = 256
TEST_SPLITS = ("test_drawings", "test_concepts")
LOG_FILES = ("training_arguments.json", "training_machine.json", "metrics.jsonl")
REPORT = Path("evaluation") / "report.json"
PIPELINE, LANGUAGE_MODEL = "seed-mini", "seed-mini-language-model"
IMAGE_TOKENIZER, CODES = "seed-mini-image-tokenizer", "seed-mini-codes"
NAMES = (IMAGE_TOKENIZER, PIPELINE, LANGUAGE_MODEL, CODES)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Flags of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument(
        "--output_dir", type=Path, required=True, help="Folder that gets a folder for each repository."
    )
    parser.add_argument("--owner", default="seed-hf", help="Owner of the repositories on the Hub.")
    parser.add_argument("--runs", type=Path, nargs="+", default=[], help="Output folders of the training, in order.")
    parser.add_argument("--repositories", nargs="+", choices=NAMES, default=list(NAMES), help="Which to make.")
    parser.add_argument(
        "--kept", type=Path, default=KEPT, help="Folder that keeps logs, evaluations, notes and cards."
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    parse_args()  # `--help` and mistakes come before the imports that take seconds

import torch
from tqdm.auto import tqdm

from seed_hf import SeedPipeline
from seed_hf.cards.codes import read_report
from seed_hf.cards.results import read_runs
from seed_hf.commands import main as seed_hf
from seed_hf.convert.pipeline import copy_text_tokenizer
from seed_hf.data.captioned_images import open_image
from seed_hf.data.rows import load_rows
from seed_hf.hub.fetch import emoji_folder
from seed_hf.mini import mini_language_model, mini_pipeline_path


@dataclass(frozen=True)
class Repository:
    """How a repository is built, and what its card is made from."""

    build: Callable[[Path, str], None]
    tasks: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    flags: tuple[str, ...] = ("--licence", "apache-2.0")
    has_report: bool = False

    def card_flags(self, kept: Path) -> list:
        """Flags of `seed-hf card`."""
        runs = [folder for folder in sorted((kept / "training").glob("*")) if folder.name[3:].startswith(self.stages)]
        reports = [kept / "evaluation" / report_name(task, split) for task in self.tasks for split in TEST_SPLITS]
        flags = [*self.flags, "--notes", kept / "notes.md"]
        for flag, values in (("--training", runs), ("--evaluation", reports)):
            flags += [flag, *values] if values else []
        return [*flags, "--report", kept / REPORT] if self.has_report else flags


def report_name(task: str, split: str) -> str:
    """As `seed-hf card` names the copy in the repository, so that links of the card lead somewhere here too."""
    return f"{task}-emoji-{split}.json"


def build_image_tokenizer(folder: Path, owner: str) -> None:
    """The image tokenizer alone, with its image processor and the text tokenizer of its Q-Former."""
    pipeline = SeedPipeline.from_pretrained(mini_pipeline_path()).to(torch.float16)
    pipeline.image_tokenizer.save_pretrained(folder)
    pipeline.image_processor.save_pretrained(folder)
    copy_text_tokenizer(Path(mini_pipeline_path(), "image_tokenizer"), folder)


def build_pipeline(folder: Path, owner: str) -> None:
    """Image tokenizer and picture decoder."""
    SeedPipeline.from_pretrained(mini_pipeline_path()).to(torch.float16).save_pretrained(folder)
    copy_text_tokenizer(Path(mini_pipeline_path(), "image_tokenizer"), folder / "image_tokenizer")


def build_language_model(folder: Path, owner: str) -> None:
    """The language model with the image tokenizer inside, and the name of the pipeline that draws its codes."""
    model, processor = mini_language_model(dtype=torch.float16)
    model.config.image_tokenizer_id = processor.tokenizer.image_tokenizer_id = f"{owner}/{PIPELINE}"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def build_codes(folder: Path, owner: str) -> None:
    """Codes of all drawings."""
    for split in ("train", "validation", *TEST_SPLITS):
        run("encode", mini_pipeline_path(), f"{emoji_folder()}/*.parquet", folder, "--split", split)
        file = folder / f"encoding-{split}.json"
        names = {"source": "emoji", "image_tokenizer": f"{owner}/{PIPELINE}"}
        file.write_text(json.dumps(json.loads(file.read_text()) | names, indent=2))
    shutil.copyfile(emoji_folder() / "ATTRIBUTION.md", folder / "LICENSE.md")


REPOSITORIES = {
    IMAGE_TOKENIZER: Repository(build_image_tokenizer, ("retrieval",), ("stage1", "stage2"), has_report=True),
    PIPELINE: Repository(
        build_pipeline, ("retrieval", "reconstruction"), ("stage1", "stage2", "vae", "decoder"), has_report=True
    ),
    LANGUAGE_MODEL: Repository(build_language_model, ("caption", "vqa"), ("stage3",)),
    CODES: Repository(
        build_codes,
        flags=("--licence", "other", "--licence-name", "those-of-the-drawings", "--licence-link", "LICENSE.md"),
    ),
}  # fmt: skip


def run(*command) -> None:
    """Runs a command of `seed-hf` in this process, and shows it."""
    words = [str(word) for word in command]
    tqdm.write(f"seed-hf {shlex.join(words)}")
    if seed_hf(words):
        raise RuntimeError(f"seed-hf {shlex.join(words)} failed.")


def keep_logs(runs: list[Path], kept: Path) -> None:
    """Puts the logs of a training in the place of the old ones, without the paths of the machine."""
    if not runs:
        return
    if bad := [str(folder) for folder in runs if not all((folder / name).is_file() for name in LOG_FILES[::2])]:
        raise ValueError(
            f"`--runs` has {bad}, without {LOG_FILES[0]} or {LOG_FILES[2]}; allowed: what training wrote."
        )
    shutil.rmtree(kept / "training", ignore_errors=True)
    for number, folder in enumerate(runs):
        target = kept / "training" / f"{number:02}-{folder.name}"
        target.mkdir(parents=True)
        for name in LOG_FILES:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, target / name)
        file = target / LOG_FILES[0]
        arguments = json.loads(file.read_text(encoding="utf-8"))
        file.write_text(json.dumps({name: without_place(value) for name, value in arguments.items()}, indent=2) + "\n")


def without_place(value):
    """A path inside of a checkout from there, any other by its name; all else as it is."""
    if not isinstance(value, str) or not Path(value).is_absolute():
        return value
    parts = Path(value).parts
    # `./`: else it could be taken for the id of a repository
    return "/".join(parts[parts.index("training") :]) if "training" in parts else f"./out/{parts[-1]}"


def measure(task: str, split: str, kept: Path, repository: Path) -> None:
    """An evaluation of seed-mini, unless there is one of these weights."""
    path = kept / "evaluation" / report_name(task, split)
    try:
        read_runs([path], repository)
    except ValueError:
        # drawing takes long
        limit = ("--limit", NUM_DRAWN) if task == "reconstruction" else ()
        run("eval", task, PIPELINE, "--dataset", "emoji", "--split", split, "--output", path, *limit)


def measure_codes(kept: Path, repository: Path, page: Path) -> None:
    """A report of seed-mini on held-out drawings, unless there is one of these weights; also as a page."""
    try:
        read_report(kept / REPORT, repository)
        return
    except ValueError:
        rows = [row for row in load_rows("emoji", TEST_SPLITS[0]) if not row["is_flag"]]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, f"emoji-{TEST_SPLITS[0]}")
        folder.mkdir()
        for number, row in enumerate(rows[:: -(-len(rows) // NUM_REPORTED)]):
            open_image(row).save(folder / f"{number:03}.png")
        run("report", folder, "--model", PIPELINE, "--language-model", PIPELINE, "--output", page)
    (kept / REPORT).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(page.with_suffix(".json"), kept / REPORT)


def make_cards(output_dir: Path, kept: Path, owner: str, names: list[str]) -> None:
    """Builds repositories, measures what has not been measured, writes the cards."""
    for name in names:
        repository, folder = REPOSITORIES[name], output_dir / name
        shutil.rmtree(folder, ignore_errors=True)
        repository.build(folder, owner)
        for task in repository.tasks:
            for split in TEST_SPLITS:
                measure(task, split, kept, folder)
        if repository.has_report:
            measure_codes(kept, folder, output_dir / "report.html")
        run("card", folder, f"{owner}/{name}", *repository.card_flags(kept))
        shutil.copyfile(folder / "README.md", kept / f"{name}.md")


def main(argv: list[str] | None = None) -> None:
    """Keep the logs, make the cards."""
    args = parse_args(argv)
    keep_logs(args.runs, args.kept)
    make_cards(args.output_dir, args.kept, args.owner, args.repositories)


if __name__ == "__main__":
    main()
