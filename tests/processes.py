"""Python processes that cost no imports: forked from a server that has imported everything and computed nothing.

`Popen` and `run` stand in for those of `subprocess`, as far as tests use them. What they start is a process with its
own arguments, environment, folder, session and exit code; signals reach it. `subprocess` starts what must be fresh:
what imports cost, what happens without a package, how much memory something takes.
"""

import atexit
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import types
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from replaced import Replaced
from tiny import ROOT, TESTS, TRAINING


_ENVIRONMENT = dict(os.environ)  # of the server: that of tests/conftest.py
# What is read by an import, or when a library is loaded, must be the same; but these are read when they are used.
_SEEN_BY_IMPORTS = ("ATEN_", "CUDA_", "DIFFUSERS_", "DNNL_", "GLIBC_", "GOMP_", "HF_", "HOME", "HUGGINGFACE_", "KMP_")
_SEEN_BY_IMPORTS += ("LD_", "MKL_", "OMP_", "ONEDNN_", "OPENBLAS_", "PYTHON", "SEED_HF_", "TOKENIZERS_", "TORCH_")
_SEEN_BY_IMPORTS += ("TRANSFORMERS_", "XDG_")
_READ_WHEN_USED = {"HF_HUB_DISABLE_TELEMETRY", "HF_TOKEN", "PYTHONPATH"}


