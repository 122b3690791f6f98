"""`--set name=value`: settings as given on the command line, sorted into plain ones and secrets."""

from collections.abc import Iterable, Mapping

import click

from ingest.channels.base import Adapter
from ingest.errors import BadSetting

Values = dict[str, tuple[str, ...]]

set_option = click.option(
    "--set", "pairs", multiple=True, metavar="NAME=VALUE", help="A setting; a secret may be given twice, newest first."
)


def read_pairs(pairs: Iterable[str]) -> Values:
    """Return the values of each name in the order given. Raises BadSetting for a pair without a name or "="."""
    values: Values = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            # The pair may be a secret with its name forgotten: it is not repeated here.
            raise BadSetting("--set needs NAME=VALUE")
        values[name] = (*values.get(name, ()), value)
    return values


def sort_settings(adapter: Adapter, values: Mapping[str, tuple[str, ...]]) -> tuple[dict[str, str], Values]:
    """Return the plain settings and the secrets of those given.

    Raises BadSetting for a name that the channel does not have, an empty value, or a plain setting given twice.
    """
    declared = [each.name for each in adapter.settings]
    if unknown := [name for name in values if name not in declared]:
        raise BadSetting(f"{adapter.code} has no setting {unknown[0]!r}: it takes {', '.join(declared) or 'none'}")
    if empty := [name for name, each in values.items() if not all(each)]:
        raise BadSetting(f"{empty[0]} is empty: give it a value, or leave it out")
    secret_names = {each.name for each in adapter.settings if each.secret}
    secrets = {name: each for name, each in values.items() if name in secret_names}
    plain = {name: each for name, each in values.items() if name not in secret_names}
    if repeated := [name for name, each in plain.items() if len(each) > 1]:
        raise BadSetting(f"{', '.join(repeated)} can have one value only")
    return {name: each[0] for name, each in plain.items()}, secrets
