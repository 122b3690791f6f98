"""Queue `resolve`: accepted requests become stored messages, and effects meet the messages they missed."""

from collections.abc import Sequence

import structlog

from ingest.jobs.types import ApplyEffects, ResolveRequests
from ingest.pipeline.resolve import Resolver, apply_late_effects, resolve_requests
from ingest.runtime import Runtime
from ingest.store.intake import split_requests
from ingest.store.jobs import ClaimedJob
from ingest.store.unit_of_work import UnitOfWork
from workers.handlers import handles, handles_rows
from workers.metrics import count_batch

log = structlog.get_logger()

_resolvers: dict[int, Resolver] = {}


def resolver_of(runtime: Runtime) -> Resolver:
    """Return the process's resolver: its short-lived memory belongs to one runtime."""
    if id(runtime) not in _resolvers:
        _resolvers.clear()
        _resolvers[id(runtime)] = Resolver(runtime.sealer, runtime.settings.late_after_seconds, runtime.salts)
    return _resolvers[id(runtime)]


@handles_rows(ResolveRequests, split=split_requests)
def resolve(runtime: Runtime, uow: UnitOfWork, rows: Sequence[ClaimedJob]) -> None:
    """Resolve the rows' requests in one transaction. Safe to run twice."""
    batch = resolve_requests(uow, resolver_of(runtime), [row.body or b"" for row in rows])
    count_batch(batch.tally, batch.stored)
    log.debug("requests.resolved", requests=batch.requests, items=len(batch.items))


@handles(ApplyEffects)
def apply_effects(uow: UnitOfWork, jobs: Sequence[ApplyEffects]) -> None:
    """Apply effects that waited. Safe to run twice."""
    for job in jobs:
        log.info("effects.applied", messages=apply_late_effects(uow, job))
