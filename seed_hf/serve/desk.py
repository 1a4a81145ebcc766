"""What the endpoints ask for: images, codes, pictures, words and features, each in a batch with those of others."""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from PIL import Image

from ..studio import Studio
from .batching import Lane
from .errors import RequestError
from .metrics import Metrics
from .pictures import is_data_uri, read_file, read_image, to_base64
from .settings import ServerSettings
from .work import DrawSettings, Item, Row, Work, WriteSettings


# threads that decode images, each of which holds one at full size; URLs have some of their own, since they may be slow
READERS = 2
FETCHERS = 4


class Desk:
    """
    Takes the work of all requests: one thread writes, one sees and draws.

    Args:
        studio ([`Studio`]): The models.
        name (`str`): Name of the model, as clients see it.
        settings ([`ServerSettings`]): Limits and switches.
    """

    def __init__(self, studio: Studio, name: str, settings: ServerSettings):
        self.studio, self.name, self.settings, self.metrics = studio, name, settings, Metrics()
        self.is_draining = False
        self.work = Work(studio, self.metrics)
        self._readers = ThreadPoolExecutor(READERS, "seed-hf read")
        self._fetchers = ThreadPoolExecutor(FETCHERS, "seed-hf fetch")
        self._writing, self._drawing = (
            Lane(lane, self.metrics, settings.max_batch, settings.batch_seconds) for lane in ("write", "draw")
        )

    def close(self):
        """Ends the threads."""
        self._writing.close()
        self._drawing.close()
        self._readers.shutdown()
        self._fetchers.shutdown()

    @property
    def picture_size(self) -> str:
        """Width and height of pictures, such as `"64x64"`."""
        pipeline = self.studio.pipeline
        size = pipeline.unet.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        return f"{width * pipeline.vae_scale_factor}x{height * pipeline.vae_scale_factor}"

    # ------------------------------------------------------------------------------------------ checks
    def check_model(self, name: str | None):
        """Raises [`RequestError`] unless `name` is the model's, or none."""
        if name not in (None, self.name):
            message = f"`model` is {name!r}; allowed: {self.name!r}."
            raise RequestError(message, "model", status=404, code="model_not_found")

    def check_count(self, param: str, count: int, limit: int | None = None):
        """Raises [`RequestError`] where one request has too many images or pictures, or more than the limit."""
        limit = limit or self.settings.max_images
        if count > limit:
            message = f"`{param}` asks for {count}; allowed: at most {limit} in one request."
            raise RequestError(message, param, code="too_many")

    def check_writes(self):
        """Raises [`RequestError`] where there is no language model."""
        if self.studio.model is None or self.studio.processor is None:
            raise RequestError(f"The model {self.name!r} has no language model.", "model", code="unsupported_model")

    def check_codes(self, param: str, codes: Sequence[int], is_whole: bool = False) -> torch.LongTensor:
        """
        Checks the codes of an image.

        Args:
            param (`str`): Name of the field in errors.
            codes (`Sequence[int]`): Codes, all of an image or its first ones.
            is_whole (`bool`, defaults to `False`): Whether there have to be all.

        Returns:
            `torch.LongTensor` of shape `(len(codes),)`.

        Raises:
            RequestError: There are too many or too few, or one may not stand where it stands.
        """
        count = self.studio.num_codes
        if len(codes) > count or len(codes) < (count if is_whole else 1):
            allowed = f"{count}" if is_whole else f"1 to {count}"
            raise RequestError(f"`{param}` has {len(codes)} codes; allowed: {allowed}.", param, code="invalid_value")
        for place, (code, range_) in enumerate(zip(codes, self.studio.codes_of_place, strict=False)):
            if code not in range_:
                message = f"`{param}` has the code {code} at place {place}; allowed there: "
                message += f"{range_.start} to {range_.stop - 1}."
                raise RequestError(message, param, code="invalid_value")
        return torch.tensor(codes, dtype=torch.long)

    def seeds(self, seed: int | None, count: int) -> list[int]:
        """Seeds from `seed` on, or from a random one; never below 0."""
        start = secrets.randbits(32) if seed is None else seed
        return [(start + number) % 2**63 for number in range(count)]

    # ------------------------------------------------------------------------------------------ work
    async def read_images(self, urls: Sequence[tuple[str, str]]) -> list[torch.FloatTensor]:
        """
        Reads images one after the other, so that only one of a request exists at full size.

        Args:
            urls (`Sequence[tuple[str, str]]`): Data URIs or, if the server allows them, URLs; each after the name of
                its field.

        Returns:
            `list[torch.FloatTensor]` of shape `(3, height, width)` each: Pixel values.

        Raises:
            RequestError: An image cannot be read, or all of them have too many pixels.
        """
        pixel_values, num_pixels, limit = [], 0, self.settings.max_request_pixels
        for name, url in urls:
            readers = self._readers if is_data_uri(url) else self._fetchers
            values, count = await self._read(readers, partial(read_image, url, name, self.settings.allow_image_urls))
            num_pixels += count
            if num_pixels > limit:
                message = f"`{name}` brings the images of this request to {num_pixels} pixels; allowed: {limit}."
                raise RequestError(message, name, code="too_many_pixels")
            pixel_values.append(values)
        return pixel_values

    async def read_upload(self, data: bytes, name: str) -> torch.FloatTensor:
        """Pixel values `(3, height, width)` of an uploaded file; `name` is the name of its field in errors."""
        return (await self._read(self._readers, partial(read_file, data, name)))[0]

    async def _read(self, readers: ThreadPoolExecutor, read: Callable[[], Image.Image]) -> tuple[torch.Tensor, int]:
        """Pixel values and number of pixels of an image, which is let go in the thread that decoded it."""

        def work():
            image = read()
            values = self.studio.pipeline.image_processor(image, return_tensors="pt")["pixel_values"][0]
            return values, image.width * image.height

        return await asyncio.get_running_loop().run_in_executor(readers, work)

    async def encode(self, images: Sequence[torch.FloatTensor]) -> list[torch.LongTensor]:
        """Codes of the pixel values of images, a row of shape `(num_codes,)` for each."""
        return await self._look(self.work.encode, None, [Item(image) for image in images])

    async def draw(
        self, codes: Sequence[torch.LongTensor], seeds: Sequence[int], steps: int | None, guidance: float | None
    ) -> list[str]:
        """Pictures of codes as the base64 of PNG files; all rows of codes have one length."""
        items = [Item(row, seed) for row, seed in zip(codes, seeds, strict=True)]
        settings = DrawSettings(len(codes[0]) if codes else 0, steps, guidance)
        pictures = await self._look(self.work.draw, settings, items)
        return await asyncio.to_thread(lambda: [to_base64(picture) for picture in pictures])

    async def embed(self, texts: Sequence[str], images: Sequence[torch.FloatTensor]) -> tuple[list, list]:
        """Features of words and of the pixel values of images, of shape `(dim,)` each."""
        return await asyncio.gather(
            self._look(self.work.embed_texts, None, [Item(text) for text in texts]),
            self._look(self.work.embed_images, None, [Item(image) for image in images]),
        )

    async def _look(self, work, settings, items: list[Item]) -> list:
        return await self._drawing.run(work, settings, items) if items else []

    async def write(self, rows: Sequence[Row], mode: str, max_tokens: int) -> list[Row]:
        """
        Writes answers to chats, or images of words.

        Args:
            rows (`Sequence[Row]`): All with chats, or all with words.
            mode (`str`): `"text"`, `"image"` or `"interleaved"`.
            max_tokens (`int`): Largest number of tokens of an answer.

        Returns:
            `list[Row]`: The same rows, finished.

        Raises:
            RequestError: A prompt is too long.
        """
        work = self.work.write_images if isinstance(rows[0].chat, str) else self.work.write
        results = await self._writing.run(work, WriteSettings(mode, max_tokens), rows)
        for result in results:
            if isinstance(result, RequestError):
                raise result
        return results


__all__ = ["Desk"]
