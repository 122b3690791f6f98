"""`ingest check`."""

import sys

import click

from ingest.cli.groups import ExampleCommand
from ingest.cli.opened import opened
from ingest.cli.output import as_json_option, plain, print_record
from ingest.store.views.queues import conservation, orphans


@click.command(cls=ExampleCommand, example="ingest check\ningest check --json")
@as_json_option
def check(as_json: bool) -> None:
    """Prove that everything accepted is accounted for, and that no row has lost its parent. Status 1 where not.

    accepted = stored + duplicate + dropped + ignored + dead-lettered + waiting
    """
    with opened() as runtime, runtime.begin() as tx:
        counted, lost_parents = conservation(tx), orphans(tx)
    is_sound = counted.is_exact and not any(lost_parents.values())
    print_record({**plain(counted), "orphans": lost_parents, "sound": is_sound}, as_json)
    if not is_sound:
        sys.exit(1)
