"""Errors in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException


class RequestError(Exception):
    """
    A request that is refused, and why.

    Args:
        message (`str`): Says what is wrong, and what is allowed.
        param (`str`, *optional*): Name of the field.
        status (`int`, defaults to 400): Status of the answer.
        code (`str`, *optional*): Word for programs.
        retry_after (`int`, *optional*): Seconds after which another try may succeed.
    """

    def __init__(
        self,
        message: str,
        param: str | None = None,
        status: int = 400,
        code: str | None = None,
        retry_after: int | None = None,
    ):
        super().__init__(message)
        self.message, self.param, self.status, self.code, self.retry_after = message, param, status, code, retry_after

    @property
    def content(self) -> dict[str, Any]:
        """The body of the answer."""
        kinds = {401: "authentication_error", 429: "rate_limit_error"}
        kind = kinds.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def response(self) -> JSONResponse:
        """The answer."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if self.status == 500:
            # the client must not ask again over a connection that the server is about to end
            headers["Connection"] = "close"
        return JSONResponse(self.content, self.status, headers)


class ErrorDetails(BaseModel):
    """What is wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of an answer that is an error."""

    error: ErrorDetails


INTERNAL_ERROR = RequestError("The server failed; its log says why.", status=500, code="internal_error")


def add_error_handlers(app: FastAPI):
    """Makes every error of an application one in OpenAI's shape."""

    @app.exception_handler(RequestError)
    async def refused(request: Request, error: RequestError):
        return error.response

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError):
        # of the errors of a union, that of the member which fits best
        deepest = max(error.errors(), key=lambda each: len(each["loc"]))
        if deepest["loc"] == ("body",) and isinstance(error.body, bytes):
            return _not_json(request).response
        return _describe(deepest, error.body).response

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException):
        if error.status_code == 400:
            # what FastAPI could not parse
            return _unparsed(request, str(error.detail)).response
        message = str(error.detail) if error.detail else HTTPStatus(error.status_code).phrase
        return RequestError(f"{message}: {request.method} {request.url.path}.", status=error.status_code).response

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception):
        return INTERNAL_ERROR.response


def _not_json(request: Request) -> RequestError:
    given = request.headers.get("content-type")
    start = "`Content-Type` is missing" if given is None else f"`Content-Type` is {given!r}"
    return RequestError(f"{start}; send Content-Type: application/json.", code="invalid_content_type")


def _unparsed(request: Request, detail: str) -> RequestError:
    if "form" in request.headers.get("content-type", ""):
        return RequestError(f"The body is not a form: {detail.rstrip('.')}.", code="invalid_form")
    return RequestError("The body is not JSON.", code="invalid_json")


def _describe(error: dict[str, Any], body: Any) -> RequestError:
    """What pydantic found, with the name of the field as the client wrote it."""
    name = _name(error["loc"], body, error["type"] in ("missing", "extra_forbidden"))
    if error["type"] == "extra_forbidden":
        return RequestError(f"`{name}` is not supported.", name, code="unsupported_parameter")
    if error["type"] == "json_invalid":
        return RequestError("The body is not JSON.", code="invalid_json")
    value = repr(error.get("input"))
    shown = value if len(value) <= 80 else f"{value[:80]}..."
    if error["type"] == "missing":
        return RequestError(f"`{name or 'body'}` is missing.", name, code="missing_required_parameter")
    reason = error["msg"].removeprefix("Value error, ")
    if reason.startswith("Input should be "):
        reason = reason.replace("Input should be ", "allowed: ")
        return RequestError(f"`{name or 'body'}` is {shown}; {reason}.", name, code="invalid_value")
    return RequestError(f"`{name or 'body'}` is {shown}: {reason}.", name, code="invalid_value")


def _name(places: tuple, body: Any, is_about_key: bool) -> str | None:
    """The place in a request, without the members of unions, which pydantic names in between."""
    names = []
    for place in places[1:]:
        is_inside = place in body if isinstance(body, Mapping) else isinstance(body, list) and isinstance(place, int)
        if is_inside:
            body = body[place] if isinstance(body, Mapping) or place < len(body) else None
        if is_inside or is_about_key and isinstance(body, Mapping) and place is places[-1]:
            # a key may hold what no answer can
            names.append(str(place).encode(errors="backslashreplace").decode())
    return ".".join(names) or None


__all__ = ["INTERNAL_ERROR", "ErrorBody", "RequestError", "add_error_handlers"]
