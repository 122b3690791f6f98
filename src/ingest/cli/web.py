"""`ingest web`."""

from importlib import import_module

import click

from ingest.cli.groups import ExampleCommand
from ingest.cli.ports import require_free_port
from ingest.cli.processes import started


@click.command(cls=ExampleCommand, example="INGEST_HOST=0.0.0.0 INGEST_PORT=8080 ingest web")
def web() -> None:
    """Run the web process: webhooks, API and /metrics on INGEST_HOST and INGEST_PORT."""
    settings = started("web")
    require_free_port(settings.host, settings.port)
    # Only now: what it imports looks for the metrics' directory at once.
    import_module("ingest.web.serve").serve(settings)
