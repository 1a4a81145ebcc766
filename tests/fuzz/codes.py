"""Damaged codes of a data set: `read_codes` and `encode_rows` find the damage, and the codes are made anew."""

import random
import shutil
from pathlib import Path

from mutations import damage_file
from tiny.image_tokenizer import tiny_image_tokenizer
from tiny.shards import sample, write_shard

from fuzz.target import Target, outcome_of
from seed_hf import SeedImageProcessor
from seed_hf.data.codes import read_codes
from seed_hf.data.encode import encode_rows
from seed_hf.data.rows import load_rows


class Codes(Target):
    """Three parts, a list of skipped images and a description, one or two of which are damaged."""

    share = 0.8

    def __init__(self, folder: Path):
        super().__init__(folder)
        tiny_image_tokenizer().save_pretrained(folder / "image_tokenizer")
        SeedImageProcessor(size={"height": 28, "width": 28}).save_pretrained(folder / "image_tokenizer")
        samples = [sample(number, **({"jpg": b"no image"} if number == 4 else {})) for number in range(6)]
        self.rows = load_rows(write_shard(folder / "train-0.tar", samples))
        self._encode(folder / "codes")
        self.expected = read_codes(folder / "codes")[:]
        self.files = sorted(path.relative_to(folder / "codes") for path in (folder / "codes").rglob("*.*"))

    def _encode(self, output: Path) -> None:
        encode_rows(self.rows, self.folder / "image_tokenizer", output, rows_per_file=2)

    def _damage(self, rng: random.Random) -> bool:
        """Returns whether the description is damaged, which cannot be made anew."""
        damaged = rng.sample(self.files, rng.choice([1, 1, 2]))
        parts = [file for file in damaged if file.suffix == ".parquet"]
        if len(parts) == 2:
            first, second = (self.input / part for part in parts)
            content = first.read_bytes()
            first.write_bytes(second.read_bytes())
            second.write_bytes(content)
        else:
            for file in damaged:
                damage_file(self.input / file, rng)
        return any(file.suffix == ".json" for file in damaged)

    def try_one(self, rng: random.Random) -> tuple[str, str, dict[str, int]]:
        shutil.rmtree(self.input, ignore_errors=True)
        shutil.copytree(self.folder / "codes", self.input)
        is_described = not self._damage(rng)
        outcome, codes = outcome_of(lambda: read_codes(self.input)[:])
        assert outcome == "refused" or codes == self.expected
        again, error = outcome_of(lambda: self._encode(self.input))
        if again == "refused":
            assert not is_described, error
        else:
            assert read_codes(self.input)[:] == self.expected
        kind = "parts and lists" if is_described else "description"
        return kind, outcome, {"made anew": int(again == "read" and outcome == "refused")}
