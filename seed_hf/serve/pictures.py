"""Images as they come in requests, and pictures as they go out."""

import base64
import io
import re

from PIL import Image

from ..models.image_limits_seed import IMAGE_LIMITS
from ..models.image_loading_seed import load_rgb_image
from .errors import RequestError


_DATA = re.compile(r"data:", re.IGNORECASE)
_HTTP = re.compile(r"https?://", re.IGNORECASE)


def is_data_uri(url: str) -> bool:
    """Whether an address holds the data itself."""
    return _DATA.match(url) is not None


def read_image(url: str, name: str, allow_urls: bool = False) -> Image.Image:
    """
    Reads an image that a client sent, or where the server allows it, named. Never a path.

    Args:
        url (`str`): Data URI, or http(s) URL.
        name (`str`): Name of its field in errors.
        allow_urls (`bool`, defaults to `False`): Whether URLs are fetched, from public addresses only.

    Returns:
        `PIL.Image.Image`: RGB.

    Raises:
        RequestError: It is of another kind, or cannot be read.
    """
    is_data = is_data_uri(url)
    if not is_data and not (allow_urls and _HTTP.match(url)):
        allowed = "a base64 data URI or an http(s) URL" if allow_urls else "a base64 data URI"
        raise RequestError(f"`{name}` is {_shown(url)}; allowed: {allowed}.", name, code="invalid_image_url")
    try:
        return load_rgb_image(url, name)
    except ValueError as error:
        # what is wrong with an address would tell about the network that the server is in
        is_empty = is_data and not url.partition(",")[2].strip()
        reason = _reason(error.__cause__, is_empty) if is_data else "it could not be fetched as an image"
        raise _unreadable(name, reason) from None


def read_file(data: bytes, name: str) -> Image.Image:
    """
    Reads an uploaded image file.

    Args:
        data (`bytes`): The file.
        name (`str`): Name of its field in errors.

    Returns:
        `PIL.Image.Image`: RGB.

    Raises:
        RequestError: It cannot be read.
    """
    try:
        return load_rgb_image(data, name)
    except ValueError as error:
        raise _unreadable(name, _reason(error.__cause__, not data)) from None


def to_base64(picture: Image.Image) -> str:
    """A picture as the base64 of a PNG file."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _reason(cause: BaseException | None, is_empty: bool) -> str:
    if is_empty:
        return "it holds no data"
    if isinstance(cause.__cause__, Image.DecompressionBombError):
        # Pillow names a limit of its own, which is another
        return f"it has more than the {IMAGE_LIMITS.pixels()} pixels that are allowed"
    return str(cause)


def _unreadable(name: str, reason: str) -> RequestError:
    allowed = "" if "allowed:" in reason else "; allowed: an image file"
    message = f"`{name}` cannot be read: {reason}{allowed}"
    return RequestError(message if message.endswith(".") else f"{message}.", name, code="invalid_image")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}...")


__all__ = ["is_data_uri", "read_file", "read_image", "to_base64"]
