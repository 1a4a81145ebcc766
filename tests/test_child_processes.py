"""The processes of tests/processes.py are what those of `subprocess` are."""

import os
import signal
import subprocess
import sys

import processes
import pytest


LIFE = """
import atexit, os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # what is started in the background may ignore it
atexit.register(lambda: print("the end"))
print(sys.argv, os.getcwd(), os.environ.get("RANK"), os.getsid(0) == os.getpid(), __name__, flush=True)
print("a warning", file=sys.stderr)
time.sleep(float(sys.argv[1]))
sys.exit(int(sys.argv[2]))
"""
HAS_TORCH = [sys.executable, "-c", "import sys; print('torch' in sys.modules)"]


def live(module, folder, number):
    """A whole life, and one that a signal ends: output and exit codes."""
    settings = {"cwd": folder, "env": {**os.environ, "RANK": "1"}, "text": True, "start_new_session": True}
    whole = module.run([sys.executable, "-c", LIFE, "0", "3"], capture_output=True, **settings)
    command = [sys.executable, "-c", LIFE, "600", "0"]
    with module.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **settings) as process:
        said = process.stdout.readline()
        process.send_signal(number)
        said += process.communicate()[0]
    return whole.returncode, whole.stdout, whole.stderr, said, process.returncode


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_lives_as_a_fresh_one(tmp_path, number):
    assert live(processes, tmp_path, number) == live(subprocess, tmp_path, number)


@pytest.mark.skipif(sys.platform != "linux", reason="there all are fresh")
@pytest.mark.parametrize(
    ("own", "is_warm"), [({"TMPDIR": "x"}, True), ({"HF_HOME": "x"}, False), ({"MKL_CBWR": "x"}, False)]
)
def test_is_fresh_where_an_import_could_see_the_difference(own, is_warm):
    done = processes.run(HAS_TORCH, env={**os.environ, **own}, capture_output=True, text=True, check=True)
    assert done.stdout == f"{is_warm}\n"


def test_a_rank_that_fails_ends_the_others():
    code = "import os, sys, time; rank = os.environ['RANK']; print(rank); time.sleep(600 * (rank == '0')); sys.exit(4)"
    (killed, _), failed = processes.run_ranks([sys.executable, "-c", code])
    assert killed == -signal.SIGKILL and failed == (4, "1\n")
