"""`seed-hf encode` on many machines: a pipeline of datatrove, which Slurm, Ray or this machine runs as many tasks.

Each task has every n-th part to itself, so nothing is locked and any storage will do. What is finished stays finished:
datatrove leaves out tasks that are complete, and a task that was killed goes on with the parts that it lacks.
"""

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch
from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from .codes import count_encoded, skipped_path
from .encode import plan_encoding
from .outputs import Output
from .resumable import Progress
from .rows import load_rows


def encode_pipeline(
    image_tokenizer: str,
    dataset: str,
    output_dir: str,
    split: str = "train",
    *,
    allow_outside_paths: bool = False,
    max_unreadable_share: float = 0.01,
    **settings,
) -> list[PipelineStep]:
    """Makes the steps of a datatrove pipeline that writes the files of `seed-hf encode`.

    Args:
        image_tokenizer (`str`): Folder or Hub id of an image tokenizer, or `"seed-mini"`.
        dataset (`str`): Data set, see [`~seed_hf.data.rows.load_rows`]. Every machine must be able to read it.
        output_dir (`str`): Folder that all machines share, or a URL such as `"s3://bucket/codes"`.
        split (`str`, defaults to `"train"`): Split to encode, possibly with a slice.
        allow_outside_paths (`bool`, defaults to `False`): Also read images outside of the data set.
        max_unreadable_share (`float`, defaults to 0.01): Share of images that may be left out.
        settings: Further arguments of [`~seed_hf.data.encode.encode_rows`], but for `num_processes`.

    Returns:
        `list[PipelineStep]`: a reader, an encoder and a writer, for any executor. Its number of tasks is free, up to
        the number of files; with another number take another `logging_dir`.

    Raises:
        ValueError: If `output_dir` is on the Hub, where the tasks would commit into each other.

    Example:
        ```python
        import tempfile

        from datatrove.executor import LocalPipelineExecutor

        from seed_hf.data.cluster import encode_pipeline
        from seed_hf.data.codes import read_codes

        folder = tempfile.mkdtemp()
        steps = encode_pipeline("seed-mini", "training/data/emoji/*.parquet", f"{folder}/codes", "validation[:32]")
        LocalPipelineExecutor(steps, logging_dir=f"{folder}/logs").run()
        codes = read_codes(f"{folder}/codes", "validation[:32]")["codes"][0]  # 32 integers
        ```
    """
    if output_dir.startswith("hf://"):
        raise ValueError(
            f"`output_dir` is {output_dir!r}; allowed: a folder that all machines share, or another URL such as "
            "'s3://bucket/codes', since tasks would commit to the Hub at once. Upload the whole afterwards."
        )
    reading = {"allow_outside_paths": allow_outside_paths, "max_unreadable_share": max_unreadable_share}
    settings |= {"source": dataset, "max_unreadable_share": max_unreadable_share}
    return [PartReader(image_tokenizer, dataset, output_dir, split, reading, settings), PartEncoder(), PartWriter()]


class PartReader(PipelineStep):
    """Finds the parts of a task that are not finished, and gives a document for each.

    Args:
        image_tokenizer (`str`): Image tokenizer.
        dataset (`str`): Data set.
        output_dir (`str`): Path or URL of the output.
        split (`str`): Split to encode.
        reading (`dict`): Further arguments of [`~seed_hf.data.rows.load_rows`].
        settings (`dict`): Further arguments of [`~seed_hf.data.encode.plan_encoding`].
    """

    type, name = "📖 - READER", "SEED parts"

    def __init__(
        self, image_tokenizer: str, dataset: str, output_dir: str, split: str, reading: dict, settings: dict[str, Any]
    ):
        super().__init__()
        self.image_tokenizer, self.dataset, self.output_dir, self.split = image_tokenizer, dataset, output_dir, split
        self.reading, self.settings = reading, settings

    def run(self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        """Yields a document for each part: its `id` is the name of the file."""
        rows = load_rows(self.dataset, self.split, keep_unusable=True, captions="optional", **self.reading)
        output, share = Output(self.output_dir), (rank, world_size)
        with output.named():
            encoder = plan_encoding(rows, self.image_tokenizer, output, self.split, share=share, **self.settings)
        for part in range(rank, len(encoder.paths), world_size):
            path = encoder.paths[part]
            encoder.records.drop_if_stale(path, part)
            self.stat_update("finished before" if path.exists() else "to do", unit="part")
            if not path.exists():
                yield Document("", path.stem, metadata={"part": part, "encoder": encoder, "output": output})


class PartEncoder(PipelineStep):
    """Encodes the images of each part; the model is loaded once a task, on the GPU that the task has."""

    type, name = "🔢 - ENCODER", "SEED codes"

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        """Yields each document once its file is there, while the next are in the making."""
        claims = _Documents(data)
        if claims.first is None:
            return
        encoder = claims.first.metadata["encoder"]
        claims.paths = encoder.paths
        # Slurm and Ray show a task its own GPUs; several tasks on this machine share those of it
        encoder.load(f"cuda:{rank % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu")
        progress = Progress(encoder.paths, encoder.records.sizes, disable=True)
        with self.track_time("task"), ThreadPoolExecutor(1) as pool:
            making = pool.submit(encoder.make_parts, claims, progress)
            making.add_done_callback(lambda _: claims.finished.put(None))
            try:
                while (document := claims.finished.get()) is not None:
                    yield document
            finally:
                claims.documents = iter(())  # an error of a later step ends the work
            making.result()


class _Documents:
    """The parts of a task, as [`~seed_hf.data.resumable.Claims`] gives out those that are shared.

    Args:
        data (`DocumentsPipeline`): From [`PartReader`].
    """

    paths: list[Path]

    def __init__(self, data: DocumentsPipeline):
        self.first = next(data, None)
        self.documents = itertools.chain([self.first], data)
        self.finished: SimpleQueue[Document | None] = SimpleQueue()
        self._taken: dict[int, Document] = {}

    def take(self) -> int | None:
        """Number of the next part, `None` after the last."""
        document = next(self.documents, None)
        if document is None:
            return None
        self._taken[document.metadata["part"]] = document
        return document.metadata["part"]

    def release(self, part: int) -> None:
        """Passes on a part whose file is there."""
        self.finished.put(self._taken.pop(part))

    def wait(self) -> bool:
        """Nobody else has parts that could become free."""
        return False


class PartWriter(PipelineStep):
    """Sends what lies behind a URL, and counts."""

    type, name = "💽 - WRITER", "SEED files"

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        """Yields the documents."""
        for document in data:
            path, output = document.metadata["encoder"].paths[document.metadata["part"]], document.metadata["output"]
            # the part last: where it is, all of it is
            output.publish(skipped_path(path))
            output.publish(path)
            for name, count in zip(("images", "skipped"), count_encoded([path]), strict=True):
                self.stat_update(name, value=count, unit="part")
            yield document


__all__ = ["PartEncoder", "PartReader", "PartWriter", "encode_pipeline"]
