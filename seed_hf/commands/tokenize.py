"""`seed-hf tokenize`: [`~seed_hf.image_tokenizers.encode_images`] on the command line."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from .flags import Device, ImageSize, Paths, announce, model_flag
from .images import Failures, counted, encode_files, find_images, name_of


EXAMPLES = """examples:
  seed-hf tokenize photo.jpg
  seed-hf tokenize photos "more/**/*.png" --output codes.jsonl
  find . -name "*.jpg" | seed-hf tokenize - --output codes.parquet
"""


def _codes_file(text: str) -> Path:
    if Path(text).suffix not in (".jsonl", ".parquet"):
        raise typer.BadParameter(f"{text!r} ends neither in .jsonl nor in .parquet.")
    return Path(text)


def run(
    paths: Paths,
    output: Annotated[
        Path | None,
        typer.Option(parser=_codes_file, metavar="FILE", help="File to write, .jsonl or .parquet; by default print."),
    ] = None,
    batch_size: Annotated[int, typer.Option(metavar="NUMBER", help="Number of images at once.")] = 16,
    model: Annotated[str, model_flag("an image tokenizer or a pipeline")] = "seed-mini",
    device: Device = None,
    image_size: ImageSize = None,
) -> int:
    """Writes the codes of every image that can be read."""
    # these bring torch, for which `--help` must not wait
    from ..image_tokenizers import encode_images
    from ..loading import load_image_tokenizer

    failures = Failures()
    files = find_images(paths, failures)
    image_tokenizer = load_image_tokenizer(*announce(model, device), image_size)
    encode = partial(encode_images, image_tokenizer, batch_size=batch_size)
    count = 0
    with _open_output(output, image_tokenizer.codebook_size) as write:
        for batch, codes in encode_files(files, encode, failures, batch_size):
            write([{"file": name_of(file), "codes": row} for file, row in zip(batch, codes.tolist(), strict=True)])
            count += len(batch)
        if output and not count:
            # what is there already stays
            raise ValueError(f"`PATHS` is {paths}, with no image that can be read; {str(output)!r} is not written.")
    if output:
        print(f"wrote {output} with the codes of {counted(count, 'image')}", file=sys.stderr)
    return failures.finish()


@contextmanager
def _open_output(path: Path | None, codebook_size: int) -> Iterator[Callable[[list[dict]], object]]:
    """Gives what writes rows; a file is there once it is complete."""
    from ..data.resumable import write_whole  # brings torch

    if path is None:
        yield lambda rows: print(*map(json.dumps, rows), sep="\n", flush=True)
        return
    with write_whole(path) as temporary:
        if path.suffix == ".parquet":
            import pyarrow as pa
            from pyarrow import parquet

            # 16 bits a code where they do, as in the data sets of `seed-hf encode`
            code = pa.uint16() if codebook_size <= 2**16 else pa.uint32()
            schema = pa.schema({"file": pa.string(), "codes": pa.list_(code)})
            with parquet.ParquetWriter(temporary, schema) as table:
                yield lambda rows: table.write_table(pa.Table.from_pylist(rows, schema))
        else:
            with temporary.open("w", encoding="utf-8") as file:
                yield lambda rows: file.writelines(json.dumps(row) + "\n" for row in rows)


__all__ = ["run"]
