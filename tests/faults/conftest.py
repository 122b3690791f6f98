"""The systems that the rows are done to: one a module and kind, started when first asked for."""

from collections.abc import Iterator

import pytest

from tests.system import System, running_system


@pytest.fixture(scope="module")
def system(request: pytest.FixtureRequest) -> Iterator[System]:
    """The running system that `trial.on` asked for."""
    kind, options = request.param
    with running_system(kind, **dict(options)) as system:
        yield system
