"""Rows written once to a memory-mapped table in the cache of `datasets`, in as many processes as there are to use."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import datasets
import pyarrow as pa
from datasets.exceptions import DatasetGenerationError


# Raise when generated rows change, so that old ones in the cache are not used.
_ROWS_VERSION = 3
_ROWS_PER_TABLE = 1000
_COLUMNS = datasets.Features(
    {
        "key": datasets.Value("string"),
        "image": datasets.Image(decode=False),
        "caption": datasets.Value("string"),
        "captions": datasets.List(datasets.Value("string")),
        "problem": datasets.Value("string"),
    }
)


def generate_rows(
    generator: Callable[..., Iterator[dict]],
    arguments: dict,
    more_columns: dict[str, str] | None = None,
    num_processes: int | None = None,
) -> datasets.Dataset:
    """Writes rows that refer to images to a memory-mapped table in the cache of `datasets`, or finds them there.

    Several processes can ask at once: one writes, the others wait.

    Args:
        generator (`Callable`): Yields rows as [`~seed_hf.data.shards.make_row`] makes them.
        arguments (`dict`): Arguments of the generator; with its code they name the cache. A list is split between
            processes.
        more_columns (`dict[str, str]`, *optional*): Types of further columns.
        num_processes (`int`, *optional*): Number of processes that write.

    Returns:
        `datasets.Dataset`: the rows.
    """
    features = datasets.Features({**_COLUMNS, **{n: datasets.Value(t) for n, t in (more_columns or {}).items()}})
    arguments = {**arguments, "version": _ROWS_VERSION}
    builder = _Rows(generator=generator, arguments=arguments, columns=features)
    try:
        builder.download_and_prepare(num_proc=num_processes)
    except DatasetGenerationError as error:
        raise error.__cause__ or error from None  # our own words say what is wrong with which file
    return builder.as_dataset(split="train")


@dataclass
class _RowsConfig(datasets.BuilderConfig):
    """What names the cache: its hash covers the code of the generator too."""

    generator: Callable[..., Iterator[dict]] | None = None
    arguments: dict | None = None
    columns: datasets.Features | None = None


class _Rows(datasets.ArrowBasedBuilder):
    """As `Dataset.from_generator`, with a thousand rows at a time: one by one takes twice as long."""

    BUILDER_CONFIG_CLASS = _RowsConfig

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=self.config.columns)

    def _split_generators(self, dl_manager) -> list[datasets.SplitGenerator]:
        return [datasets.SplitGenerator(name="train", gen_kwargs=self.config.arguments)]

    def _generate_tables(self, **arguments) -> Iterator[tuple[int, pa.Table]]:
        rows, schema = self.config.generator(**arguments), self.info.features.arrow_schema
        number = 0
        while batch := list(itertools.islice(rows, _ROWS_PER_TABLE)):
            yield number, pa.Table.from_pylist(batch, schema=schema)
            number += 1


__all__ = ["generate_rows"]
