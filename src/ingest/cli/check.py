"""`ingest check`."""

import sys

import click

from ingest.cli.groups import ExampleCommand
from ingest.cli.opened import opened
from ingest.cli.output import as_json_option, plain, print_record
from ingest.store.durability import list_weak_settings
from ingest.store.views.queues import conservation, orphans


@click.command(cls=ExampleCommand, example="ingest check\ningest check --json")
@as_json_option
def check(as_json: bool) -> None:
    """Prove that everything accepted is accounted for, that no row has lost its parent, and that commits last.

    Status 1 where not. `settings_off` names the settings of PostgreSQL that must not be off.

    accepted = stored + duplicate + dropped + ignored + dead-lettered + waiting
    """
    with opened() as runtime, runtime.begin() as tx:
        counted, lost_parents, weak = conservation(tx), orphans(tx), list_weak_settings(tx)
    is_sound = counted.is_exact and not any(lost_parents.values()) and not weak
    print_record({**plain(counted), "orphans": lost_parents, "settings_off": weak, "sound": is_sound}, as_json)
    if not is_sound:
        sys.exit(1)
