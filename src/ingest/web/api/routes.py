"""How a handler becomes a route: `endpoint` gives it access, transaction, idempotency and its answer's encoding.

A handler is a plain function that takes a `Call` first and returns its answer. It runs in a thread, in one transaction
that is committed before the answer goes out; so what was written is readable at once, and no error follows a commit.
"""

import inspect
import json
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Annotated, Any, TypeVar, get_type_hints

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from pydantic import TypeAdapter

from ingest.channels.base import decode_json
from ingest.errors import BadPayload
from ingest.web.api.access import Access, Call, Gate, keep, replay
from ingest.web.api.errors import ErrorBody

Handler = TypeVar("Handler", bound=Callable[..., Any])
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
BEARER = HTTPBearer(auto_error=False, description="A token of the workspace; `ingest token create` makes one.")
ERRORS: dict[int | str, dict[str, Any]] = {"default": {"model": ErrorBody, "description": "An error."}}
GATE_KEY = "gate"


class ReadableRequest(Request):
    """A request whose JSON is what our database can hold: no NUL, no half of a surrogate pair, not too deep."""

    async def body(self) -> bytes:
        """Return the body; where there is none, an empty object: some clients send nothing when they have no values."""
        return await super().body() or b"{}"

    async def json(self) -> Any:
        """Return the decoded body. Raises JSONDecodeError, which is answered as a validation error."""
        try:
            return decode_json(await self.body())
        except BadPayload as unreadable:
            # The decoder's own words say where it breaks, and hold nothing of the body.
            if isinstance(broken := unreadable.__cause__, json.JSONDecodeError):
                raise json.JSONDecodeError(f"{broken.msg}, at character {broken.pos}", "", 0) from None
            raise json.JSONDecodeError(str(unreadable), "", 0) from None


class JsonRoute(APIRoute):
    """A route that admits its request before a byte of its body is read, and reads it as `ReadableRequest`."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        """Return the handler, behind our way of reading."""
        handler = super().get_route_handler()

        action = (self.openapi_extra or {})["x-action"]

        async def handle(request: Request) -> Response:
            gate: Gate = request.app.state.gate
            request.state.access = await gate.admit(request, action)
            answer: Response = await handler(ReadableRequest(request.scope, request.receive))
            return answer

        return handle


def make_router(*tags: str) -> APIRouter:
    """Return a router for `endpoint`."""
    return APIRouter(route_class=JsonRoute, tags=list(tags), responses=ERRORS, strict_content_type=False)


def endpoint(
    router: APIRouter,
    method: str,
    path: str,
    action: str,
    *,
    own: bool = False,
    status: int = 200,
    summary: str | None = None,
    responses: dict[int | str, dict[str, Any]] | None = None,
) -> Callable[[Handler], Handler]:
    """Register the decorated handler under method and path, for those who may do `action`; return it unchanged.

    `own` marks our additions to the contract, where a wrong value is answered 422. The handler's return annotation is
    its answer's schema; a handler that returns a Response sends it as it is.
    """

    def register(handler: Handler) -> Handler:
        answer_type = get_type_hints(handler, include_extras=True)["return"]
        is_raw = inspect.isclass(answer_type) and issubclass(answer_type, Response)
        router.add_api_route(
            path,
            _runner(handler, TypeAdapter(Any if is_raw else answer_type), status),
            methods=[method],
            status_code=status,
            response_model=None if is_raw else answer_type,
            name=handler.__name__,
            summary=summary or _sentence(handler),
            description=inspect.getdoc(handler) or "",
            responses=responses or {},
            dependencies=[Depends(BEARER)],
            openapi_extra={"x-action": action, "x-own": own},
        )
        return handler

    return register


def _sentence(handler: Callable[..., Any]) -> str:
    return handler.__name__.replace("_", " ").capitalize()


async def admitted(request: Request) -> Access:
    """Return the access that the route has given the request."""
    access: Access = request.state.access
    return access


def _runner(handler: Callable[..., Any], adapter: TypeAdapter[Any], status: int) -> Callable[..., Response]:
    signature = inspect.signature(handler)
    hints = get_type_hints(handler, include_extras=True)
    call_name = next(iter(signature.parameters))
    if hints[call_name] is not Call:
        raise TypeError(f"{handler.__name__} takes a Call first")

    @wraps(handler)
    def run(*, access: Access, **given: Any) -> Response:
        key = None if access.request.method in SAFE_METHODS else access.idempotency_key()
        with access.begin() as call:
            fingerprint = access.fingerprint(_canonical(given)) if key else b""
            if key and (kept := replay(call, key, fingerprint)):
                return _json(kept.body, kept.status, {"Idempotent-Replayed": "true"})
            answer = handler(call, **given)
            if isinstance(answer, Response):
                return answer
            body = adapter.dump_json(adapter.validate_python(answer), by_alias=True)
            if key:
                keep(call, key, status, body)
        return _json(body, status)

    run.__signature__ = _signature(signature, hints, call_name)  # type: ignore[attr-defined]
    del run.__wrapped__
    run.__annotations__ = {}
    return run


def _signature(signature: inspect.Signature, hints: dict[str, Any], call_name: str) -> inspect.Signature:
    """Return the signature that FastAPI reads: the handler's, with an access in place of the call."""
    access = inspect.Parameter(
        "access", inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[Access, Depends(admitted)]
    )
    others = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name])
        for name, parameter in signature.parameters.items()
        if name != call_name
    ]
    return inspect.Signature([access, *others])


def _json(body: bytes, status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, "application/json")


def _canonical(given: dict[str, Any]) -> bytes:
    """Return what was given as bytes that are the same for the same values."""
    return json.dumps(TypeAdapter(dict[str, Any]).dump_python(given, mode="json"), sort_keys=True).encode()


def routed(routers: Sequence[APIRouter]) -> list[APIRoute]:
    """Return the routes of the routers, for tests and pages that go through all of them."""
    return [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
