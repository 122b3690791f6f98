"""From what clients send to a query over contacts: the filter checked, its names looked up."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ingest.domain.filters import Context, named_in, read_filter
from ingest.domain.moments import read_zone
from ingest.store.contact_lists import ContactQuery, Sort
from ingest.store.custom_fields import list_custom_fields
from ingest.store.filter_sql import compile_filter, compile_search
from ingest.store.lifecycles import list_stages
from ingest.store.tags import find_tags
from ingest.store.unit_of_work import UnitOfWork
from ingest.store.views.channels import list_channels

MAX_CHANNELS = 1000
MAX_NAMES = 5000


@dataclass(frozen=True, slots=True)
class FilterGiven:
    """Whom to look for, as a client says it: unchecked."""

    filter: dict[str, Any] = field(default_factory=dict)
    search: str = ""
    time_zone: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it as it is stored."""
        return {"filter": self.filter, "search": self.search, "time_zone": self.time_zone}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "FilterGiven":
        """Return what was stored."""
        return cls(given["filter"], given["search"], given["time_zone"])


def make_query(
    uow: UnitOfWork,
    workspace_id: int,
    given: FilterGiven,
    sort: Sort = "id",
    *,
    is_descending: bool = False,
    is_blocked: bool = False,
) -> ContactQuery:
    """Return the checked query. Raises Invalid saying which condition is wrong."""
    tags, stages, channels = _named(uow, workspace_id, given.filter)
    definitions = list_custom_fields(uow.tx, workspace_id)
    context = Context(read_zone(given.time_zone), uow.now, definitions, channels, tags, stages)
    compiled = compile_search(given.search, compile_filter(read_filter(given.filter, context)))
    return ContactQuery(compiled, sort, is_descending, is_blocked)


def _named(
    uow: UnitOfWork, workspace_id: int, given: dict[str, Any]
) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """Return the ids of the tags, lifecycle stages and channels that the filter may name, by lower-case name."""
    names = sorted(named_in(given))[:MAX_NAMES]
    if not names:
        return {}, {}, {}
    tags = {name: tag.id for name, tag in find_tags(uow.tx, workspace_id, names).items()}
    stages = {stage.name.lower(): stage.id for stage in list_stages(uow.tx, workspace_id)}
    channels = list_channels(uow.tx, workspace_id, 0, MAX_CHANNELS)
    by_name = {channel.name.lower(): channel.id for channel in channels}
    return tags, stages, {**by_name, **{str(channel.id): channel.id for channel in channels}}
