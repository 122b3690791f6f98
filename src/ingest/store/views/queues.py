"""What operators ask first: what waits, since when, and whether everything accepted is accounted for."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from ingest.jobs.queues import QUEUES

BY_QUEUE = text("""
    select queue,
           count(*) filter (where due_at <= now() and (leased_until is null or leased_until < now())) as waiting,
           coalesce(sum(weight) filter (where due_at <= now() and (leased_until is null or leased_until < now())), 0),
           coalesce(extract(epoch from now() - min(due_at)
               filter (where due_at <= now() and (leased_until is null or leased_until < now()))), 0) as oldest,
           count(*) filter (where leased_until >= now()) as leased,
           count(*) filter (where due_at > now()) as scheduled,
           count(*) filter (where attempts > 1) as retried
    from job group by queue
""")
DEAD = text("select queue, count(*) from dead_letter where state = 'open' group by queue")

# One statement, so that both sides of the account are of one snapshot.
ACCOUNT = text("""
    select outcome, reason, sum(count) from tally
    where cast(:workspace_id as bigint) is null or workspace_id = :workspace_id
    group by outcome, reason
    union all
    select 'waiting', '', coalesce(sum(weight), 0) from job
    where queue = 'resolve' and body is not null
      and (cast(:workspace_id as bigint) is null or workspace_id = :workspace_id)
    order by 1, 2
""")


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """One queue: due jobs nobody holds (and the items in them), the age of the oldest, held, scheduled, retried, dead."""

    queue: str
    waiting: int
    waiting_items: int
    oldest_age_seconds: float
    leased: int
    scheduled: int
    retried: int
    dead: int


@dataclass(frozen=True, slots=True)
class Conservation:
    """What was accepted, and what became of it.

    Requests: accepted = resolved + waiting. Items: each resolved request's items are stored, duplicate, dropped, ignored
    or dead; by outcome and reason. `is_exact` says whether nothing is missing.
    """

    accepted: int
    resolved: int
    waiting: int
    items: dict[str, dict[str, int]]

    @property
    def is_exact(self) -> bool:
        """Whether every accepted request is resolved or waiting, and every resolved one has an outcome."""
        outcomes = sum(sum(reasons.values()) for reasons in self.items.values())
        return self.accepted == self.resolved + self.waiting and outcomes >= self.resolved


def queue_figures(tx: Connection) -> list[QueueFigures]:
    """Return the figures of every queue, in pipeline order."""
    rows = {row[0]: row for row in tx.execute(BY_QUEUE)}
    dead: dict[str, int] = {row[0]: row[1] for row in tx.execute(DEAD)}
    figures = []
    for queue in QUEUES:
        _, waiting, items, oldest, leased, scheduled, retried = rows.get(queue, (queue, 0, 0, 0, 0, 0, 0))
        figures.append(
            QueueFigures(
                queue, waiting, int(items), round(float(oldest), 3), leased, scheduled, retried, dead.get(queue, 0)
            )
        )
    return figures


def conservation(tx: Connection, workspace_id: int | None = None) -> Conservation:
    """Return the account of what was accepted, for one workspace or for all; a consistent picture in one snapshot."""
    rows: list[tuple[str, str, Any]] = [tuple(row) for row in tx.execute(ACCOUNT, {"workspace_id": workspace_id})]
    items: dict[str, dict[str, int]] = {}
    for outcome, reason, count in rows:
        items.setdefault(outcome, {})[reason] = int(count)
    accepted = sum(items.pop("accepted", {}).values())
    resolved = sum(items.pop("resolved", {}).values())
    waiting = sum(items.pop("waiting", {}).values())
    return Conservation(accepted, resolved, waiting, items)


# Each finds rows whose parent is gone or belongs elsewhere; all must stay at zero.
ORPHANS = {
    "message_without_contact": """
        select count(*) from message left join contact
        on contact.workspace_id = message.workspace_id and contact.id = message.contact_id where contact.id is null""",
    "message_without_conversation": """
        select count(*) from message left join conversation
        on conversation.workspace_id = message.workspace_id and conversation.id = message.conversation_id
        where message.conversation_id is not null and conversation.id is null""",
    "message_of_another_contacts_conversation": """
        select count(*) from message join conversation
        on conversation.workspace_id = message.workspace_id and conversation.id = message.conversation_id
        where conversation.contact_id <> message.contact_id""",
    "identity_without_contact": """
        select count(*) from identity left join contact
        on contact.workspace_id = identity.workspace_id and contact.id = identity.contact_id where contact.id is null""",
    "identity_of_absorbed_contact": """
        select count(*) from identity join contact
        on contact.workspace_id = identity.workspace_id and contact.id = identity.contact_id
        where contact.merged_into is not null""",
    "alias_without_identity": """
        select count(*) from identity as alias left join identity as owner
        on owner.workspace_id = alias.workspace_id and owner.id = alias.alias_of
        where alias.alias_of is not null and owner.id is null""",
    "redirect_to_nowhere": """
        select count(*) from contact left join contact as target
        on target.workspace_id = contact.workspace_id and target.id = contact.merged_into
        where contact.merged_into is not null and target.id is null""",
    "contact_with_dangling_conversation": """
        select count(*) from contact left join conversation
        on conversation.workspace_id = contact.workspace_id and conversation.id = contact.conversation_id
        where contact.conversation_id is not null and conversation.id is null and contact.deletion_job_id is null""",
    "open_contact_without_open_conversation": """
        select count(*) from contact left join conversation
        on conversation.workspace_id = contact.workspace_id and conversation.id = contact.conversation_id
        where contact.status <> 'closed' and conversation.status is distinct from contact.status
          and contact.merged_into is null and contact.deletion_job_id is null""",
    "channel_contact_without_identity": """
        select count(*) from contact where source = 'channel' and merged_into is null and deletion_job_id is null
          and not exists (select from identity where identity.workspace_id = contact.workspace_id
                                                 and identity.contact_id = contact.id)
          and not exists (select from contact_event where contact_event.workspace_id = contact.workspace_id
                                                 and contact_event.contact_id = contact.id
                                                 and contact_event.kind in ('channel.removed', 'contact.unmerged'))""",
}


def orphans(tx: Connection) -> dict[str, int]:
    """Return how many rows break each rule of belonging. Reads whole tables: for checks, not for dashboards."""
    tx.execute(text("set local statement_timeout = 0"))
    return {name: int(tx.execute(text(statement)).scalar_one()) for name, statement in ORPHANS.items()}
