"""`ingest check`."""

import sys

import click

from ingest.cli.groups import ExampleCommand
from ingest.cli.output import as_json_option, plain, print_record
from ingest.runtime import Runtime
from ingest.settings import read_settings
from ingest.store.views import conservation, orphans


@click.command(cls=ExampleCommand, example="ingest check\ningest check --json")
@as_json_option
def check(as_json: bool) -> None:
    """Prove that everything accepted is accounted for, and that no row has lost its parent. Status 1 where not.

    accepted = stored + duplicate + dropped + ignored + dead-lettered + waiting
    """
    with Runtime.from_settings(read_settings()).begin() as tx:
        counted, lost_parents = conservation(tx), orphans(tx)
    is_sound = counted.is_exact and not any(lost_parents.values())
    print_record({**plain(counted), "orphans": lost_parents, "sound": is_sound}, as_json)
    if not is_sound:
        sys.exit(1)
