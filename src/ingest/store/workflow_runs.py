"""Workflow runs in sets: started, read under their contacts' locks, and written back with what they wait for."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import uuid4

import msgspec
from sqlalchemy import Connection, Row, text

from ingest.domain.workflow_runs import Answer, Facts, Question, Run

_RUN = """
    select id, workflow_id, version, contact_id, step_id, waits_for, wake_at, wait_number, asked_after_message_id,
           asked_on_channel_id, tries, jumps, depth
    from workflow_run
"""
# Locked, so that whoever unpublishes a workflow or stops a run comes before the step or after it.
GET = text(f"""
    {_RUN} where workspace_id = :workspace_id and id = any(cast(:ids as bigint[])) and state = 'active'
    order by id for no key update
""")
WAITING = text(f"""
    {_RUN} where workspace_id = :workspace_id and contact_id = any(cast(:contact_ids as bigint[])) and state = 'active'
             and waits_for = 'answer'
    order by id for no key update
""")

# The constraint decides: a contact that is in the workflow is left where it is.
START = text("""
    insert into workflow_run (workspace_id, workflow_id, version, contact_id, started_at, actor_id, depth)
    select :workspace_id, workflow_id, version, contact_id, :now, cast(:actor_id as bigint), :depth
    from unnest(cast(:workflow_ids as bigint[]), cast(:versions as integer[]), cast(:contact_ids as bigint[]))
         as new (workflow_id, version, contact_id)
    order by contact_id, workflow_id
    on conflict (workspace_id, contact_id, workflow_id) where state = 'active' do nothing
    returning id, workflow_id, version, contact_id
""")
ENROL = text("""
    insert into enrolment (workspace_id, workflow_id, contact_id, at)
    select :workspace_id, workflow_id, contact_id, :now
    from unnest(cast(:workflow_ids as bigint[]), cast(:contact_ids as bigint[])) as new (workflow_id, contact_id)
    order by workflow_id, contact_id
    on conflict do nothing
""")
# Whoever a contact has absorbed was the same person.
ENROLLED = text("""
    select wanted.workflow_id, wanted.contact_id
    from unnest(cast(:workflow_ids as bigint[]), cast(:contact_ids as bigint[])) as wanted (workflow_id, contact_id)
    where exists (
        select from enrolment
        where enrolment.workspace_id = :workspace_id and enrolment.workflow_id = wanted.workflow_id
          and enrolment.contact_id in (
              select wanted.contact_id
              union all select id from contact where workspace_id = :workspace_id and merged_into = wanted.contact_id))
""")

SAVE = text("""
    update workflow_run
    set step_id = new.step_id, waits_for = new.waits_for, wake_at = new.wake_at, wait_number = new.wait_number,
        asked_after_message_id = new.asked_after_message_id, asked_on_channel_id = new.asked_on_channel_id,
        tries = new.tries, jumps = new.jumps, reason = new.reason,
        state = case when new.reason is null then 'active' else 'ended' end,
        ended_at = case when new.reason is not null then cast(:now as timestamptz) end
    from unnest(cast(:ids as bigint[]), cast(:step_ids as text[]), cast(:waits as text[]), cast(:wake_ats as timestamptz[]),
                cast(:wait_numbers as integer[]), cast(:asked_after as bigint[]), cast(:asked_on as bigint[]),
                cast(:tries as smallint[]), cast(cast(:jumps as text[]) as jsonb[]), cast(:reasons as text[]))
         as new (id, step_id, waits_for, wake_at, wait_number, asked_after_message_id, asked_on_channel_id, tries, jumps,
                 reason)
    where workflow_run.workspace_id = :workspace_id and workflow_run.id = new.id
