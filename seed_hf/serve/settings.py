"""Limits and switches of the server."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ServerSettings:
    """
    Limits and switches of the server.

    Args:
        api_key (`str`, *optional*): What requests have to bring as bearer token; by default nothing.
        hosts (`tuple[str, ...]`, *optional*): Names by which requests may call the server, and of the
            sites whose pages may send them; by default any. A server
            without a key, on this machine alone, needs it: a page of another site, whose name was made to lead here,
            could use it otherwise.
        allow_image_urls (`bool`, defaults to `False`): Whether images may be named by http(s) URLs, which the server
            then fetches from public addresses.
        max_body_bytes (`int`, defaults to 16777216): Largest request.
        max_tokens (`int`, defaults to 1024): Largest number of tokens that an answer may ask for.
        max_images (`int`, defaults to 16): Largest number of images or pictures of one request.
        max_request_pixels (`int`, defaults to 67108864): Largest number of pixels of all images of one request;
            [`~seed_hf.models.image_limits_seed.IMAGE_LIMITS`] says how many one image may have.
        max_seconds (`float`, defaults to 120.0): Longest time for one request, its body and its answer included.
        max_requests (`int`, defaults to 64): Largest number of requests that are waiting or being answered.
        max_batch (`int`, defaults to 16): Largest number of rows that the models work on at once.
        batch_seconds (`float`, defaults to 0.005): How long a first request waits for others to share its batch.
    """

    api_key: str | None = None
    hosts: tuple[str, ...] | None = None
    allow_image_urls: bool = False
    max_body_bytes: int = 16777216
    max_tokens: int = 1024
    max_images: int = 16
    max_request_pixels: int = 67108864
    max_seconds: float = 120.0
    max_requests: int = 64
    max_batch: int = 16
    batch_seconds: float = 0.005


__all__ = ["ServerSettings"]
