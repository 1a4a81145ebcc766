"""`/v1/chat/completions`: chats with images in, words and pictures out."""

import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import torch
from fastapi import APIRouter

from .desk import Desk
from .errors import RequestError
from .schemas import ChatRequest, ImagePart, Message
from .streams import News, Preview, begin, follow, respond
from .work import Row


def chat_routes(desk: Desk) -> APIRouter:
    """
    Makes the endpoint.

    Args:
        desk ([`Desk`]): What does the work.

    Returns:
        `APIRouter`: Its route.
    """
    router = APIRouter()

    @router.post("/v1/chat/completions")
    async def complete(request: ChatRequest):
        answer = await Answer.prepare(desk, request)
        return await respond(answer.stream(), "[DONE]") if request.stream else await answer.whole()

    return router


async def read_messages(desk: Desk, request: ChatRequest) -> list[dict]:
    """
    Turns the messages of a request into those of a studio, with the codes of images.

    Args:
        desk ([`Desk`]): What sees.
        request ([`ChatRequest`]): The request.

    Returns:
        `list[dict]`: Messages.

    Raises:
        RequestError: The last message is empty, an image cannot be read, or codes cannot be those of an image.
    """
    if not _says_something(request.messages[-1]):
        message = "`messages` is empty in its last message; allowed: some words or an image."
        raise RequestError(message, "messages", code="invalid_value")
    images: list[tuple[str, ImagePart, dict]] = []
    messages = []
    for number, message in enumerate(request.messages):
        content = message.content
        if not isinstance(content, str):
            parts = [{"type": "text", "text": part.text} if part.type == "text" else {} for part in content]
            names = [f"messages.{number}.content.{place}" for place in range(len(content))]
            images += [entry for entry in zip(names, content, parts, strict=True) if entry[1].type == "image_url"]
            content = parts
        messages.append({"role": "system" if message.role == "developer" else message.role, "content": content})
    desk.check_count("messages", len(images))
    for part, codes in zip((entry[2] for entry in images), await _codes_of(desk, images), strict=True):
        part.update(type="image", codes=codes)
    return messages


def _says_something(message: Message) -> bool:
    if isinstance(message.content, str):
        return bool(message.content.strip())
    return any(part.type == "image_url" or part.text.strip() for part in message.content)


async def _codes_of(desk: Desk, images: list[tuple[str, ImagePart, dict]]) -> list[torch.Tensor]:
    unseen = [(f"{name}.image_url.url", part.image_url.url) for name, part, _ in images if part.codes is None]
    seen = iter(await desk.encode(await desk.read_images(unseen)))
    return [
        next(seen) if part.codes is None else desk.check_codes(f"{name}.codes", part.codes, is_whole=True)
        for name, part, _ in images
    ]


