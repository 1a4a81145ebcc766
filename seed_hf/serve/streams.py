"""Answers while they are written: what is new since the last event, and previews of pictures."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi.responses import StreamingResponse

from ..studio import Piece
from .desk import Desk
from .errors import INTERNAL_ERROR, RequestError
from .work import Row


# a preview shows what the first codes mean, not how well the decoder draws
PREVIEW_STEPS = 4


@dataclass
class Written:
    """The pieces of an answer so far."""

    index: int
    pieces: list[Piece]


@dataclass
class Preview:
    """A picture, as base64, of the first codes of an image that is still being written."""

    index: int
    image_index: int
    number: int
    picture: str


class Previews:
    """
    Draws previews while codes are written.

    Args:
        desk ([`Desk`]): What draws.
        count (`int`): Number of previews of each image.
        seed (`int`): Seed of the pictures.
        queue (`asyncio.Queue`): Where the previews go.
    """

    def __init__(self, desk: Desk, count: int, seed: int, queue: asyncio.Queue):
        self.desk, self.seed, self.queue = desk, seed, queue
        self.sizes = [desk.studio.num_codes * number // (count + 1) for number in range(1, count + 1)]
        self._started: set[tuple[int, int, int]] = set()
        self._tasks: set[asyncio.Task] = set()

    def look_at(self, written: Written):
        """Starts the previews for which there are enough codes now."""
        images = [piece.codes for piece in written.pieces if piece.codes is not None]
        for image_index, codes in enumerate(images):
            for number, size in enumerate(self.sizes):
                place = (written.index, image_index, number)
                if 0 < size <= len(codes) and place not in self._started:
                    self._started.add(place)
                    self._tasks.add(asyncio.create_task(self._draw(place, codes[:size])))

    async def _draw(self, place: tuple[int, int, int], codes):
        (picture,) = await self.desk.draw([codes], [self.seed], PREVIEW_STEPS, None)
        self.queue.put_nowait(Preview(*place, picture))

    async def finish(self):
        """Waits for the previews that are being drawn."""
        await asyncio.gather(*self._tasks)

    def cancel(self):
        """Stops what is left of them."""
        for task in self._tasks:
            task.cancel()


async def follow(
    desk: Desk, rows: Sequence[Row], mode: str, max_tokens: int, num_previews: int = 0, seed: int = 0
) -> AsyncIterator[Written | Preview]:
    """
    Writes answers and shows them as they grow. Closing the iterator stops the work.

    Args:
        desk ([`Desk`]): What writes and draws.
        rows (`Sequence[Row]`): As in [`~Desk.write`].
        mode (`str`): As in [`~Desk.write`].
        max_tokens (`int`): As in [`~Desk.write`].
        num_previews (`int`, defaults to 0): Number of previews of each image.
        seed (`int`, defaults to 0): Seed of the previews.

    Yields:
        `Written` or `Preview`: After each token, and whenever a preview is ready.

    Raises:
        RequestError: A prompt is too long.
    """
    queue, loop = asyncio.Queue(), asyncio.get_running_loop()
    for index, row in enumerate(rows):

        def post(pieces: list[Piece], index: int = index):
            loop.call_soon_threadsafe(queue.put_nowait, Written(index, pieces))

        row.on_pieces = post
    previews = Previews(desk, num_previews, seed, queue)

    async def write():
        try:
            await desk.write(rows, mode, max_tokens)
        finally:
            queue.put_nowait(None)

    task = asyncio.create_task(write())
    try:
        while (event := await queue.get()) is not None:
            if isinstance(event, Written):
                previews.look_at(event)
            yield event
        await task
        # only now are all codes looked at: the writer may have been ahead of whoever reads here
        await previews.finish()
        while not queue.empty():
            yield queue.get_nowait()
    finally:
        task.cancel()
        previews.cancel()


@dataclass
class News:
    """
    Says what of an answer is new.

    Args:
        stop (`tuple[str, ...]`): Stop sequences, of which no beginning may be sent.
    """

    stop: tuple[str, ...] = ()
    _sent: dict[int, int] = field(default_factory=dict)

    def of(self, pieces: list[Piece], is_finished: bool = False) -> list[dict[str, Any]]:
        """
        Gives what was not sent yet.

        Args:
            pieces (`list[Piece]`): The pieces so far.
            is_finished (`bool`, defaults to `False`): Whether nothing will follow.

        Returns:
            `list[dict]`: Deltas with `content`, or with `codes` and `image_index`.
        """
        deltas, image_index = [], -1
        for number, piece in enumerate(pieces):
            sent = self._sent.get(number, 0)
            if piece.codes is not None:
                image_index += 1
                new = piece.codes[sent:].tolist()
                self._sent[number] = sent + len(new)
                deltas += [{"codes": new, "image_index": image_index}] if new else []
            else:
                text = begin(piece.text) if number == 0 else piece.text
                is_whole = is_finished or number < len(pieces) - 1
                new = text[sent : len(text) if is_whole else self._safe_length(text)]
                self._sent[number] = sent + len(new)
                deltas += [{"content": new}] if new else []
        return deltas

    def _safe_length(self, text: str) -> int:
        """Length without what may become another letter, or a stop sequence."""
        text = text.rstrip("\ufffd")
        longest = max(map(len, self.stop), default=0)
        for length in range(min(longest, len(text)), 0, -1):
            if any(words.startswith(text[-length:]) for words in self.stop):
                return len(text) - length
        return len(text)


def begin(text: str) -> str:
    """The beginning of an answer, without the space that follows a prompt."""
    return text.lstrip()


async def respond(events: AsyncIterator[dict], ending: str = "", with_types: bool = False) -> StreamingResponse:
    """
    Sends events to a client. What fails before the first event is an ordinary error.

    Args:
        events (`AsyncIterator[dict]`): Events.
        ending (`str`, defaults to `""`): Data of a last event.
        with_types (`bool`, defaults to `False`): Whether each event is named by its `type`.

    Returns:
        `StreamingResponse`: Server-sent events.

    Raises:
        RequestError: What was refused before the first event.
    """
    first = await anext(events)

    def line(event: dict) -> str:
        name = f"event: {event['type']}\n" if with_types else ""
        return f"{name}data: {json.dumps(event)}\n\n"

    async def lines() -> AsyncIterator[str]:
        try:
            yield line(first)
            async for event in events:
                yield line(event)
        except RequestError as error:
            yield f"data: {json.dumps(error.content)}\n\n"
        except Exception:
            yield f"data: {json.dumps(INTERNAL_ERROR.content)}\n\n"
            raise
        finally:
            await events.aclose()
        if ending:
            yield f"data: {ending}\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


__all__ = ["PREVIEW_STEPS", "News", "Preview", "Written", "begin", "follow", "respond"]
