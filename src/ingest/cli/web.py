"""`ingest web`."""

import click

from ingest.cli.groups import ExampleCommand
from ingest.logs import configure_logs
from ingest.settings import read_settings
from ingest.web.serve import serve


@click.command(cls=ExampleCommand, example="INGEST_HOST=0.0.0.0 INGEST_PORT=8080 ingest web")
def web() -> None:
    """Run the web process: webhooks, API, console and /metrics on INGEST_HOST and INGEST_PORT."""
    settings = read_settings()
    configure_logs(settings.log_level, settings.log_format, "web")
    serve(settings)
