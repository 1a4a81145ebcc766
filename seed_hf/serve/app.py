"""The application: endpoints of a studio behind the gate."""

import time
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from .. import __version__
from ..studio import Studio
from .chat import chat_routes
from .desk import Desk
from .embeddings import embedding_routes
from .errors import ErrorBody, RequestError, add_error_handlers
from .gate import Gate
from .images import image_routes
from .settings import ServerSettings


def build_app(studio: Studio, name: str = "seed-mini", settings: ServerSettings | None = None) -> Gate:
    """
    Makes the application that serves a studio.

    Args:
        studio ([`Studio`]): The models.
        name (`str`, defaults to `"seed-mini"`): Name of the model, as clients see it.
        settings ([`ServerSettings`], *optional*): Limits and switches.

    Returns:
        [`Gate`]: An ASGI application.
    """
    settings = settings or ServerSettings()
    desk = Desk(studio, name, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI):
        yield
        desk.close()

    # the pages of FastAPI load scripts from other hosts
    app = FastAPI(title="seed-hf", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    add_error_handlers(app)
    for routes in (chat_routes, image_routes, embedding_routes, state_routes):
        app.include_router(routes(desk), responses={"4XX": {"model": ErrorBody}, "5XX": {"model": ErrorBody}})
    return Gate(app, desk, frozenset(app.openapi()["paths"]))


def state_routes(desk: Desk) -> APIRouter:
    """
    Makes the endpoints that say what the server is and how it is.

    Args:
        desk ([`Desk`]): What does the work.

    Returns:
        `APIRouter`: Their routes.
    """
    router = APIRouter()
    model = {"id": desk.name, "object": "model", "created": int(time.time()), "owned_by": "seed_hf"}

    @router.get("/v1/models")
    async def models():
        return {"object": "list", "data": [model]}

    @router.get("/v1/models/{name:path}")
    async def model_of(name: str):
        if name != desk.name:
            message = f"`model` is {name!r}; allowed: {desk.name!r}."
            raise RequestError(message, "model", status=404, code="model_not_found")
        return model

    @router.get("/health")
    async def health():
        state = ("stopping", 503) if desk.is_draining else ("ok", 200)
        return JSONResponse({"status": state[0]}, state[1])

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics():
        return Response(generate_latest(desk.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router


__all__ = ["build_app", "state_routes"]
