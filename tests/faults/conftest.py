"""The systems that the rows are done to, one a module and kind, started when first asked for; and how each row ended."""

from collections.abc import Generator, Iterator

import pytest

from tests.faults.record import end_test
from tests.system import System, running_system


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Have the rows of a test that failed marked."""
    report = yield
    if report.when == "call" and "faults" in item.path.parts:
        end_test(has_failed=report.failed)
    return report


@pytest.fixture(scope="module")
def system(request: pytest.FixtureRequest) -> Iterator[System]:
    """The running system that `trial.on` asked for."""
    kind, options = request.param
    with running_system(kind, **dict(options)) as system:
        yield system
