"""`seed-hf edit`: every way writes one picture, and its codes."""

import functools
import json

import pytest
from PIL import Image

from seed_hf.commands import main
from seed_hf.mini import mini_image
from seed_hf.studio import Studio


STRAWBERRY, RAINBOW = mini_image("strawberry"), mini_image("rainbow")


@pytest.fixture(scope="module", autouse=True)
def one_studio():
    """One load of seed-mini is enough for all edits, which leave it as it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Studio, "load", functools.cache(Studio.load))
        yield


@pytest.mark.parametrize(
    ("words", "num_tiles", "num_codes"),
    [
        (["continue", STRAWBERRY, "--keep", "16", "--prompt", "red apple", "--json"], 2, 1),
        (["mix", STRAWBERRY, RAINBOW, "--at", "8", "--json"], 4, 2),
        (["vary", STRAWBERRY, "--count", "3", "--json"], 4, 3),
        (["nearest", STRAWBERRY, "--place", "32", "--count", "2", "--json"], 3, 2),
        (["blend", STRAWBERRY, RAINBOW, "--count", "3"], 5, 0),
        (["first", STRAWBERRY], 7, 0),
    ],
)
def test_edits(words, num_tiles, num_codes, tmp_path, capsys):
    file = tmp_path / "new" / "edited.png"
    assert main(["edit", *words, "--output", str(file), "--steps", "1"]) == 0
    assert Image.open(file).size == (num_tiles * 64 + 8, 64)
    lines = [json.loads(line)["codes"] for line in capsys.readouterr().out.splitlines()]
    assert [len(codes) for codes in lines] == [32] * num_codes


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mix", STRAWBERRY, "nowhere.png", "--output", "out.png"], "nowhere.png"),
        (["mix", STRAWBERRY, RAINBOW, "--at", "33", "--output", "out.png"], "`--at` is 33; allowed"),
        (["vary", STRAWBERRY, "--count", "0", "--output", "out.png"], "`--count` is 0; allowed: 1 or more"),
        (["nearest", STRAWBERRY, "--place", "33", "--output", "out.png"], "`--place` is 33; allowed: 1 to 32."),
        (["first", STRAWBERRY, "--output", "out.gif"], "allowed: a name that ends in .png"),
    ],
)
def test_wrong_use(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["edit", *words]) == 1
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())
