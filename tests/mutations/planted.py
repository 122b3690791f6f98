"""The reviewed list of planted bugs: what a careless change could do, as a replacement of exact text, and who must notice.

`before` must stand in the file exactly once: when the code moves, the runner says so, and the bug is planted anew.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bug:
    """A planted bug. `tests` are what pytest is given: the smallest set that must turn red."""

    name: str
    meaning: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]


JOBS = "tests/integration/test_jobs.py"
EDGE = "tests/integration/test_edge.py"
MODEL = "tests/integration/test_model.py"
ADAPTERS = "tests/contracts/test_adapters.py"
MIGRATION = "src/ingest/store/migrations/versions/0001_inbound_pipeline.sql"

BUGS = (
    Bug(
        "completes_before_commit",
        "A job is deleted before its work is committed",
        "workers/handling.py",
        """            with runtime.unit_of_work() as uow:
                if lock_wait is not None:
                    limit_lock_wait(uow.tx, lock_wait)
                handler.run(runtime, uow, jobs)
                complete_jobs(uow.tx, claim, [job.id for job in jobs])
""",
        """            with runtime.begin() as tx:
                complete_jobs(tx, claim, [job.id for job in jobs])
            with runtime.unit_of_work() as uow:
                handler.run(runtime, uow, jobs)
""",
        (f"{JOBS}::test_D3_and_T29_faults_of_the_moment_are_retried_until_everything_is_stored",),
    ),
    Bug(
        "completes_before_commit_in_the_model",
        "The same, left to the model",
        "workers/handling.py",
        """            with runtime.unit_of_work() as uow:
                if lock_wait is not None:
                    limit_lock_wait(uow.tx, lock_wait)
                handler.run(runtime, uow, jobs)
                complete_jobs(uow.tx, claim, [job.id for job in jobs])
""",
        """            with runtime.begin() as tx:
                complete_jobs(tx, claim, [job.id for job in jobs])
            with runtime.unit_of_work() as uow:
                handler.run(runtime, uow, jobs)
