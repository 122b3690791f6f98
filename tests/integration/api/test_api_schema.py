"""The OpenAPI document is true: whatever is sent that it allows or forbids is answered as it says, and never with a 5xx.

Two workspaces exist; what one is answered never holds what only the other has.
"""

from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from ingest.runtime import Runtime
from ingest.settings import read_settings
from ingest.web.api.access import Gate
from ingest.web.api.app import build_api

from .conftest import MakeSpace
from .space import QuietRuntime, Space

CANARY = "Xylophonist"
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


# The document is the same whatever the runtime; the fixture below gives it a database.
API = build_api(Runtime.from_settings(read_settings(database_url="postgresql://nobody@127.0.0.1:1/none")))
schema = schemathesis.openapi.from_asgi("/api/v2/openapi.json", API)


@pytest.fixture(scope="session")
def token(api_runtime: QuietRuntime) -> str:
    """A token of a workspace that has a little of everything, beside one that has the canary."""
    API.state.gate = Gate(api_runtime)
    space, other = Space(api_runtime, API), Space(api_runtime, API)
    other.contact(firstName=CANARY, email="xylophonist@example.com", phone="+60123456789")
    contact_id, channel_id = space.contact(), space.channel()
    space.connect(contact_id, channel_id)
    space.message(contact_id, channel_id)
    space.user("owner")
    space.call("POST", f"/contact/id:{contact_id}/tag", ["x"])
    space.call("POST", "/space/custom_field", {"name": "F", "dataType": "number"})
    return space.token()


@schema.parametrize()
@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_call_answers_as_the_document_says(case: Any, token: str) -> None:
    case.headers = {**(case.headers or {}), "Authorization": f"Bearer {token}"}
    answer = case.call()
    case.validate_response(answer, checks=CHECKS)
    assert CANARY not in answer.text
    del case.headers["Authorization"]
    # Some cases ask for a method or path that does not exist; wrong proofs from one address are counted.
    assert case.call().status_code in {401, 404, 405, 429}


def test_the_document_names_every_call_and_how_to_prove_oneself(api: FastAPI) -> None:
    document = api.openapi()
    assert document["components"]["securitySchemes"]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["security"], f"{method} {path}"
            assert operation["description"], f"{method} {path}"
            assert operation["responses"]["default"]["content"]["application/json"]["schema"]["$ref"].endswith(
                "ErrorBody"
            )


def test_operations_have_names_of_their_own(api: FastAPI, make_space: MakeSpace) -> None:
    names = [each["operationId"] for operations in api.openapi()["paths"].values() for each in operations.values()]
    assert len(names) == len(set(names))
    assert make_space().owner.get("/api/v2/openapi.json").json()["openapi"].startswith("3.")
