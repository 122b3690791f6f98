"""Who did it: what an act records beside itself."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Actor:
    """`source` says by which way (api, user, workflow, bulk, rule, timer, ...), `id` which user, where there is one."""

    source: str = "api"
    id: int | None = None


API = Actor()
WORKFLOW = Actor("workflow")