""",
        (MODEL,),
    ),
    Bug(
        "answers_before_commit",
        "A webhook is answered before its request is durable",
        "src/ingest/pipeline/receive.py",
        "        self._arrived.set()\n        await done\n",
        "        self._arrived.set()\n",
        (
            f"{EDGE}::test_T75_a_proved_request_is_durable_when_it_is_answered",
            f"{EDGE}::test_P8_with_neither_store_the_answer_is_503_and_when_to_come_back",
        ),
    ),
    Bug(
        "no_unique_message",
        "The unique constraint on messages is missing",
        MIGRATION,
        "    CONSTRAINT uq_message_channel_id_external_hash UNIQUE (channel_id, external_hash),\n",
        "    CONSTRAINT uq_message_channel_id_external_hash UNIQUE (channel_id, external_hash, id),\n",
        (f"{JOBS}::test_T33_and_T28_twenty_deliveries_of_one_id_at_once_are_one_row",),
    ),
    Bug(
        "duplicates_by_id_alone",
        "Whether a message is known is asked without its channel",
        "src/ingest/store/messages.py",
        "    on conflict (channel_id, external_hash) do nothing\n    returning id, channel_id,",
        "    and not exists (select from message where message.external_hash = new.external_hash)\n"
        "    on conflict (channel_id, external_hash) do nothing\n    returning id, channel_id,",
        (MODEL,),
    ),
    Bug(
        "block_check_outside_the_lock",
        "The block is looked at without the contact's lock",
        "src/ingest/store/contacts.py",
        "    order by contact.workspace_id, contact.id\n    for no key update of contact\n",
        "    order by contact.workspace_id, contact.id\n",
        (f"{JOBS}::test_P3_no_message_is_stored_by_a_transaction_that_commits_after_the_block",),
    ),
    Bug(
        "blocked_is_stored",
        "What blocked contacts write is stored",
        "src/ingest/pipeline/resolve/storing.py",
        "    if not blocked:\n        return list(items)\n",
        "    if blocked is not None:\n        return list(items)\n",
        (MODEL,),
    ),
    Bug(
        "run_survives_the_block",
        "A workflow goes on for somebody who was blocked",
        "src/ingest/pipeline/block.py",
        '    end_runs_of_contacts(uow.tx, workspace_id, ids, RunEnd("blocked", uow.now, actor))\n',
        "",
        (MODEL,),
    ),
    Bug(
        "no_fence",
        "A worker that slept past its lease completes its jobs all the same",
        "src/ingest/store/jobs.py",
        "    if deleted != len(wanted):\n",
        "    if deleted > len(wanted):\n",
        (
            f"{JOBS}::test_N2_and_T31_completing_without_the_lease_raises",
            f"{JOBS}::test_N2_and_T30_a_worker_that_slept_past_its_lease_changes_nothing",
        ),
    ),
    Bug(
        "no_fence_in_the_model",
        "The same, left to the model",
        "src/ingest/store/jobs.py",
        "    if deleted != len(wanted):\n",
        "    if deleted > len(wanted):\n",
        (MODEL,),
    ),
    Bug(
        "unreadable_request_vanishes",
        "A request that cannot be read leaves no dead letter and no trace in the account",
        "src/ingest/pipeline/resolve/step.py",
        "    add_dead_letters(uow.tx, batch.dead)\n",
        "",
        (MODEL,),
    ),
    Bug(
        "query_without_workspace",
        "A deletion locks, and so finds, contacts of any workspace",
        "src/ingest/store/deletions.py",
        "        from contact where workspace_id = :workspace_id and id = any(cast(:ids as bigint[]))\n        order by",
        "        from contact where :workspace_id > 0 and id = any(cast(:ids as bigint[]))\n        order by",
        ("tests/integration/test_delete.py::test_P9_contacts_of_another_workspace_are_not_touched",),
    ),
    Bug(
        "shared_keys_without_workspace",
        "Contacts are compared with those of other workspaces",
        "src/ingest/store/contact_keys.py",
        "            where contact_key.workspace_id = touched.workspace_id and contact_key.match_key = touched.match_key\n",
        "            where contact_key.match_key = touched.match_key\n",
        ("tests/integration/test_detect.py", MODEL),
    ),
    Bug(
        "no_second_wall",
        "An API call's transaction stays under the role that sees every workspace",
        "src/ingest/store/wall.py",
        """    select set_config('role', :role, true), set_config('ingest.workspace_id', :workspace_id, true),
""",
        """    select set_config('application_name', :role, true), set_config('ingest.workspace_id', :workspace_id, true),
