"""The API over a database of this worker's own. Each test has a workspace to itself, so nothing is rolled back."""

from collections.abc import Callable, Iterator

import pytest
from cryptography.fernet import Fernet
from fastapi import FastAPI

from ingest.settings import read_settings
from ingest.web.api.app import build_api

from .space import QuietRuntime, Space

MakeSpace = Callable[[], Space]


@pytest.fixture(scope="session")
def api_runtime(make_database: Callable[[], str]) -> Iterator[QuietRuntime]:
    """A runtime on a database of its own."""
    runtime = QuietRuntime(
        read_settings(
            database_url=make_database(),
            broker_url="redis://127.0.0.1:1/0",
            public_url="https://api.example",
            secret_key=Fernet.generate_key().decode(),
        )
    )
    yield runtime
    runtime.engine.dispose()


@pytest.fixture(scope="session")
def api(api_runtime: QuietRuntime) -> FastAPI:
    """The API."""
    return build_api(api_runtime)


@pytest.fixture
def make_space(api_runtime: QuietRuntime, api: FastAPI) -> MakeSpace:
    """A function that makes a workspace."""
    return lambda: Space(api_runtime, api)


@pytest.fixture
def space(make_space: MakeSpace) -> Space:
    """A workspace."""
    return make_space()
