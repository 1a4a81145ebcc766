"""`/v1/images/...`: pictures of words, of an image and words, and of codes; and codes of images."""

import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

import torch
from fastapi import APIRouter, Depends, Form, Request

from .desk import Desk
from .errors import RequestError
from .schemas import CodesRequest, EditRequest, ImageRequest
from .streams import News, Preview, follow, respond
from .work import Row


def image_routes(desk: Desk) -> APIRouter:
    """
    Makes the endpoints.

    Args:
        desk ([`Desk`]): What does the work.

    Returns:
        `APIRouter`: Their routes.
    """
    router = APIRouter()

    @router.post("/v1/images/generations")
    async def generate(request: ImageRequest):
        return await _answer(Pictures(desk, request), "image_generation")

    @router.post("/v1/images/edits")
    async def edit(request: Annotated[EditRequest, Form()], _: Annotated[None, Depends(_check_form)]):
        return await _answer(Pictures(desk, request, await _kept_codes(desk, request)), "image_edit")

    @router.post("/v1/images/codes")
    async def convert(request: CodesRequest):
        desk.check_model(request.model)
        data = await (_to_codes(desk, request) if request.images else _to_pictures(desk, request))
        return {"created": int(time.time()), "data": data}

    return router


async def _answer(pictures: "Pictures", name: str):
    if pictures.request.stream:
        return await respond(pictures.stream(name), with_types=True)
    return {"created": int(time.time()), "data": await pictures.whole(), "output_format": "png"}


async def _check_form(request: Request):
    """Refuses fields that are there twice, of which a form would take the last."""
    names = [name.removesuffix("[]") for name, _ in (await request.form()).multi_items()]
    for name in names:
        if names.count(name) > 1:
            message = f"`{name}` is in the form {names.count(name)} times; allowed: once."
            raise RequestError(message, name, code="too_many")


async def _kept_codes(desk: Desk, request: EditRequest) -> tuple[int, ...]:
    count = desk.studio.num_codes
    keep = count // 2 if request.keep is None else request.keep
    if keep > count:
        raise RequestError(f"`keep` is {keep}; allowed: 0 to {count}.", "keep", code="invalid_value")
    (codes,) = await desk.encode([await desk.read_upload(await request.image.read(), "image")])
    return tuple(codes[:keep].tolist())


async def _to_codes(desk: Desk, request: CodesRequest) -> list[dict[str, Any]]:
    desk.check_count("images", len(request.images))
    named = [(f"images.{number}", url) for number, url in enumerate(request.images)]
    return [{"codes": codes.tolist()} for codes in await desk.encode(await desk.read_images(named))]


async def _to_pictures(desk: Desk, request: CodesRequest) -> list[dict[str, Any]]:
    desk.check_count("codes", len(request.codes))
    rows = [desk.check_codes(f"codes.{number}", row) for number, row in enumerate(request.codes)]
    if len({len(row) for row in rows}) > 1:
        raise RequestError(
            "`codes` has rows of different lengths; allowed: one length.", "codes", code="invalid_value"
        )
    seeds = desk.seeds(request.seed, len(rows))
    pictures = await desk.draw(rows, seeds, request.steps, request.guidance)
    return [
        {"b64_json": picture, "codes": row.tolist(), "seed": seed}
        for picture, row, seed in zip(pictures, rows, seeds, strict=True)
    ]


class Pictures:
    """
    The pictures of one request.

    Args:
        desk ([`Desk`]): What does the work.
        request ([`ImageRequest`]): The request.
        first_codes (`tuple[int, ...]`): Codes that the pictures begin with.
    """

    def __init__(self, desk: Desk, request: ImageRequest, first_codes: tuple[int, ...] = ()):
        desk.check_model(request.model)
        desk.check_writes()
        desk.check_count("n", request.n)
        self._check_size(desk, request.size)
        self.desk, self.request = desk, request
        self.seeds = desk.seeds(request.seed, request.n)
        # without sampling all rows would be the same
        seeds = self.seeds if request.temperature else self.seeds[:1]
        settings = {"temperature": request.temperature, "top_p": request.top_p, "first_codes": first_codes}
        self.rows = [Row(request.prompt, seed=seed, name="prompt", **settings) for seed in seeds]
        self.length = desk.studio.num_codes + 2

    @staticmethod
    def _check_size(desk: Desk, size: str | None):
        own = desk.picture_size
        if size not in (None, "auto", own):
            raise RequestError(f"`size` is {size!r}; allowed: 'auto' or {own!r}.", "size", code="invalid_value")

    async def whole(self) -> list[dict[str, Any]]:
        """All pictures."""
        await self.desk.write(self.rows, "image", self.length)
        return await self._draw()

    async def stream(self, name: str) -> AsyncIterator[dict[str, Any]]:
        """The codes as they are written, previews, and the pictures as events whose types begin with `name`."""
        news = [News() for _ in self.rows]
        settings = ("image", self.length, self.request.partial_images, self.seeds[0])
        async for event in follow(self.desk, self.rows, *settings):
            if isinstance(event, Preview):
                yield self._event(f"{name}.partial_image", event.picture, partial_image_index=event.number)
            else:
                for delta in news[event.index].of(event.pieces):
                    yield {"type": f"{name}.codes", "codes": delta["codes"], "index": event.index}
        for number, picture in enumerate(await self._draw()):
            more = {"codes": picture["codes"], "seed": picture["seed"], "index": number}
            yield self._event(f"{name}.completed", picture["b64_json"], **more)

    def _event(self, kind: str, data: str, **more) -> dict[str, Any]:
        size = {"output_format": "png", "size": self.desk.picture_size}
        return {"type": kind, "b64_json": data, "created_at": int(time.time()), **size, **more}

    async def _draw(self) -> list[dict[str, Any]]:
        codes = [self._codes(self.rows[number % len(self.rows)]) for number in range(self.request.n)]
        pictures = await self.desk.draw(codes, self.seeds, self.request.steps, self.request.guidance)
        return [
            {"b64_json": picture, "codes": row.tolist(), "seed": seed}
            for picture, row, seed in zip(pictures, codes, self.seeds, strict=True)
        ]

    @staticmethod
    def _codes(row: Row) -> torch.Tensor:
        return row.pieces[-1].codes


__all__ = ["Pictures", "image_routes"]
