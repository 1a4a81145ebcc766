"""Commands that are run one after the other, and go on where they stopped."""

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from tqdm.auto import tqdm


class Progress:
    """Which commands have ended, and how long each took over all starts; kept in a file.

    Args:
        file (`Path`): JSON file; made when the first command ends or fails.
        root (`Path`): Folder that commands run in, and that they import from.
    """

    def __init__(self, file: Path, root: Path):
        self.file, self.root = file, root
        self.state = json.loads(file.read_text()) if file.is_file() else {}

    @property
    def seconds(self) -> dict[str, float]:
        """Time of each command so far."""
        return {name: entry["seconds"] for name, entry in self.state.items()}

    def run(self, name: str, command: list[str]) -> None:
        """Runs a command, unless the same one has ended well before.

        Args:
            name (`str`): Its name in the file.
            command (`list[str]`): Program and arguments.

        Raises:
            CalledProcessError: If it fails; its time counts all the same.
        """
        entry = self.state.setdefault(name, {"seconds": 0.0, "done": None})
        if entry["done"] == command:
            _say(f"{name}: done before, in {entry['seconds'] / 60:.1f} minutes")
            return
        started = time.monotonic()
        _say(f"$ {shlex.join(command)}".replace(f"{self.root}/", ""))
        try:
            subprocess.run(command, check=True, cwd=self.root, env={**os.environ, "PYTHONPATH": str(self.root)})
            entry["done"] = command
        finally:
            entry["seconds"] += time.monotonic() - started
            self.file.write_text(json.dumps(self.state, indent=2))
        _say(f"{name}: {entry['seconds'] / 60:.1f} minutes")


def _say(text: str) -> None:
    """Before what the command itself writes."""
    tqdm.write(text)
    sys.stdout.flush()
