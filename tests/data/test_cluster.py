"""`seed-hf encode` as a pipeline of datatrove: the files are the same, and a killed task goes on."""

import json
import os
import signal
import subprocess
import sys
import time

import processes
import pytest
from tiny import ROOT
from tiny.image_tokenizer import tiny_image_tokenizer
from tiny.shards import write_shards

from seed_hf import SeedImageProcessor
from seed_hf.data.codes import read_codes
from seed_hf.data.encode import encode_rows
from seed_hf.data.rows import load_rows


pytest.importorskip("datatrove", reason="comes with the cluster extra")

from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor

from seed_hf.data.cluster import encode_pipeline


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Shards of six parts, an image tokenizer, and the codes as `encode_rows` writes them."""
    folder = tmp_path_factory.mktemp("job")
    tiny_image_tokenizer().save_pretrained(folder / "model")
    SeedImageProcessor(size={"height": 28, "width": 28}).save_pretrained(folder / "model")
    dataset = write_shards(folder / "shards", num_shards=2, samples_per_shard=6)
    rows = load_rows(dataset, keep_unusable=True, captions="optional")
    encode_rows(rows, folder / "model", folder / "codes", rows_per_file=2, source=dataset)
    return dataset, folder / "model", folder / "codes"


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# In a process of its own: a fork of one that has threads, as this one does, can hang.
UNTIL_KILLED = """
import sys, time
from datatrove.executor import LocalPipelineExecutor
from seed_hf.data.cluster import encode_pipeline

def stop_at_third(data, rank, world_size):
    for number, document in enumerate(data):
        if number == 2:  # which is asked for before the second is finished
            time.sleep(600)
        yield document

model, dataset, output, logs = sys.argv[1:]
steps = encode_pipeline(model, dataset, output, rows_per_file=2)
steps.insert(1, stop_at_third)
LocalPipelineExecutor(steps, tasks=2, logging_dir=logs, start_method="fork").run()
"""


def test_files_are_the_same_and_killed_tasks_go_on(tmp_path, job):
    """Two processes are killed, each after its first part; the tasks are then run again."""
    dataset, model, codes = job
    output, logs = tmp_path / "codes", tmp_path / "logs"
    command = [sys.executable, "-c", UNTIL_KILLED, *map(str, (model, dataset, output, logs))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = processes.Popen(command, env=environment, start_new_session=True, stderr=subprocess.DEVNULL)
    while len(found := sorted(output.glob("data/train-*.parquet"))) < 2:
        assert process.poll() is None
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert [path.name[:11] for path in found] == ["train-00000", "train-00001"]
    with pytest.raises(ValueError, match="lacks 4 of 6 parts"):
        read_codes(output)

    before = [path.stat().st_mtime_ns for path in found]
    steps = encode_pipeline(str(model), dataset, str(output), rows_per_file=2)
    LocalPipelineExecutor(steps, tasks=2, workers=1, logging_dir=str(logs)).run()
    assert content(output) == content(codes)
    assert [path.stat().st_mtime_ns for path in found] == before
    counted = [step["stats"] for step in json.loads((logs / "stats.json").read_text())]
    assert (counted[0]["finished before"]["total"], counted[0]["to do"]["total"]) == (2, 4)
    assert (counted[2]["images"]["total"], counted[2]["skipped"]) == (8, 0)
    assert sorted(path.name for path in (logs / "completions").iterdir()) == ["00000", "00001"]


@pytest.mark.slow
def test_ray_writes_the_same_files(tmp_path, job, monkeypatch):
    ray = pytest.importorskip("ray", reason="needs pip install ray")
    dataset, model, codes = job
    steps = encode_pipeline(str(model), dataset, str(tmp_path / "codes"), rows_per_file=2)
    ray.init(num_cpus=2, include_dashboard=False)
    try:
        RayPipelineExecutor(steps, tasks=2, logging_dir=str(tmp_path / "logs"), mem_per_cpu_gb=0.5).run()
    finally:
        ray.shutdown()
    assert content(tmp_path / "codes") == content(codes)
