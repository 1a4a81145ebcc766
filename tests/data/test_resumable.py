"""Parts of a long job: whole files only, each done once, whoever is killed."""

import os
import random
import signal
import time

import pytest

from seed_hf.data.resumable import Claims, write_whole


NUM_PARTS = 100


def do_parts(paths, log, start):
    with Claims(paths, start) as claims:
        for part in claims:
            with write_whole(paths[part]) as temporary, temporary.open("w") as file:
                for _ in range(4):
                    file.write(f"{part:04d}")
                    file.flush()
                    time.sleep(0.004)
            with log.open("a") as file:
                file.write(f"{part}\n")


def start_process(*args):
    pid = os.fork()
    if pid == 0:
        try:
            do_parts(*args)
            os._exit(0)
        finally:
            os._exit(1)
    return pid


def test_parts_survive_kills(tmp_path):
    paths = [tmp_path / "data" / f"train-{part:05d}.bin" for part in range(NUM_PARTS)]
    log = tmp_path / "done.txt"
    draw = random.Random(0)
    running = [start_process(paths, log, draw.randrange(NUM_PARTS)) for _ in range(3)]
    killed = 0
    for finished in range(5, 50, 10):
        while sum(path.exists() for path in paths) < finished:
            time.sleep(draw.uniform(0.001, 0.01))
        victim = running.pop(0)
        os.kill(victim, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(victim, 0)[1])
        running.append(start_process(paths, log, draw.randrange(NUM_PARTS)))
    assert killed
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in running] == [0, 0, 0]
    assert [path.read_text() for path in paths] == [f"{part:04d}" * 4 for part in range(NUM_PARTS)]
    done = log.read_text().split()
    assert len(done) == len(set(done)) >= NUM_PARTS - killed
    assert not list((tmp_path / "data").glob(".locks*"))


def test_a_part_that_fails_leaves_no_file_and_its_lock(tmp_path):
    paths = [tmp_path / "a.bin", tmp_path / "b.bin"]
    with pytest.raises(OSError, match="disk"), Claims(paths) as claims:
        for part in claims:
            with write_whole(paths[part]) as temporary:
                temporary.write_text("half")
                raise OSError("disk full")
    assert not paths[0].exists()
    do_parts(paths, tmp_path / "log", 1)
    assert paths[0].exists() and paths[1].exists()
    assert sorted((tmp_path / "log").read_text().split()) == ["0", "1"]


def test_parts_are_taken_ahead_and_by_nobody_else(tmp_path):
    paths = [tmp_path / f"{part}.bin" for part in range(3)]
    with Claims(paths) as ours, Claims(paths, start=2) as others:
        assert [ours.take(), others.take(), ours.take(), ours.take()] == [0, 2, 1, None]
        paths[0].touch()
        ours.release(0)
        assert others.take() is None and list(others.waiting) == [1] and list(ours.waiting) == [2]
        others.release(2)  # without a file, as after a failure
        assert ours.take() == 2
    assert list(tmp_path.glob(".locks*"))
    paths[1].touch(), paths[2].touch()
    with Claims(paths) as claims:
        assert list(claims) == []
    assert not list(tmp_path.glob(".locks*"))
