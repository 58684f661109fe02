"""Every answer that is no success is a problem document (RFC 9457), whoever raised it: our errors, FastAPI, Starlette.

What an error says was written for callers, with one exception: errors of the machine tell of paths and addresses inside
the service, so callers get their code and the operator's log gets the rest, both under the request's id.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from app.api.schemas import FieldProblem, Problem
from app.core.render.visible import visible
from detectors.errors import (
    Conflict,
    Forbidden,
    HubUnavailable,
    InputError,
    InvalidRequest,
    MachineError,
    NotAcceptable,
    NotFound,
    NotReady,
    RequestError,
    TooManyRequests,
    TouchstoneError,
    Unauthenticated,
)

log = logging.getLogger("touchstone.api")

PREFIX = "/v1"
"""Of all routes but those for operators."""
MEDIA_TYPE = "application/problem+json"
REQUEST_ID = "touchstone.request_id"
"""Where a request's scope holds its id."""
CHALLENGE = 'Bearer realm="touchstone"'
RETRY_MACHINE_S = 5
"""When to try again after a fault of the machine, in seconds."""
FIELDS_SHOWN = 20

STATUS: dict[type[TouchstoneError], int] = {
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    NotAcceptable: 406,
    Conflict: 409,
    NotReady: 409,
    TooManyRequests: 429,
    RequestError: 422,
    InputError: 422,
    MachineError: 503,
    TouchstoneError: 500,
}
"""By class; the nearest ancestor of an error counts."""

CODES = {401: Unauthenticated, 403: Forbidden, 404: NotFound, 406: NotAcceptable, 422: InvalidRequest}
"""The error that stands for what Starlette and FastAPI raise by status."""


def install(api: FastAPI) -> None:
    """Makes problem documents of every error."""
    api.add_exception_handler(TouchstoneError, _of_ours)
    api.add_exception_handler(RequestValidationError, _of_validation)
    api.add_exception_handler(HTTPException, _of_http)
    _document(api)


def _document(api: FastAPI) -> None:
    """Puts into the OpenAPI what holds for all routes: the problem document, and that a body may be too large."""
    make = api.openapi

    def openapi() -> dict[str, Any]:
        document = make()
        schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        document["components"]["schemas"] |= schema.pop("$defs") | {"Problem": schema}
        for operation in [operation for item in document["paths"].values() for operation in item.values()]:
            if "requestBody" in operation:
                operation["responses"] |= {str(status): said for status, said in only(413).items()}
        return document

    api.openapi = openapi  # type: ignore[method-assign]  # the way that FastAPI documents


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route's OpenAPI says about its problems; 401, 403, 422, 429 and 503 are everybody's."""
    return only(*sorted({401, 403, 422, 429, 503, *statuses}))


def only(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What the OpenAPI says of problems with just these statuses."""
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: schema}} for status in statuses}


def problem(
    request: Request,
    status: int,
    error: type[TouchstoneError],
    detail: str,
    headers: Mapping[str, str] | None = None,
    errors: list[FieldProblem] | None = None,
) -> Response:
    """A problem document as an answer."""
    body = Problem(
        type=f"urn:touchstone:error:{error.code}",
        title=(error.__doc__ or "").partition("\n")[0],
        status=status,
        code=error.code,
        detail=detail,
        errors=errors,
        request_id=request.scope.get(REQUEST_ID),
    )
    return JSONResponse(body.model_dump(mode="json", exclude_none=True), status, headers=headers, media_type=MEDIA_TYPE)


def internal(request: Request) -> Response:
    """The answer where something broke that nobody foresaw; nothing of it is told."""
    detail = "the service made a mistake; its operator finds what happened in the log under this `request_id`"
    return problem(request, 500, TouchstoneError, detail)


async def _of_ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, TouchstoneError)  # noqa: S101  # the handler is registered for nothing else
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    if isinstance(error, MachineError) and not isinstance(error, HubUnavailable):
        log.error("%s: %s", request.scope.get(REQUEST_ID), error)
        detail = "a part of the service cannot be used right now; try again later"
        return problem(request, status, type(error), detail, {"Retry-After": str(RETRY_MACHINE_S)})
    return problem(request, status, type(error), str(error), _headers(error, status))


def _headers(error: TouchstoneError, status: int) -> dict[str, str]:
    headers = {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = CHALLENGE
    if status == HTTPStatus.FORBIDDEN:
        headers["WWW-Authenticate"] = f'{CHALLENGE}, error="insufficient_scope"'
    retry_after_s = getattr(error, "retry_after_s", None) or (RETRY_MACHINE_S if status >= 500 else None)
    if retry_after_s is not None:
        headers["Retry-After"] = str(retry_after_s)
    return headers


async def _of_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # the handler is registered for nothing else
    found = [
        FieldProblem(field=visible(".".join(map(str, one["loc"])), 200), problem=visible(str(one["msg"]), 300))
        for one in error.errors()[:FIELDS_SHOWN]
    ]
    detail = "; ".join(f"`{one.field}`: {one.problem}" for one in found)
    return problem(request, 422, InvalidRequest, f"the request has another form than wanted: {detail}", errors=found)


async def _of_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # the handler is registered for nothing else
    if error.status_code == HTTPStatus.BAD_REQUEST:  # how FastAPI says that a body is not even broken JSON
        return problem(request, 422, InvalidRequest, "the body cannot be read; send JSON in UTF-8, nested a little")
    kind = CODES.get(error.status_code, RequestError)
    place = visible(f"{request.method} {request.url.path}", 200)
    detail = f"{place}: {visible(str(error.detail), 300)}; /openapi.json describes every address"
    headers = {"Allow": _allowed(request)} if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED else error.headers
    return problem(request, error.status_code, kind, detail, headers)


def _allowed(request: Request) -> str:
    """Every method of an address; Starlette names only those of the first route that it meets."""
    item = request.app.openapi()["paths"].get(template_of(request.scope), {"get": {}})
    return ", ".join(sorted(method.upper() for method in item))


def template_of(scope: Scope) -> str | None:
    """The path of the route that a request came to, without what the caller filled in; None where there is none."""
    path: str | None = getattr(scope.get("route"), "path", None)
    included = path is not None and scope["path"].startswith(f"{PREFIX}/") and not path.startswith(PREFIX)
    return f"{PREFIX}{path}" if included else path