""",
        ("tests/integration/api/test_api_access.py",),
    ),
    Bug(
        "purge_without_scope",
        "A purge takes whatever has the id, not only what this deletion has detached",
        "src/ingest/store/purges.py",
        "id = any(:ids) and deletion_job_id = :id order by id\n",
        "id = any(:ids) and :id > 0 order by id\n",
        ("tests/integration/test_delete.py::test_P7_a_contact_that_is_not_this_deletions_any_more_keeps_everything",),
    ),
    Bug(
        "purged_message_comes_back",
        "The ids of purged messages are not remembered",
        "src/ingest/store/messages.py",
        """    where not exists (
        select from message_fingerprint
        where message_fingerprint.channel_id = new.channel_id and message_fingerprint.external_hash = new.external_hash
    ) and not exists (
""",
        "    where not exists (\n",
        ("tests/integration/test_resolve_messages.py::test_B49_a_message_of_a_deleted_contact_does_not_come_back",),
    ),
    Bug(
        "unmerge_takes_what_came_later",
        "Taking a contact out of another takes along what came after the merge",
        "src/ingest/store/unmerge_moves.py",
        """        from (select unnest(row_ids) as id from merge_moved
              where workspace_id = :workspace_id and merge_id = :merge_id and table_name = '{table}') as moved
""",
        """        from (select unnest(row_ids) as id from merge_moved
              where workspace_id = :workspace_id and merge_id = :merge_id and table_name = '{table}'
              union select id from {table} where workspace_id = :workspace_id and contact_id = :kept_id) as moved
""",
        (MODEL,),
    ),
    Bug(
        "redirect_not_followed",
        "The id of a contact that was merged away leads nowhere",
        "src/ingest/store/views/identifiers.py",
        "        from way join contact on contact.workspace_id = :workspace_id and contact.id = way.merged_into\n",
        "        from way join contact on contact.workspace_id = :workspace_id and contact.id = -way.merged_into\n",
        ("tests/integration/api/test_api_acts.py",),
    ),
    Bug(
        "signature_not_compared",
        "A signature is computed and not compared",
        "src/ingest/channels/base.py",
        "        found |= hmac.compare_digest(hmac.digest(secret.encode(), body, algorithm), given)\n",
        "        found |= bool(hmac.digest(secret.encode(), body, algorithm))\n",
        (f"{ADAPTERS}::test_missing_or_wrong_proof_is_refused",),
    ),
    Bug(
        "old_signature_accepted",
        "A signed time is not looked at",
        "src/ingest/channels/base.py",
        "    if abs(received_at - signed_at) > timedelta(seconds=tolerance_seconds):\n",
        "    if abs(received_at - signed_at) > timedelta.max:\n",
        ("tests/unit/channels",),
    ),
    Bug(
        "body_limit_off",
        "A body without a declared length may be as long as it likes",
        "src/ingest/web/asgi.py",
        "        if total > limit:\n",
        "        if total > limit * 1_000_000:\n",
        (EDGE,),
    ),
    Bug(
        "phone_in_a_log_line",
        "A log line names the sender",
        "workers/resolve.py",
        '    log.debug("requests.resolved", requests=batch.requests, items=len(batch.items))\n',
        """    sender = batch.items[0].event.sender if batch.items else None
    log.debug("requests.resolved", requests=batch.requests, name=sender.external_id if sender else "")
""",
        ("tests/acceptance/test_message_path.py",),
    ),
    Bug(
        "poison_for_ever",
        "A job that always fails is tried without end",
        "workers/handling.py",
        "    elif isinstance(failure, Permanent) or job.attempts >= SOLO_TRIES:\n",
        "    elif isinstance(failure, Permanent):\n",
        (f"{JOBS}::test_6_a_message_that_the_database_refuses_is_found_and_set_aside_alone",),
    ),
    Bug(
        "secrets_open_for_anybody",
        "Sealed secrets open in the row of another channel",
        "src/ingest/store/sealing.py",
        '        if opened["owner"] not in {owner, owner.partition("/")[2]}:\n',
        '        if not opened["owner"]:\n',
        ("tests/integration/test_secrets.py",),
    ),
    Bug(
        "formula_in_a_cell",
        "Lines within a cell are not looked at",
        "src/ingest/domain/csv_cells.py",
        """    return begins_with_break or FORMULA.match(parts[place]) is not None
""",
        """    return begins_with_break or (place == 0 and FORMULA.match(parts[place]) is not None)
""",
        ("tests/unit/domain/test_csv_cells.py",),
    ),
    Bug(
        "resolved_twice",
        "What is fetched is connected to by name, after its address was judged",
        "src/ingest/egress.py",
        "        return self._inner.connect_tcp(addresses[0], port,",
        "        return self._inner.connect_tcp(host, port,",
        ("tests/unit/test_egress.py",),
    ),
    Bug(
        "pickle_accepted",
        "Messages may be pickles",
        "src/ingest/jobs/celery.py",
        '    disable_insecure_serializers(["json"])\n',
        '    disable_insecure_serializers(["json", "pickle"])\n',
        ("tests/contracts/test_broker_safety.py",),
    ),
)
