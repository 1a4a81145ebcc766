"""Tokenizes a data set as many tasks with datatrove: on Slurm, on Ray, or on this machine.

    python examples/encode_on_a_cluster.py owner/seed-1 "/data/cc3m/{split}-*.tar" /data/codes \
        --executor slurm --partition gpu --tasks 64 --logs /data/logs

The data, the output and the logs must be on storage that every machine sees; `s3://` will do. Set HF_HOME to such a
folder too: the first task then indexes the shards for all. Start the same command again for what failed or was killed.
"""

import argparse

from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor, SlurmPipelineExecutor

from seed_hf.data.cluster import encode_pipeline


def main(argv: list[str] | None = None):
    """Starts the tasks; those of Slurm go on after this command ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image_tokenizer", help="folder or Hub id, or 'seed-mini'")
    parser.add_argument("dataset", help="tar shards, parquet files or a folder; {split} stands for --split")
    parser.add_argument("output", help="folder or URL to write")
    parser.add_argument("--split", default="train", help="split to encode")
    parser.add_argument("--executor", choices=("local", "slurm", "ray"), default="local", help="what runs the tasks")
    parser.add_argument("--tasks", type=int, default=2, help="number of tasks; on a cluster each has a GPU")
    parser.add_argument("--workers", type=int, default=-1, help="number of tasks at once (-1: all)")
    parser.add_argument("--logs", default="logs/encode", help="folder or URL of logs and of what is complete")
    parser.add_argument("--partition", default="gpu", help="partition of Slurm")
    parser.add_argument("--time", default="12:00:00", help="longest time of a Slurm task")
    parser.add_argument("--dtype", default="auto", help="type of the weights, such as float16")
    parser.add_argument("--num-workers", type=int, default=0, help="readers of images in each task")
    args = parser.parse_args(argv)
    settings = {"dtype": args.dtype, "num_workers": args.num_workers}
    steps = encode_pipeline(args.image_tokenizer, args.dataset, args.output, args.split, **settings)
    common = {"tasks": args.tasks, "workers": args.workers, "logging_dir": args.logs}
    on_gpu = {"cpus_per_task": 1 + args.num_workers, "mem_per_cpu_gb": 8, "gpus_per_task": 1}
    if args.executor == "slurm":
        SlurmPipelineExecutor(
            steps, time=args.time, partition=args.partition, job_name="seed-encode", **on_gpu, **common
        ).run()
    elif args.executor == "ray":
        RayPipelineExecutor(steps, **on_gpu, **common).run()
    else:
        LocalPipelineExecutor(steps, **common).run()


if __name__ == "__main__":
    main()
