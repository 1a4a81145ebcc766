"""Run by test_training_processes.py: training scripts in real processes, some of which are killed on the way.

Everything is imported once and each process is forked from here, which takes a second instead of ten. Reads a list of
jobs (JSON) and writes how their processes ended.
"""

import importlib
import json
import os
import signal
import socket
import sys
import traceback
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import DistributedType
from replaced import Replaced

from seed_hf.trainer import checkpoint as checkpoint_module
from seed_hf.trainer.run import TrainingRun
from seed_hf.trainer.update import OptimizerUpdate


SCRIPTS = ("train_qformer", "train_codebook", "train_causal_lm", "train_vae")
# what the scripts import once they have parsed their arguments
STAGES = ("stages.qformer", "stages.codebook", "stages.causal_lm", "stages.autoencoder", "targets")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def check_world(num_processes):
    """Several ways to launch two processes give two that do not know of each other."""
    fit = TrainingRun.fit

    def checked_fit(run, *args, **kwargs):
        assert run.accelerator.num_processes == num_processes, run.accelerator.num_processes
        return fit(run, *args, **kwargs)

    TrainingRun.fit = checked_fit


def kill_at(step):
    """This process vanishes before its update number `step` (counted from 0), after reading the data."""
    update = OptimizerUpdate.__call__

    def deadly_update(self, current_step, *args):
        if current_step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return update(self, current_step, *args)

    OptimizerUpdate.__call__ = deadly_update


def kill_in(call):
    """This process vanishes in the middle of writing its second checkpoint, where that calls `call`."""
    module, name = call.split(".")
    holder, calls = getattr(checkpoint_module, module), []

    def deadly(*args):
        calls.append(args)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return getattr(holder, name)(*args)

    setattr(checkpoint_module, module, Replaced(holder, **{name: deadly}))


def spread_weights(layer_class):
    """What launching with accelerate/fsdp2.yaml does on GPUs; on CPUs Accelerate ignores it, although torch can."""
    fsdp = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP"}
    os.environ.update({**fsdp, "FSDP_TRANSFORMER_CLS_TO_WRAP": layer_class, "FSDP_RESHARD_AFTER_FORWARD": "true"})
    PartialState(cpu=True)
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU


def run_process(job, rank, port):
    """What a launcher sets up, then the script."""
    count = job["num_processes"]
    world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    world |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
    if count > 1:
        os.environ.update({name: str(value) for name, value in world.items()})
    log = os.open(f"{job['log']}-{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1), os.dup2(log, 2)
    check_world(count)
    if job.get("layer_class"):
        spread_weights(job["layer_class"])
    if rank == count - 1 and job.get("kill_at") is not None:
        kill_at(job["kill_at"])
    if job.get("kill_in"):
        kill_in(job["kill_in"])
    importlib.import_module(job["script"]).main(job["flags"])


def run_job(job):
    """Exit codes of the processes of a job, in rank order; negative: the signal."""
    port, pids = free_port(), []
    for rank in range(job["num_processes"]):
        pid = os.fork()
        if not pid:
            try:
                run_process(job, rank, port)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        pids.append(pid)
    codes = {}
    while len(codes) < len(pids):
        pid, status = os.wait()
        codes[pid] = os.waitstatus_to_exitcode(status)
        if codes[pid]:  # as launchers do
            for other in set(pids) - codes.keys():
                os.kill(other, signal.SIGKILL)
    return [codes[pid] for pid in pids]


if __name__ == "__main__":
    for name in (*SCRIPTS, *(f"seed_hf.trainer.{stage}" for stage in STAGES)):
        importlib.import_module(name)
    plan = Path(sys.argv[1])
    jobs = json.loads(plan.read_text())
    plan.with_name("ended.json").write_text(json.dumps([run_job(job) for job in jobs]))
