"""Fetches the test suites of transformers and peft: from the source archives of exactly the installed versions.

    python tests/upstream/fetch_suites.py

They are in no wheel. Each goes to `build/upstream/<name>-<version>/<name>_tests/`, which git ignores; the archive of
transformers leaves out a few helpers that its suites import, for which small stand-ins are written beside them. That
of diffusers has none of its suites: what those check of a pipeline is in `tests/models/test_pipeline_*.py`.
"""

import os
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path
from subprocess import PIPE, STDOUT, run


ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "build" / "upstream"
SUITES = ("transformers", "peft")
PICTURE = ROOT / "seed_hf" / "mini" / "pictures" / "turtle.png"

# What the archive of transformers lacks, as paths from the folder above the package. Mixins that are not in it are
# empty: our own tests of generation and export take their place.
STAND_INS = {
    "transformers": {
        "transformers_tests/generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
        "transformers_tests/exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
        "transformers_tests/utils/test_configuration_utils.py": "config_common_kwargs = {'return_dict': False}\n",
        "transformers_tests/fixtures/sample_text.txt": "A photo of a red apple.\n\nGenerate an image: a green pear.\n",
        # upstream caches files of the Hub; any picture does
        "utils/fetch_hub_objects_for_ci.py": f"def url_to_local_path(url):\n    return {str(PICTURE)!r}\n",
    },
    "peft": {},
}


def suite_folder(name: str) -> Path:
    """The folder to put on the import path for `<name>_tests`."""
    return CACHE / f"{name}-{version(name)}"


def fetch(name: str) -> Path:
    """Downloads and unpacks one suite unless it is there; `RuntimeError` says why that was not possible."""
    target = suite_folder(name)
    if target.is_dir():
        return target
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        folder = Path(folder)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        # of the archive only files are read; building it would need its build requirements
        command += ["--no-build-isolation", "--no-binary", ":all:", "--dest", str(folder), f"{name}=={version(name)}"]
        download = run(command, stdout=PIPE, stderr=STDOUT, text=True)
        archives = list(folder.glob("*.tar.gz"))
        if download.returncode or not archives:
            raise RuntimeError(f"no source archive of {name} {version(name)}:\n{download.stdout.strip()}")
        unpacked = folder / "unpacked"
        _unpack(archives[0], unpacked / f"{name}_tests")
        for path, content in STAND_INS[name].items():
            (unpacked / path).parent.mkdir(parents=True, exist_ok=True)
            (unpacked / path).write_text(content)
        unpacked.rename(target)  # last, so that a folder that is there is complete
    return target


def _unpack(archive: Path, package: Path):
    """Copies the files at the top of the archive's `tests` folder; the package's name must end in `tests`."""
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    with tarfile.open(archive) as files:
        for member in files:
            parts = Path(member.name).parts
            if member.isfile() and len(parts) == 3 and parts[1] == "tests":
                (package / parts[2]).write_bytes(files.extractfile(member).read())


def main():
    """Fetches all; that something could not be had is an error in continuous integration and a notice elsewhere."""
    try:
        print(*map(fetch, SUITES), sep="\n")
    except RuntimeError as error:
        sys.exit(str(error)) if os.environ.get("CI") else print(f"{error}\nThe checks that need it are skipped.")


if __name__ == "__main__":
    main()
