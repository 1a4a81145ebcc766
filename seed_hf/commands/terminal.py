"""Pictures inside a terminal, where it can show them: what the environment says, and the three ways to send one."""

import base64
import io
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from PIL.Image import Image


_KITTY_CHUNK = 4096
_LEAST_SIDE = 256


def picture_protocol(environ: Mapping[str, str]) -> str | None:
    """
    Says how a terminal takes pictures. Only the environment is looked at: asking the terminal would read its input.

    Args:
        environ (`Mapping[str, str]`): Variables of the environment.

    Returns:
        `str` or `None`: `"kitty"`, `"iterm2"`, `"sixel"`, or `None` where it takes none.
    """
    term, program = environ.get("TERM", ""), environ.get("TERM_PROGRAM", "").lower()
    if "TMUX" in environ or term.startswith(("screen", "tmux", "dumb")):
        return None
    if "KITTY_WINDOW_ID" in environ or "kitty" in term or program == "ghostty":
        return "kitty"
    if program in ("iterm.app", "wezterm", "mintty") or environ.get("LC_TERMINAL") == "iTerm2":
        return "iterm2"
    return "sixel" if "sixel" in term or term.startswith(("foot", "mlterm", "yaft")) else None


def show_picture(image: "Image", environ: Mapping[str, str]) -> bool:
    """
    Shows a picture on standard output if that is a terminal that takes pictures.

    Args:
        image (`PIL.Image.Image`): The picture; small ones are enlarged.
        environ (`Mapping[str, str]`): Variables of the environment.

    Returns:
        `bool`: Whether it was shown.
    """
    protocol = picture_protocol(environ) if sys.stdout.isatty() else None
    if protocol is None:
        return False
    factor = -(-_LEAST_SIDE // max(image.size))
    image = image.convert("RGB").resize((image.width * factor, image.height * factor), resample=0)
    print(picture_escapes(image, protocol), flush=True)
    return True


def picture_escapes(image: "Image", protocol: str) -> str:
    """
    Writes a picture as what a terminal takes.

    Args:
        image (`PIL.Image.Image`): The picture.
        protocol (`str`): What [`picture_protocol`] gives.

    Returns:
        `str`: Escape sequences.
    """
    if protocol == "sixel":
        return _sixel(image)
    file = io.BytesIO()
    image.save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    if protocol == "iterm2":
        return f"\x1b]1337;File=inline=1;size={file.tell()}:{data}\x07"
    chunks = [data[start : start + _KITTY_CHUNK] for start in range(0, len(data), _KITTY_CHUNK)]
    heads = ["a=T,f=100,", *[""] * (len(chunks) - 1)]
    more = [1] * (len(chunks) - 1) + [0]
    return "".join(f"\x1b_G{head}m={m};{chunk}\x1b\\" for head, m, chunk in zip(heads, more, chunks, strict=True))


def _sixel(image: "Image") -> str:
    """Bands of six rows; in each band one line for each of its colours, a character for six pixels of a column."""
    import numpy as np

    image = image.quantize(256)
    pixels = np.pad(np.asarray(image), ((0, -image.height % 6), (0, 0)), mode="edge")
    colours = np.asarray(image.getpalette()).reshape(-1, 3) * 100 // 255
    parts = [f"#{number};2;{red};{green};{blue}" for number, (red, green, blue) in enumerate(colours)]
    for band in pixels.reshape(-1, 6, image.width):
        lines = []
        for colour in np.unique(band):
            characters = ((band == colour) * (1 << np.arange(6))[:, None]).sum(0) + 63
            lines.append(f"#{colour}{bytes(characters.tolist()).decode()}")
        parts.append("$".join(lines) + "-")
    return f'\x1bPq"1;1;{image.width};{image.height}{"".join(parts)}\x1b\\'


__all__ = ["picture_escapes", "picture_protocol", "show_picture"]