""")

# Under the contact's lock, whatever is stored for it later gets a greater id than any message of the workspace has now.
FACTS = text("""
    select contact.id, fields, first_name, last_name, phone, email, country_code, language, status, last_channel_id,
           address.id as identity_id, coalesce(address.is_opted_out, false) as is_opted_out,
           coalesce((select max(id) from message where message.workspace_id = :workspace_id), 0) as last_message_id
    from contact
    left join lateral (
        select identity.id, opted_out_at > coalesce(consent_at, '-infinity') as is_opted_out from identity
        where identity.workspace_id = contact.workspace_id and identity.contact_id = contact.id
          and identity.channel_id = contact.last_channel_id and identity.alias_of is null
        order by identity.id desc limit 1
    ) as address on true
    where contact.workspace_id = :workspace_id and contact.id = any(cast(:ids as bigint[]))
""")

TAGS_OF = text("""
    select contact_tag.contact_id, lower(tag.name) as name
    from contact_tag join tag on tag.workspace_id = contact_tag.workspace_id and tag.id = contact_tag.tag_id
    where contact_tag.workspace_id = :workspace_id and contact_tag.contact_id = any(cast(:ids as bigint[]))
""")

# Late messages are read by people, not by workflows; automatic ones answer nothing.
ANSWERS = text("""
    select id, contact_id, text from message
    where workspace_id = :workspace_id and contact_id = any(cast(:contact_ids as bigint[])) and id > :after_id
      and traffic = 'incoming' and not is_late and not is_automatic and deleted_at is null
    order by sent_at, accepted_at, sequence, id
""")

ADD_QUESTIONS = text("""
    insert into message (workspace_id, contact_id, origin_contact_id, conversation_id, channel_id, identity_id,
                         external_hash, traffic, source, kind, text, sent_at, accepted_at, status)
    select :workspace_id, new.contact_id, new.contact_id,
           case when contact.status <> 'closed' then contact.conversation_id end, new.channel_id, new.identity_id, hash,
           'outgoing', 'workflow', 'text', words, :now, :now, 'queued'
    from unnest(cast(:contact_ids as bigint[]), cast(:channel_ids as bigint[]), cast(:identity_ids as bigint[]),
                cast(:hashes as uuid[]), cast(:texts as text[]))
         as new (contact_id, channel_id, identity_id, hash, words)
    join contact on contact.workspace_id = :workspace_id and contact.id = new.contact_id
""")

TAG_NAMES = text(
    "select id, lower(name) as name from tag where workspace_id = :workspace_id and id = any(cast(:ids as bigint[]))"
)
CONVERSATIONS = text("""
    select id, contact_id from conversation where workspace_id = :workspace_id and id = any(cast(:ids as bigint[]))
""")
OPTED_OUT_RUNS = text("""
    select run.id from workflow_run as run
    where run.workspace_id = :workspace_id and run.contact_id = any(cast(:ids as bigint[])) and run.state = 'active'
      and run.waits_for = 'answer'
      and exists (select from identity where identity.workspace_id = run.workspace_id
                  and identity.contact_id = run.contact_id and identity.channel_id = run.asked_on_channel_id
                  and identity.opted_out_at > coalesce(identity.consent_at, '-infinity'))
""")
EXITING_RUNS = text("""
    select run.id from workflow_run as run
    join workflow_version as version on version.workspace_id = run.workspace_id
        and version.workflow_id = run.workflow_id and version.version = run.version
    where run.workspace_id = :workspace_id and run.contact_id = any(cast(:ids as bigint[])) and run.state = 'active'
      and version.definition -> 'exit_on' @> to_jsonb(cast(:event as text))
""")
LIST = text("""
    select run.id, run.workflow_id, run.version, run.contact_id, run.state, run.step_id, run.waits_for, run.wake_at,
           run.started_at, run.ended_at, run.reason, workflow.name
    from workflow_run as run
    join workflow on workflow.workspace_id = run.workspace_id and workflow.id = run.workflow_id
    where run.workspace_id = :workspace_id
      and (cast(:contact_id as bigint) is null or run.contact_id = :contact_id)
      and (cast(:workflow_id as bigint) is null or run.workflow_id = :workflow_id)
      and (cast(:state as text) is null or run.state = :state)
      and (cast(:before_id as bigint) is null or run.id < :before_id)
    order by run.id desc limit :limit
