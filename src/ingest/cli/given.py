"""`--set name=value`: settings as given on the command line, sorted into plain ones and secrets."""

from collections.abc import Iterable, Mapping, Sequence

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
            raise BadSetting(f"--set {pair!r} is not NAME=VALUE")
        values[name] = (*values.get(name, ()), value)
    return values


def sort_settings(adapter: Adapter, values: Mapping[str, tuple[str, ...]]) -> tuple[dict[str, str], Values]:
    """Return the plain settings and the secrets of those given.

    Raises BadSetting for a name that the channel does not have, and for a plain setting given twice.
    """
    known = {each.name: each for each in adapter.settings}
    if unknown := [name for name in values if name not in known]:
        raise BadSetting(f"{adapter.code} has no setting {', '.join(unknown)}. {describe_settings(adapter)}")
    if repeated := [name for name, each in values.items() if len(each) > 1 and not known[name].secret]:
        raise BadSetting(f"{', '.join(repeated)} can have one value only")
    plain = {name: each[0] for name, each in values.items() if not known[name].secret}
    return plain, {name: each for name, each in values.items() if known[name].secret}


def require_complete(adapter: Adapter, names: Sequence[str]) -> None:
    """Raise BadSetting when a required setting without a default is not among `names`."""
    missing = [each.name for each in adapter.settings if each.required and not each.default and each.name not in names]
    if missing:
        raise BadSetting(f"{adapter.code} needs {', '.join(missing)}. {describe_settings(adapter)}")


def describe_settings(adapter: Adapter) -> str:
    """Return the channel's settings with what they are, for a message."""
    told = [
        f"  {each.name}{' (secret)' if each.secret else ''}{'' if each.required else ' (optional)'}: {each.help}"
        for each in adapter.settings
    ]
    return "\n".join(["Its settings are:", *told]) if told else "It has no settings."
