"""Every error in one shape: `code` (the HTTP status), `message` for people, `error` for programs, `field`, `details`.

Clients of the contract read `code` and `message` of every error without a check, so no answer may lack them.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import DataError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from ingest.domain.refusals import Conflict, Gone, Invalid, NotAllowed, NotFound, NotProved, Refused, TooMany
from ingest.errors import Rejected, Transient

log = structlog.get_logger()

STATUS: Mapping[type[Refused], int] = {
    Invalid: 422,
    NotProved: 401,
    NotAllowed: 403,
    NotFound: 404,
    Conflict: 409,
    Gone: 410,
    TooMany: 429,
}
WORDS = {
    400: "invalid",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
}
# The call met another one on the same rows, or the server is short of something: repeating it is safe and may help.
RETRY_STATES = ("40001", "40P01", "55P03", "57014")
RETRY_AFTER_SECONDS = 1


class ErrorBody(BaseModel):
    """What every error is answered with."""

    code: int = Field(description="The HTTP status.")
    message: str = Field(description="What went wrong, for people.")
    error: str = Field(description="What went wrong, for programs.")
    field: str | None = Field(None, description="The field that is missing or wrong.")
    details: dict[str, Any] | None = Field(None, description="More facts, depending on `error`.")


def error_response(
    status: int,
    message: str,
    word: str | None = None,
    *,
    field: str | None = None,
    details: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return an error in the shape that all errors have."""
    body = ErrorBody(
        code=status,
        message=message,
        error=word or WORDS.get(status, "error"),
        field=field,
        details=dict(details) if details else None,
    )
    return JSONResponse(body.model_dump(mode="json"), status, headers=dict(headers or {}))


def is_contract_path(request: Request) -> bool:
    """Return whether the request's route is one of the contract's, where a wrong value is answered 400 and not 422."""
    route = request.scope.get("route")
    extra = getattr(route, "openapi_extra", None) or {}
    return not extra.get("x-own", False)


async def _refused(request: Request, refusal: Refused) -> JSONResponse:
    status = next(code for kind, code in STATUS.items() if isinstance(refusal, kind))
    if status == 422 and is_contract_path(request):
        status = 400
    headers = {}
    if isinstance(refusal, TooMany):
        headers["Retry-After"] = str((refusal.details or {}).get("retry_after", RETRY_AFTER_SECONDS))
    if isinstance(refusal, NotProved):
        headers["WWW-Authenticate"] = "Bearer"
    return error_response(
        status, refusal.message, refusal.word, field=refusal.field, details=refusal.details, headers=headers
    )


async def _rejected(request: Request, rejected: Exception) -> JSONResponse:
    return error_response(400 if is_contract_path(request) else 422, str(rejected), "invalid")


async def _not_valid(request: Request, invalid: RequestValidationError) -> JSONResponse:
    problems = [_problem(each) for each in invalid.errors()]
    first = problems[0]
    return error_response(
        400 if is_contract_path(request) else 422,
        f"{first['field']}: {first['message']}",
        "invalid",
        field=first["field"],
        details={"problems": problems[:20]},
    )


def _problem(error: Mapping[str, Any]) -> dict[str, str]:
    if error["type"] == "json_invalid":
        return {"field": "body", "message": error["ctx"]["error"]}
    return {"field": ".".join(str(part) for part in error["loc"][1:]) or str(error["loc"][0]), "message": error["msg"]}


async def _http(_request: Request, raised: HTTPException) -> JSONResponse:
    return error_response(raised.status_code, str(raised.detail), headers=raised.headers)


async def _database(request: Request, failed: DBAPIError) -> JSONResponse:
    state = getattr(failed.orig, "sqlstate", None) or ""
    if isinstance(failed, DataError) or state.startswith("22"):
        return error_response(400 if is_contract_path(request) else 422, "a value cannot be stored", "invalid")
    if state in RETRY_STATES or isinstance(failed, OperationalError):
        log.warning("call.failed", state=state, error=type(failed.orig).__name__)
        return await _busy(request, failed)
    return await _unexpected(request, failed)


async def _transient(_request: Request, away: Exception) -> JSONResponse:
    return error_response(503, str(away), "unavailable", headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


async def _busy(_request: Request, _away: Exception) -> JSONResponse:
    return error_response(503, "busy, please repeat", "unavailable", headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


async def _unexpected(request: Request, failed: Exception) -> JSONResponse:
    log.error(
        "call.failed",
        error=type(failed).__name__,
        route=getattr(request.scope.get("route"), "path", None),
        exc_info=failed,
    )
    return error_response(500, "internal error", "internal")


# Each takes the kind of exception that it is listed under.
Handler = Callable[[Request, Any], Awaitable[JSONResponse]]
HANDLERS: Mapping[type[Exception], Handler] = {
    Refused: _refused,
    Rejected: _rejected,
    RequestValidationError: _not_valid,
    HTTPException: _http,
    DBAPIError: _database,
    PoolTimeout: _busy,
    Transient: _transient,
    Exception: _unexpected,
}


def install_error_handlers(app: FastAPI) -> None:
    """Have the application answer every exception in the one shape."""
    for kind, handler in HANDLERS.items():
        app.add_exception_handler(kind, handler)
