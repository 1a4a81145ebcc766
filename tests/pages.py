"""Runs the blocks of a page as a reader would: Python in one namespace, commands in this process."""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

from tiny import ROOT

from seed_hf.commands import main
from seed_hf.mini import mini_pictures_path


BLOCK = re.compile(r"(?:^<!-- (not run: [^\n]+) -->\n+)?^ *```(\w*)[^\n]*\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
NOT_A_COMMAND = ("#", "pip install ", "cd ")


def blocks(path: Path) -> Iterator[tuple[str, str, str]]:
    """Language, text, and why it is not run, of each block."""
    for reason, language, text in BLOCK.findall(path.read_text(encoding="utf-8")):
        yield language, text, reason


def command_lines(text: str) -> list[str]:
    """The commands of a block of bash; one that goes on in the next line is one."""
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line and not line.startswith(NOT_A_COMMAND)]


def run_python(text: str, names: dict, where: str, capsys):
    """Runs a block of Python; what a comment behind a print says must be what is printed."""
    capsys.readouterr()
    exec(compile(text, where, "exec"), names)
    said = re.findall(r"^print\(.*\)  # (.+)$", text, re.MULTILINE)
    printed = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert [line for line in said if line not in printed] == [], (where, printed)


def run_page(path: Path, capsys, languages: tuple[str, ...] = ("python", "bash")):
    """Runs the blocks of a page, top to bottom, in the current folder, which has seed-mini's drawings as `images`."""
    if not Path("images").exists():
        shutil.copytree(mini_pictures_path(), "images")
    names = {"__name__": "page"}
    for number, (language, text, reason) in enumerate(blocks(path), start=1):
        where = f"{path.relative_to(ROOT)}, block {number}"
        if reason or language not in languages:
            continue
        if language == "python":
            run_python(text, names, where, capsys)
        else:
            for line in command_lines(text):
                run_command(line, where)


def run_command(line: str, where: str):
    """Runs a command of `seed-hf`; of `make` and Python scripts it checks that they are there, which others run."""
    program, *arguments = shlex.split(line, comments=True)
    if program == "seed-hf":
        assert main(arguments) == 0, (where, line)
    else:
        check_exists(program, arguments, where)


def check_exists(program: str, arguments: list[str], where: str):
    """Whether a target of the Makefile or a script is there."""
    if program == "make":
        assert re.search(rf"^{arguments[0]}\b.*:", (ROOT / "Makefile").read_text(), re.MULTILINE), (where, arguments)
    else:
        assert program == "python", f"{where}: {program} {arguments} is no command that the tests know"
        assert (ROOT / arguments[0]).is_file(), (where, arguments)
