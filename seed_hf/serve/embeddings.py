"""`/v1/embeddings`: words and images in one space, for search."""

import base64
import re

import torch
from fastapi import APIRouter

from .desk import Desk
from .errors import RequestError
from .schemas import EmbeddingRequest


# as many as OpenAI takes
MAX_TEXTS = 2048


def embedding_routes(desk: Desk) -> APIRouter:
    """
    Makes the endpoint.

    Args:
        desk ([`Desk`]): What does the work.

    Returns:
        `APIRouter`: Its route.
    """
    router = APIRouter()

    @router.post("/v1/embeddings")
    async def embed(request: EmbeddingRequest):
        desk.check_model(request.model)
        if desk.studio.text_tokenizer is None:
            raise RequestError(f"The model {desk.name!r} has no text side.", "model", code="unsupported_model")
        inputs = [request.input] if isinstance(request.input, str) else request.input
        desk.check_count("input", len(inputs), MAX_TEXTS)
        rows = await _features(desk, inputs)
        data = [
            {"object": "embedding", "index": index, "embedding": _encode(row, request.encoding_format)}
            for index, row in enumerate(rows)
        ]
        # words and images count as one each: there are no tokens to pay for
        usage = {"prompt_tokens": len(inputs), "total_tokens": len(inputs)}
        return {"object": "list", "data": data, "model": desk.name, "usage": usage}

    return router


async def _features(desk: Desk, inputs: list[str]) -> list[torch.Tensor]:
    # words may begin like that, too: "data: the new oil"
    is_image = [re.match(r"data:[^,\s]*(,|$)", text, re.IGNORECASE) is not None for text in inputs]
    named = [(f"input.{index}", text) for index, text in enumerate(inputs) if is_image[index]]
    desk.check_count("input", len(named))
    images = await desk.read_images(named)
    texts = [text for text, image in zip(inputs, is_image, strict=True) if not image]
    of_texts, of_images = map(iter, await desk.embed(texts, images))
    return [next(of_images if image else of_texts) for image in is_image]


def _encode(row: torch.Tensor, encoding: str) -> list[float] | str:
    return (
        row.tolist() if encoding == "float" else base64.b64encode(row.float().numpy().astype("<f4").tobytes()).decode()
    )


__all__ = ["embedding_routes"]