def start_server() -> multiprocessing.context.BaseContext:
    """Starts the server of this process, where there is none yet; it ends with this process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["imported"])
    here = dict(os.environ)
    os.environ.clear()
    os.environ.update(_ENVIRONMENT, PYTHONPATH=os.pathsep.join(map(str, (ROOT, TESTS, TRAINING))))
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(here)
    return context


def spawn(function, args=(), nprocs=1):
    """`torch.multiprocessing.spawn`, with processes of the server."""
    start_server()
    streams = [Connection(os.dup(number), readable=False) for number in (1, 2)]
    job = (streams, dict(os.environ), function, args)
    torch.multiprocessing.start_processes(_live_spawned, job, nprocs, start_method="forkserver")


# for a module that is to start its processes so
TORCH = Replaced(torch, multiprocessing=Replaced(torch.multiprocessing, spawn=spawn))


def Popen(command, *, cwd=None, env=None, stdout=None, stderr=None, text=False, start_new_session=False):  # noqa: N802
    """Starts Python with a module, a script or code; a fresh one where an import could see another environment."""
    command, env = [*map(str, command)], {**(os.environ if env is None else env)}
    settings = {"cwd": cwd, "env": env, "stdout": stdout, "stderr": stderr, "start_new_session": start_new_session}
    assert command[0] == sys.executable and (command[1] in ("-c", "-m") or command[1].endswith(".py")), command
    if sys.platform != "linux" or _seen_by_imports(env) != _seen_by_imports(_ENVIRONMENT):
        return subprocess.Popen(command, text=text, **settings)
    return _Process(command, text, **settings)


def run(command, *, check=False, capture_output=False, text=False, timeout=None, **settings):
    """Waits for such a process."""
    if capture_output:
        settings |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Popen(command, text=text, **settings) as process:
        try:
            done = subprocess.CompletedProcess(command, None, *process.communicate(timeout=timeout))
        except BaseException:
            process.kill()
            raise
    done.returncode = process.returncode
    if check:
        done.check_returncode()
    return done


def run_ranks(command, num_processes=2, env=None, **settings):
    """A process for each rank, as `torchrun` starts them on one machine; one that fails ends the others.

    Returns:
        Exit code and output of each.
    """
    with socket.socket() as probe, tempfile.TemporaryDirectory() as folder:
        probe.bind(("127.0.0.1", 0))
        world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": probe.getsockname()[1]}
        world |= {"WORLD_SIZE": num_processes, "LOCAL_WORLD_SIZE": num_processes}
        probe.close()
        logs, processes = [Path(folder, str(rank)) for rank in range(num_processes)], []
        for rank, log in enumerate(logs):
            own = {name: str(value) for name, value in {**world, "RANK": rank, "LOCAL_RANK": rank}.items()}
            own = {**(os.environ if env is None else env), **own}
            with log.open("wb") as file:
                processes.append(Popen(command, env=own, stdout=file, stderr=subprocess.STDOUT, **settings))
        while None in (codes := [process.poll() for process in processes]) and not any(codes):
            time.sleep(0.05)
        for process in processes:
            process.kill()
        return [(process.wait(), log.read_text()) for process, log in zip(processes, logs, strict=True)]


def _seen_by_imports(environment: dict[str, str]) -> dict[str, str]:
    seen = {name for name in environment if name.startswith(_SEEN_BY_IMPORTS)} - _READ_WHEN_USED
    return {name: environment[name] for name in seen}


class _Process:
    """What tests use of `subprocess.Popen`."""

    def __init__(self, command, text, cwd, env, stdout, stderr, start_new_session):
        self.args, self.returncode = command, None
        self.stdout, out = _open_stream(stdout, 1, text)
        self.stderr, err = (None, out) if stderr == subprocess.STDOUT else _open_stream(stderr, 2, text)
        job = (command, str(cwd or Path.cwd()), env, out, err, start_new_session)
        # one that a failed test leaves behind ends with this process
        self._process = start_server().Process(target=_live, args=job, daemon=True)
        self._process.start()
        self.pid = self._process.pid
        out.close(), err.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for stream in filter(None, (self.stdout, self.stderr)):
            stream.close()
        self.wait()

    def poll(self):
        self.returncode = self._process.exitcode
        return self.returncode

    def wait(self, timeout=None):
        self._process.join(timeout)
        if self.poll() is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def communicate(self, timeout=None):
        """Reads both pipes at once, as one that is full would stop the process."""
        streams, read = [self.stdout, self.stderr], [None, None]

        def drain(index):
            read[index] = streams[index].read()

        readers = [threading.Thread(target=drain, args=(index,), daemon=True) for index in (0, 1) if streams[index]]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join()
        return tuple(read)

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def _open_stream(target, number, text):
    """What is read here of an output, if anything, and where the process writes it."""
    if target == subprocess.PIPE:
        reading, writing = os.pipe()
        return os.fdopen(reading, "r" if text else "rb"), Connection(writing, readable=False)
    if target == subprocess.DEVNULL:
        return None, Connection(os.open(os.devnull, os.O_WRONLY), readable=False)
    return None, Connection(os.dup(number if target is None else target.fileno()), readable=False)


def _set_up(streams, cwd, env):
    """What a process does not have from the server."""
    for number, stream in enumerate(streams, start=1):
        os.dup2(stream.fileno(), number)
    for stream in streams:  # both may be one
        stream.close()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    tempfile.tempdir = None
    np.random.seed()


def _live_spawned(index, streams, env, function, args):
    _set_up(streams, os.getcwd(), env)
    function(index, *args)


def _live(command, cwd, env, out, err, start_new_session):
    """From the imports on, what the interpreter does in a process of its own."""
    _set_up((out, err), cwd, env)
    if start_new_session:
        os.setsid()
    multiprocessing.set_start_method(None, force=True)
    multiprocessing.current_process()._config["daemon"] = False  # those may start none
    try:
        _run_main(cwd, *command[1:])
    except KeyboardInterrupt:
        traceback.print_exc()
        atexit._run_exitfuncs()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        threading._shutdown()
        atexit._run_exitfuncs()


def _run_main(cwd, program, *arguments):
    own = [path for path in sys.path if "site-packages" in path or not Path(path).is_relative_to(ROOT)]
    first = {"-c": "", "-m": cwd}.get(program, os.path.dirname(os.path.abspath(program)))
    sys.path[:] = [first, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), *filter(None, own)]
    if program == "-c":
        sys.argv = ["-c", *arguments[1:]]
        sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(arguments[0], "<string>", "exec"), vars(sys.modules["__main__"]))
    elif program == "-m":
        sys.argv = [*arguments]
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [program, *arguments]
        runpy.run_path(program, run_name="__main__")
