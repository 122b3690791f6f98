"""What the integration tests share."""

import pytest
from sqlalchemy import Connection

from tests.pipeline_world import Pipeline


@pytest.fixture
def pipeline(tx: Connection) -> Pipeline:
    """The inbound pipeline on a workspace of this test's own, rolled back with it."""
    return Pipeline(tx)