class Answer:
    """
    The answer to one request.

    Args:
        desk ([`Desk`]): What does the work.
        request ([`ChatRequest`]): The request.
        rows (`list[Row]`): One for each choice.
        max_tokens (`int`): Largest number of tokens of a choice.
        seed (`int`): Seed of pictures.
    """

    def __init__(self, desk: Desk, request: ChatRequest, rows: list[Row], max_tokens: int, seed: int):
        self.desk, self.request, self.rows, self.max_tokens, self.seed = desk, request, rows, max_tokens, seed
        self.head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": desk.name}

    @classmethod
    async def prepare(cls, desk: Desk, request: ChatRequest) -> "Answer":
        """Checks a request and reads its images; raises [`RequestError`] where it cannot be answered."""
        desk.check_model(request.model)
        desk.check_writes()
        desk.check_count("n", request.n)
        max_tokens = _max_tokens(desk, request)
        messages = await read_messages(desk, request)
        is_trained = not (request.raw or request.mode == "interleaved" or desk.studio.has_chat_template)
        # without an image, or words to draw, the chat itself is all that there is
        prompt = desk.studio.trained_prompt(messages, request.mode) or None if is_trained else None
        # what follows the first line of an answer to such a prompt is made up
        stop = request.stops if prompt is None else (*request.stops, "\n")
        seeds = desk.seeds(request.seed, request.n)
        settings = {"temperature": request.temperature, "top_p": request.top_p, "stop": stop}
        rows = [Row(messages if prompt is None else prompt, seed=seed, **settings) for seed in seeds]
        return cls(desk, request, rows, max_tokens, seeds[0])

    async def whole(self) -> dict[str, Any]:
        """The answer as one object."""
        await self.desk.write(self.rows, self.request.mode, self.max_tokens)
        pictures = await self._draw()
        choices = [self._choice(index, row, pictures) for index, row in enumerate(self.rows)]
        return {**self.head, "object": "chat.completion", "choices": choices, "usage": self._usage()}

    async def stream(self) -> AsyncIterator[dict[str, Any]]:
        """The answer as events: words and codes as they are written, previews, pictures, and the end."""
        news = [News(row.stop) for row in self.rows]
        started = set()
        previews = self.request.partial_images if self.request.mode != "text" else 0
        settings = (self.request.mode, self.max_tokens, previews, self.seed)
        async for event in follow(self.desk, self.rows, *settings):
            if event.index not in started:
                started.add(event.index)
                yield self._chunk(event.index, {"role": "assistant", "content": ""})
            for delta in self._deltas(event, news[event.index]):
                yield self._chunk(event.index, delta)
        pictures = await self._draw()
        for index, row in enumerate(self.rows):
            for delta in news[index].of(row.pieces, is_finished=True):
                yield self._chunk(index, delta)
            drawn = [
                (number, pictures[index, number]) for number in range(len(row.pieces)) if (index, number) in pictures
            ]
            for image_index, (_, picture) in enumerate(drawn):
                yield self._chunk(index, {"images": [_image(picture, index=image_index)]})
            end = self._chunk(index, {}, _reason(row))
            end["choices"][0]["seed"] = row.seed
            yield end
        if self.request.stream_options and self.request.stream_options.include_usage:
            yield {**self.head, "object": "chat.completion.chunk", "choices": [], "usage": self._usage()}

    def _deltas(self, event, news: News) -> list[dict[str, Any]]:
        if isinstance(event, Preview):
            return [{"images": [_image(event.picture, index=event.image_index, is_partial=True)]}]
        return news.of(event.pieces)

    async def _draw(self) -> dict[tuple[int, int], str]:
        """Pictures of all images that were written to the end, by the numbers of row and piece."""
        places, num_codes = {}, self.desk.studio.num_codes
        for index, row in enumerate(self.rows):
            for number, piece in enumerate(row.pieces):
                if piece.codes is not None and len(piece.codes) == num_codes:
                    places[index, number] = piece.codes
        seeds = [self.rows[index].seed for index, _ in places]
        settings = (self.request.steps, self.request.guidance)
        return dict(zip(places, await self.desk.draw(list(places.values()), seeds, *settings), strict=True))

    def _choice(self, index: int, row: Row, pictures: dict[tuple[int, int], str]) -> dict[str, Any]:
        """Words as OpenAI has them; images as others have them; and as `parts` all of it in order."""
        parts = []
        for number, piece in enumerate(row.pieces):
            if piece.codes is None:
                text = piece.text if number else begin(piece.text)
                parts += [{"type": "text", "text": text}] if text else []
            else:
                drawn = _image(pictures[index, number]) if (index, number) in pictures else {"type": "image_url"}
                parts.append({**drawn, "codes": piece.codes.tolist()})
        words = "".join(part["text"] for part in parts if part["type"] == "text")
        message = {"role": "assistant", "content": words, "refusal": None, "parts": parts}
        message["images"] = [part for part in parts if part["type"] == "image_url"]
        return {"index": index, "message": message, "finish_reason": _reason(row), "logprobs": None, "seed": row.seed}

    def _chunk(self, index: int, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "finish_reason": finish_reason}
        return {**self.head, "object": "chat.completion.chunk", "choices": [choice]}

    def _usage(self) -> dict[str, int]:
        prompt, written = self.rows[0].num_prompt_tokens, sum(len(row.ids) for row in self.rows)
        return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}


def _reason(row: Row) -> str:
    return "length" if row.finish_reason == "length" else "stop"


def _image(picture: str, **more) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}, **more}


def _max_tokens(desk: Desk, request: ChatRequest) -> int:
    """The asked number of tokens, or a quarter of what the model reads and writes; for one image what it takes."""
    name = "max_tokens" if request.max_completion_tokens is None else "max_completion_tokens"
    asked, image = getattr(request, name), desk.studio.num_codes + 2
    most = min(desk.settings.max_tokens, desk.studio.context_length or desk.settings.max_tokens)
    allowed = range(image if request.mode == "image" else 1, most + 1)
    if asked is not None and asked not in allowed:
        message = f"`{name}` is {asked}; allowed: {allowed.start} to {allowed.stop - 1}"
        about_context = "" if most == desk.settings.max_tokens else ", all that the model reads and writes"
        raise RequestError(f"{message}{about_context}.", name, code="invalid_value")
    if request.mode == "image":
        return image
    quarter = (desk.studio.context_length or 1024) // 4
    return asked or min(max(image, quarter), desk.settings.max_tokens)


__all__ = ["Answer", "chat_routes", "read_messages"]
