"""The runtime of one command: settings read, and everything closed at its end."""

from collections.abc import Iterator
from contextlib import contextmanager

from ingest.jobs.publisher import CeleryPublisher
from ingest.runtime import Runtime
from ingest.settings import Settings, read_settings


@contextmanager
def opened(settings: Settings | None = None) -> Iterator[Runtime]:
    """Give the environment's runtime, or that of `settings`; rings what is still to be rung for and hangs up at the end."""
    runtime = Runtime.from_settings(settings or read_settings())
    try:
        yield runtime
    finally:
        # Both are made at first use, and making them only to close them would need a database and a broker.
        if isinstance(publisher := vars(runtime).get("publisher"), CeleryPublisher):
            publisher.close()
        if "engine" in vars(runtime):
            runtime.engine.dispose()