""")
CLOSED = text("""
    select id from contact
    where workspace_id = :workspace_id and id = any(cast(:ids as bigint[])) and status = 'closed' order by id
""")
CONTACTS_WAITING = text("""
    select distinct contact_id from workflow_run
    where workspace_id = :workspace_id and contact_id = any(cast(:ids as bigint[])) and state = 'active'
      and waits_for = 'answer'
""")

COLUMNS = ("first_name", "last_name", "phone", "email", "country_code", "language")


def get_runs(tx: Connection, workspace_id: int, run_ids: Collection[int]) -> list[Run]:
    """Return those of the runs that are active, by id. Their contacts are locked."""
    rows = tx.execute(GET, {"workspace_id": workspace_id, "ids": sorted(run_ids)})
    return [Run(*row) for row in rows.all()]


def list_waiting_runs(tx: Connection, workspace_id: int, contact_ids: Collection[int]) -> list[Run]:
    """Return the contacts' runs that wait for an answer, oldest first. The contacts are locked."""
    rows = tx.execute(WAITING, {"workspace_id": workspace_id, "contact_ids": sorted(contact_ids)})
    return [Run(*row) for row in rows]


def contacts_with_waiting_runs(tx: Connection, workspace_id: int, contact_ids: Collection[int]) -> set[int]:
    """Return those of the contacts that have been asked something."""
    return set(tx.scalars(CONTACTS_WAITING, {"workspace_id": workspace_id, "ids": sorted(contact_ids)}))


def start_runs(
    tx: Connection,
    workspace_id: int,
    new: Sequence[tuple[int, int, int]],
    *,
    actor_id: int | None,
    depth: int,
    now: datetime,
) -> list[Run]:
    """Start (workflow, version, contact) runs where none is active, and enrol the contacts; return those started."""
    if not new:
        return []
    given = {
        "workspace_id": workspace_id,
        "workflow_ids": [each[0] for each in new],
        "versions": [each[1] for each in new],
        "contact_ids": [each[2] for each in new],
        "actor_id": actor_id,
        "depth": depth,
        "now": now,
    }
    runs = [Run(row.id, row.workflow_id, row.version, row.contact_id, depth=depth) for row in tx.execute(START, given)]
    tx.execute(ENROL, given)
    return sorted(runs, key=lambda run: run.id)


