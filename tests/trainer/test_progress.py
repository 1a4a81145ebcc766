"""Commands one after the other or some at once: order, what they share, what a failure stops, what is done before."""

import json
import os
import signal
import subprocess
import sys
import time
from threading import Thread

import pytest

from seed_hf.trainer.progress import Progress


def python(code):
    return [sys.executable, "-c", code]


def wait_for(mine, other):
    """A process that ends only while another one of its kind runs."""
    return python(
        f"import pathlib, sys, time\npathlib.Path({str(mine)!r}).touch()\nlimit = time.monotonic() + 60\n"
        f"while not pathlib.Path({str(other)!r}).exists():\n"
        "    time.sleep(0.01)\n    if time.monotonic() > limit: sys.exit('alone')\n"
    )


def test_two_at_once_and_the_third_when_both_have_ended(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    a, b = tmp_path / "a", tmp_path / "b"
    show = "import os; print('threads', os.environ.get('OMP_NUM_THREADS'))"
    commands = {"third": python(show), "a": wait_for(a, b), "b": wait_for(b, a)}
    needs = {"third": ("a", "b"), "a": (), "b": ()}
    progress = Progress(tmp_path / "stages.json", tmp_path)
    progress.run_all(commands, needs, jobs=2)
    assert (tmp_path / "third.log").read_text().startswith("threads ")
    assert (tmp_path / "third.log").read_text() != "threads None\n"
    assert list(json.loads((tmp_path / "stages.json").read_text())) == list(progress.seconds)
    assert list(progress.seconds)[-1] == "third" and set(progress.seconds) == set(commands)
    capsys.readouterr()
    Progress(tmp_path / "stages.json", tmp_path).run_all(commands, needs, jobs=2)
    assert capsys.readouterr().out.count("done before") == 3


def test_one_at_a_time_writes_to_no_log(tmp_path, capfd):
    progress = Progress(tmp_path / "stages.json", tmp_path)
    with pytest.raises(ValueError, match="jobs=0; allowed: at least 1"):
        progress.run_all({"a": []}, {"a": ()}, jobs=0)
    progress.run_all({"a": python("print('seen')")}, {"a": ()}, jobs=1)
    assert "seen" in capfd.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["stages.json"]


def test_commands_keep_memory_unless_the_user_says_otherwise(tmp_path, monkeypatch, capfd):
    monkeypatch.delenv("MALLOC_MMAP_MAX_", raising=False)
    monkeypatch.setenv("MALLOC_TOP_PAD_", "1")
    show = "import os; print(os.environ['MALLOC_MMAP_MAX_'], os.environ['MALLOC_TOP_PAD_'])"
    Progress(tmp_path / "stages.json", tmp_path).run("a", python(show))
    assert "0 1" in capfd.readouterr().out.splitlines()


def test_the_file_is_never_half_written(tmp_path):
    file, before = tmp_path / "stages.json", tmp_path / "before.json"
    Progress(file, tmp_path).run("a", python(""))
    os.link(file, before)
    Progress(file, tmp_path).run("b", python(""))
    # what a reader has open is still whole
    assert list(json.loads(before.read_text())) == ["a"] and list(json.loads(file.read_text())) == ["a", "b"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_needs_a_command_that_failed_does_not_start(tmp_path, jobs):
    commands = {"a": python("raise SystemExit(3)"), "b": python("open('b', 'w')")}
    progress = Progress(tmp_path / "stages.json", tmp_path)
    with pytest.raises(subprocess.CalledProcessError, match="exit status 3"):
        progress.run_all(commands, {"a": (), "b": ("a",)}, jobs)
    assert not (tmp_path / "b").exists()
    assert json.loads((tmp_path / "stages.json").read_text())["a"]["done"] is None


def test_a_signal_reaches_what_runs_and_its_time_counts(tmp_path):
    started = tmp_path / "started"
    code = (
        "import pathlib, signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        f"pathlib.Path({str(started)!r}).touch()\ntime.sleep(60)"
    )
    commands = {"a": python(code), "b": python("open('b', 'w')")}

    def send():
        while not started.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    Thread(target=send, daemon=True).start()
    progress = Progress(tmp_path / "stages.json", tmp_path)
    with pytest.raises(SystemExit, match="goes on from there"):
        progress.run_all(commands, {"a": (), "b": ("a",)}, jobs=1)
    state = json.loads((tmp_path / "stages.json").read_text())
    assert state["a"]["done"] is None and state["a"]["seconds"] > 0 and "b" not in state
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
