"""Step `upkeep`, the API's part: expired imports, exports and idempotency keys go."""

from ingest.store.idempotency import trim_keys
from ingest.store.transfers import trim_transfers
from ingest.store.unit_of_work import UnitOfWork


def trim_expired(uow: UnitOfWork) -> dict[str, int]:
    """Remove transfers whose time is over, with their files and reports, and idempotency keys older than a day."""
    return {"transfers": trim_transfers(uow.tx, uow.now), "idempotency_keys": trim_keys(uow.tx)}