def find_enrolled(tx: Connection, workspace_id: int, pairs: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
    """Return which (workflow, contact) pairs have ever been enrolled, in person or through somebody they absorbed."""
    given = {
        "workspace_id": workspace_id,
        "workflow_ids": [workflow_id for workflow_id, _ in pairs],
        "contact_ids": [contact_id for _, contact_id in pairs],
    }
    return {(row.workflow_id, row.contact_id) for row in tx.execute(ENROLLED, given)}


def save_runs(tx: Connection, workspace_id: int, runs: Sequence[Run], now: datetime) -> None:
    """Write the runs back as they stand, in one statement."""
    if not runs:
        return
    given = {
        "workspace_id": workspace_id,
        "ids": [run.id for run in runs],
        "step_ids": [run.step_id for run in runs],
        "waits": [run.waits_for for run in runs],
        "wake_ats": [run.wake_at for run in runs],
        "wait_numbers": [run.wait_number for run in runs],
        "asked_after": [run.asked_after_message_id for run in runs],
        "asked_on": [run.asked_on_channel_id for run in runs],
        "tries": [run.tries for run in runs],
        "jumps": [msgspec.json.encode(run.jumps).decode() for run in runs],
        "reasons": [run.reason for run in runs],
        "now": now,
    }
    tx.execute(SAVE, given)


def get_facts(tx: Connection, workspace_id: int, contact_ids: Collection[int], *, with_tags: bool) -> dict[int, Facts]:
    """Return what runs may know of the contacts, by id. Their tags only where somebody asks for them."""
    given = {"workspace_id": workspace_id, "ids": sorted(contact_ids)}
    tags: defaultdict[int, set[str]] = defaultdict(set)
    for contact_id, name in tx.execute(TAGS_OF, given).all() if with_tags else ():
        tags[contact_id].add(name)
    found = {}
    for contact_id, fields, *columns, status, channel_id, identity_id, is_opted_out, last_message_id in tx.execute(
        FACTS, given
    ).all():
        values = dict(zip(COLUMNS, columns, strict=True))
        values |= {f"fields.{key}": each for key, each in fields.items()}
        found[contact_id] = Facts(
            contact_id, values, tags[contact_id], status, channel_id, identity_id, is_opted_out, last_message_id
        )
    return found


def list_answers(tx: Connection, workspace_id: int, contact_ids: Collection[int], after_id: int) -> list[Answer]:
    """Return the contacts' incoming messages after that id, in the order in which people read them."""
    given = {"workspace_id": workspace_id, "contact_ids": sorted(contact_ids), "after_id": after_id}
    return [Answer(row.id, row.contact_id, row.text) for row in tx.execute(ANSWERS, given)]


def add_questions(tx: Connection, workspace_id: int, questions: Sequence[Question], now: datetime) -> None:
    """Put the questions into the outgoing messages, queued."""
    if not questions:
        return
    given = {
        "workspace_id": workspace_id,
        "contact_ids": [each.contact_id for each in questions],
        "channel_ids": [each.channel_id for each in questions],
        "identity_ids": [each.identity_id for each in questions],
        "hashes": [uuid4() for _ in questions],
        "texts": [each.text for each in questions],
        "now": now,
    }
    tx.execute(ADD_QUESTIONS, given)


def get_tag_names(tx: Connection, workspace_id: int, tag_ids: Collection[int]) -> dict[int, str]:
    """Return the tags' names, in lower case, by id."""
    rows = tx.execute(TAG_NAMES, {"workspace_id": workspace_id, "ids": sorted(tag_ids)})
    return {row.id: row.name for row in rows}


def list_conversation_owners(tx: Connection, workspace_id: int, conversation_ids: Collection[int]) -> dict[int, int]:
    """Return whose the conversations are, by id."""
    rows = tx.execute(CONVERSATIONS, {"workspace_id": workspace_id, "ids": sorted(conversation_ids)})
    return {row.id: row.contact_id for row in rows}


def list_closed(tx: Connection, workspace_id: int, contact_ids: Collection[int]) -> list[int]:
    """Return those of the contacts, which are locked, that have no open or snoozed conversation."""
    return list(tx.scalars(CLOSED, {"workspace_id": workspace_id, "ids": sorted(contact_ids)}))


def list_opted_out_runs(tx: Connection, workspace_id: int, contact_ids: Collection[int]) -> list[int]:
    """Return the runs that wait for an answer on a channel that their contact has opted out of."""
    return list(tx.scalars(OPTED_OUT_RUNS, {"workspace_id": workspace_id, "ids": sorted(contact_ids)}))


def list_exiting_runs(tx: Connection, workspace_id: int, contact_ids: Collection[int], event: str) -> list[int]:
    """Return the contacts' active runs whose exit condition the event is."""
    given = {"workspace_id": workspace_id, "ids": sorted(contact_ids), "event": event}
    return list(tx.scalars(EXITING_RUNS, given))


def list_runs(
    tx: Connection,
    workspace_id: int,
    *,
    contact_id: int | None = None,
    workflow_id: int | None = None,
    state: str | None = None,
    before_id: int | None = None,
    limit: int = 50,
) -> list[Row[Any]]:
    """Return runs, newest first, of a contact, a workflow, or the workspace; `before_id` continues a page."""
    given = {
        "workspace_id": workspace_id,
        "contact_id": contact_id,
        "workflow_id": workflow_id,
        "state": state,
        "before_id": before_id,
        "limit": limit,
    }
    return list(tx.execute(LIST, given))
