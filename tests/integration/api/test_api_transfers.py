"""Imports, exports, bulk changes: what becomes of each row, and that a file comes back as it went."""

# ruff: noqa: E501 - tables of cases

import csv
import io
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.jobs.transfer_types import ImportBatch
from ingest.pipeline.transfer_import import import_batch
from ingest.pipeline.transfer_trim import trim_expired

from .conftest import MakeSpace
from .space import ROOT, Space


def upload(space: Space, content: str | bytes, status: int = 202, **query: Any) -> dict[str, Any]:
    """Send a file, work it off and return the import as it ended."""
    query = {"mode": "add_and_update", "identifier": "phone", **query}
    sent = {name: value for name, value in query.items() if value is not None}
    body = content.encode() if isinstance(content, str) else content
    answer = space.owner.post(
        f"{ROOT}/import?{urlencode(sent, doseq=True)}", content=body, headers={"Content-Type": "text/csv"}
    )
    assert answer.status_code == status, answer.text
    if status != 202:
        return answer.json()  # type: ignore[no-any-return]
    space.work()
    return space.call("GET", f"/import/{answer.json()['id']}")  # type: ignore[no-any-return]


def report(space: Space, transfer: dict[str, Any], query: str = "") -> list[tuple[Any, ...]]:
    lines = space.call("GET", f"/import/{transfer['id']}/report?limit=100{query}")["items"]
    return [(line["row"], line["outcome"], line["field"], line["reason"]) for line in lines]


def test_a23_b82_an_import_adds_updates_and_reports_every_row(space: Space) -> None:
    known = space.contact(phone="+60123456789", firstName="Old", lastName="Stays")
    done = upload(
        space,
        'First name,Phone,Email,Tags\nNew,+60 12-345 6789,,vip\nBob,+6591234567,bob@example.com,"a, b"\nCid,0123,,\n,+6598765432,,\n',
    )
    assert (done["state"], done["total"], done["done"]) == ("completed_with_errors", 4, 4)
    assert done["counts"] == {"updated": 1, "created": 1, "failed": 2}
    assert report(space, done) == [
        (1, "updated", None, None), (2, "created", None, None),
        (3, "failed", "phone", "a phone needs its country code, such as +60123456789"),
        (4, "failed", "firstName", "a new contact needs a first name"),
    ]  # fmt: skip
    assert report(space, done, "&onlyProblems=true")[0][0] == 3
    shown = space.get(known)
    assert (shown["firstName"], shown["lastName"], shown["tags"]) == ("New", "Stays", ["vip"])
    bob = space.call("GET", "/contact/phone:+6591234567")
    assert (bob["email"], sorted(bob["tags"]), bob["source"], bob["countryCode"]) == (
        "bob@example.com",
        ["a", "b"],
        "import",
        "SG",
    )
    assert bob["provenance"]["email"] == "import"


@pytest.mark.parametrize(
    ("mode", "counts"),
    [
        ("add_only", {"created": 1, "skipped": 2}), ("update_only", {"updated": 1, "failed": 2}),
        ("add_and_update", {"created": 1, "updated": 2}), ("add_all", {"created": 3}),
    ],
)  # fmt: skip
def test_b82_the_purposes_differ_in_what_they_do_with_known_and_repeated_rows(
    space: Space, mode: str, counts: dict[str, int]
) -> None:
    space.contact(phone="+60123456789")
    identifier = None if mode == "add_all" else "phone"
    done = upload(
        space, "firstName,phone\nA,+60123456789\nB,+6591234567\nC,+6591234567\n", mode=mode, identifier=identifier
    )
    assert done["counts"] == counts


def test_b82_repeats_inside_a_file_apply_in_order_across_batches(space: Space) -> None:
    lines = [f"N{number},+6591234567" for number in range(1200)]
    done = upload(space, "firstName,phone\n" + "\n".join(lines))
    assert done["counts"] == {"created": 1, "updated": 1199}
    assert space.call("GET", "/contact/phone:+6591234567")["firstName"] == "N1199"


def test_b82_do_not_overwrite_keeps_what_is_there(space: Space) -> None:
    known = space.contact(phone="+60123456789", firstName="Old")
    upload(space, "firstName,lastName,phone\nNew,Lee,+60123456789\n", overwrite="false")
    shown = space.get(known)
    assert (shown["firstName"], shown["lastName"]) == ("Old", "Lee")


def test_b82_a_row_that_matches_several_contacts_fails_as_ambiguous(space: Space) -> None:
    space.contact(phone="+60123456789")
    other = space.contact()
    space.call("PUT", f"/contact/id:{other}", {"phone": "+60123456789"})
    done = upload(space, "firstName,phone\nX,+60123456789\n")
    assert report(space, done) == [(1, "failed", "phone", "ambiguous: several contacts have it")]


def test_b82_t22_blocked_contacts_are_updated_and_stay_blocked(space: Space) -> None:
    known = space.contact(phone="+60123456789")
    space.run("update contact set blocked_at = now() where id = :id and workspace_id = :w", id=known)
    upload(space, "firstName,phone\nNew,+60123456789\n")
    shown = space.get(known)
    assert (shown["firstName"], shown["isBlocked"]) == ("New", True)


def test_b82_by_id_a_merged_contact_is_found_through_its_redirect(space: Space) -> None:
    kept, absorbed = space.contact(), space.contact()
    space.run("update contact set merged_into = :kept where id = :id and workspace_id = :w", kept=kept, id=absorbed)
    done = upload(space, f"id,lastName\n{absorbed},Lee\n999999999,X\nabc,X\n", mode="update_only", identifier="id")
    assert done["counts"] == {"updated": 1, "failed": 2}
    assert space.get(kept)["lastName"] == "Lee"


def test_b68_b82_an_import_starts_no_automation_and_detection_runs_afterwards(space: Space) -> None:
    space.run("insert into workflow (workspace_id, name, state) values (:w, 'W', 'published')")
    known = space.contact(phone="+60123456789")
    upload(space, "firstName,phone,email,tags\nNew,+60123456789,n@example.com,vip\nBob,+6591234567,,vip\n")
    assert space.rows("select name from job where workspace_id = :w and queue = 'react'") == []
    looked_at = [each for job in space.jobs("detect_duplicates") for each in job["contact_ids"]]
    assert {known, space.call("GET", "/contact/phone:+6591234567")["id"]} <= set(looked_at)


def test_b82_custom_fields_assignee_lifecycle_and_tags_are_imported(space: Space) -> None:
    space.call("POST", "/space/custom_field", {"name": "Birthday", "dataType": "date"})
    space.call("POST", "/space/lifecycle", {"name": "Lead"})
    user = space.user(email="uma@example.com")
    done = upload(
        space,
        "Name;Mobile;Born;Owner;Stage\nAnn;+6591234567;2001-02-03;UMA@example.com;lead\nBob;+6591234568;03.02.2001;;\n"
        "Cid;+6591234569;;x@example.com;\nDee;+6591234560;;;nope\n",
        mapping='{"Name": "firstName", "Mobile": "phone", "Born": "birthday", "Owner": "assignee", "Stage": "lifecycle"}',
        tag=["imported"],
    )
    assert [(line[0], line[2]) for line in report(space, done, "&onlyProblems=true")] == [
        (2, "custom_fields.birthday"), (3, "assignee"), (4, "lifecycle"),
    ]  # fmt: skip
    ann = space.call("GET", "/contact/phone:+6591234567")
    assert (ann["custom_fields"], ann["assignee"]["id"], ann["lifecycle"], ann["tags"]) == (
        [{"name": "birthday", "value": "2001-02-03"}], user, "Lead", ["imported"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("content", "query", "field"),
    [
        ("firstName,phone\n", {}, "file"), ("", {}, "mapping"), ("x,y\n1,2\n", {}, "mapping"), ("firstName,email\nA,a@example.com\n", {}, "mapping"),
        ("phone\n+6591234567\n", {}, "mapping"), ("firstName,phone,Mobile\nA,1,2\n", {}, "mapping"),
        ("firstName,phone\nA,1\n", {"mapping": '{"nope": "phone"}'}, "mapping"), ("firstName,phone\nA,1\n", {"mapping": "["}, "mapping"),
        ("firstName,phone\nA,1\n", {"identifier": None}, "identifier"), ("firstName,id\nA,1\n", {"mode": "add_only", "identifier": "id"}, "identifier"),
        ("firstName,phone\nA,1\n", {"mode": "nope"}, "mode"), (",".join(["c"] * 201) + "\n", {}, "file"),
    ],
)  # fmt: skip
def test_b82_a_file_or_mapping_that_cannot_be_is_refused_at_once(
    space: Space, content: str, query: dict[str, Any], field: str
) -> None:
    assert upload(space, content, 422, **query)["field"] == field
    assert space.rows("select 1 from transfer where workspace_id = :w") == []


def test_b82_more_than_200000_rows_are_refused(space: Space) -> None:
    content = "firstName,phone\n" + "A,+6591234567\n" * 200_001
    assert upload(space, content, 422)["error"] == "too_many_rows"


def test_b82_files_over_20_mb_are_refused(space: Space) -> None:
    assert upload(space, b"firstName,phone\n" + b"A" * 20_000_000, 422)["error"] == "file_too_large"
    assert upload(space, b"x" * 23_000_000, 413)["error"] == "too_large"


@pytest.mark.parametrize(
    "content",
    [
        "firstName,phone\nZoë,+6591234567\n".encode("utf-8-sig"), "firstName;phone\nZoë;+6591234567\n".encode("cp1252"),
        "firstName\tphone\nZoë\t+6591234567\n".encode("utf-16"), b'firstName,phone\r\n"Zo\xc3\xab",+6591234567\r\n\r\n,\r\n',
    ],
)  # fmt: skip
def test_files_are_read_as_spreadsheets_spell_them(space: Space, content: bytes) -> None:
    assert upload(space, content)["counts"] == {"created": 1}
    assert space.call("GET", "/contact/phone:+6591234567")["firstName"] == "Zoë"


def test_a_batch_that_runs_twice_has_one_effect(space: Space) -> None:
    done = upload(space, "firstName,phone\nA,+6591234567\n", mode="add_all", identifier=None)
    with space.uow() as uow:
        assert import_batch(uow, ImportBatch(space.id, done["id"], 0)).total() == 0
    assert len(space.rows("select 1 from contact where workspace_id = :w")) == 1


def test_what_a_file_held_does_not_outlive_its_batch(space: Space) -> None:
    done = upload(space, "firstName,phone\nUnmistakable,+6591234567\nBad,123\n")
    parts = space.rows(
        "select content, report::text from transfer_part where workspace_id = :w and transfer_id = :t", t=done["id"]
    )
    assert [part.content for part in parts] == [None]
    assert "Unmistakable" not in parts[0][1]
    assert "6591234567" not in parts[0][1]


def test_a_transfer_with_a_dead_letter_has_failed_until_it_is_replayed(space: Space) -> None:
    answer = space.owner.post(
        f"{ROOT}/import?mode=add_all", content=b"firstName\nA\n", headers={"Content-Type": "text/csv"}
    ).json()
    space.run(
        """insert into dead_letter (workspace_id, queue, name, reason, args)
           values (:w, 'transfer', 'import_batch', 'x', jsonb_build_object('transfer_id', cast(:t as bigint), 'position', 0))""",
        t=answer["id"],
    )
    assert space.call("GET", f"/import/{answer['id']}")["state"] == "failed"
    space.run("update dead_letter set state = 'replayed' where workspace_id = :w")
    space.work()
    assert space.call("GET", f"/import/{answer['id']}")["state"] == "completed"


# --- exports ---------------------------------------------------------------------------------------------------------


def rows_of(content: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content, newline="")))


def exported(space: Space, **body: Any) -> str:
    made = space.call("POST", "/export", body, 202)
    space.work()
    done = space.call("GET", f"/export/{made['id']}")
    assert done["state"] == "completed"
    answer = space.owner.get(done["fileUrl"].removeprefix("https://api.example"))
    assert answer.headers["content-type"].startswith("text/csv")
    return str(answer.content.decode())


def test_a101_b84_a_selected_export_takes_at_most_100_contacts(space: Space) -> None:
    ids = [space.contact(firstName=f"N{number}") for number in range(3)]
    answer = space.owner.post(f"{ROOT}/contact/export", json={"contactIds": ids[::-1], "form": "machine"})
    assert [row["firstName"] for row in rows_of(answer.text)] == ["N2", "N1", "N0"]
    assert answer.headers["content-disposition"].startswith("attachment")
    space.call("POST", "/contact/export", {"contactIds": list(range(1, 102))}, 422)


def test_a101_a_selected_export_leaves_out_foreign_contacts(make_space: MakeSpace) -> None:
    one, other = make_space(), make_space()
    answer = one.owner.post(f"{ROOT}/contact/export", json={"contactIds": [other.contact(firstName="Secret")]})
    assert rows_of(answer.text) == []


def test_a103_b84_an_export_job_goes_beyond_the_window(space: Space) -> None:
    space.run(
        "insert into contact (workspace_id, first_name, source) select :w, 'N' || i, 'api' from generate_series(1, 2601) i"
    )
    rows = rows_of(exported(space, filter={}))
    assert len({row["id"] for row in rows}) == 2601


def test_a104_b84_an_export_takes_a_filter_or_a_segment(space: Space) -> None:
    space.contact(firstName="Ann")
    space.contact(firstName="Bob")
    given = {"$and": [{"category": "contactField", "field": "firstName", "operator": "isEqualTo", "value": "bob"}]}
    segment = space.call("POST", "/segment", {"name": "Bobs", "filter": given})
    for body in ({"filter": given}, {"segmentId": segment["id"]}, {"search": "bo"}):
        assert [row["firstName"] for row in rows_of(exported(space, **body))] == ["Bob"]


def test_a104_exports_are_for_owners_and_managers_without_the_restriction(space: Space) -> None:
    restricted = space.client("manager", space.user("manager", ["restrict_data_export"]))
    for client, status in ((space.agent, 403), (restricted, 403), (space.manager, 202)):
        space.call("POST", "/export", {}, status, client)
    refused = space.rows("select action, outcome from audit_entry where workspace_id = :w and outcome = 'refused'")
    assert [tuple(line) for line in refused] == [("contact.export", "refused")] * 2


def test_b84_the_link_of_an_export_expires_in_7_days(space: Space) -> None:
    made = space.call("POST", "/export", {}, 202)
    assert timedelta(seconds=made["expiresAt"] - made["created_at"]) == timedelta(days=7)
    space.call("GET", f"/export/{made['id']}/file", status=409)
    space.work()
    space.run("update transfer set expires_at = now() where workspace_id = :w")
    space.call("GET", f"/export/{made['id']}/file", status=410)


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\t=1", "  =1", "\u00a0=1", "a\n=1", "'=1", "\r\n=1"])
def test_b84_cells_that_would_be_formulas_are_escaped_for_spreadsheets_only(space: Space, name: str) -> None:
    contact_id = space.contact()
    space.run("update contact set last_name = :name where id = :id and workspace_id = :w", name=name, id=contact_id)
    safe = rows_of(exported(space, form="spreadsheet"))[0]["lastName"]
    assert safe != name
    assert all(not line.lstrip(" \u00a0\t\r\n").startswith(("=", "+", "-", "@")) for line in safe.split("\n"))
    assert rows_of(exported(space, form="machine"))[0]["lastName"] == name


CELLS = st.text(st.sampled_from("ab=+-@'\", ;\t\né\u00a0王"), max_size=8).map(lambda text: text.strip(" \t\n\u00a0"))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    people=st.lists(
        st.tuples(CELLS.filter(bool), CELLS, CELLS, st.lists(CELLS.filter(bool), max_size=2)), min_size=1, max_size=4
    ),
    form=st.sampled_from(["spreadsheet", "machine"]),
)
def test_what_is_exported_is_imported_as_it_was(make_space: MakeSpace, people: list[Any], form: str) -> None:
    one, other = make_space(), make_space()
    for space in (one, other):
        space.call("POST", "/space/custom_field", {"name": "Note", "dataType": "text"})
    for number, (first, last, note, tags) in enumerate(people):
        made = one.contact(
            phone=f"+6012{number:07d}", firstName=first, lastName=last, custom_fields=[{"name": "note", "value": note}]
        )
        names = {tag.lower(): tag for tag in tags}
        if names:
            one.call("POST", f"/contact/id:{made}/tag", list(names.values()))
    content = exported(one, form=form)
    columns = '{"firstName": "firstName", "lastName": "lastName", "phone": "phone", "note": "note", "tags": "tags"}'
    assert upload(other, content, form=form, mapping=columns)["counts"] == {"created": len(people)}
    for number in range(len(people)):
        found = [space.call("GET", f"/contact/phone:+6012{number:07d}") for space in (one, other)]
        kept = [
            (each["firstName"], each["lastName"], each["custom_fields"], sorted(tag.lower() for tag in each["tags"]))
            for each in found
        ]
        assert kept[0] == kept[1]


# --- bulk changes ----------------------------------------------------------------------------------------------------


def bulk(space: Space, **body: Any) -> dict[str, Any]:
    made = space.call("POST", "/contact/bulk", body, 202)
    space.work()
    return space.call("GET", f"/contact/bulk/{made['id']}")  # type: ignore[no-any-return]


def test_c19_more_than_100_contacts_are_tagged_in_the_background(space: Space) -> None:
    space.run("insert into contact (workspace_id, source) select :w, 'api' from generate_series(1, 1100)")
    done = bulk(space, action="tag", filter={}, tags=["x"])
    assert (done["state"], done["total"], done["counts"]) == ("completed", 1100, {"updated": 1100})
    assert bulk(space, action="tag", filter={}, tags=["x"])["counts"] == {"unchanged": 1100}
    assert bulk(space, action="untag", filter={}, tags=["X"])["counts"] == {"updated": 1100}


def test_c19_bulk_assigning_and_closing_report_what_became_of_each(space: Space) -> None:
    user = space.user()
    ids = [space.contact() for _ in range(3)]
    space.call("POST", f"/contact/id:{ids[0]}/conversation/status", {"status": "open"})
    assert bulk(space, action="assign", contactIds=ids, assignee=user)["counts"] == {"updated": 3}
    space.run("update contact set blocked_at = now() where id = :id and workspace_id = :w", id=ids[2])
    done = bulk(space, action="close", contactIds=[*ids, 999_999_999])
    lines = space.call("GET", f"/contact/bulk/{done['id']}/report")["items"]
    assert [line["outcome"] for line in lines] == ["updated", "unchanged", "failed", "failed"]
    assert done["state"] == "completed_with_errors"


def test_c19_who_is_changed_is_fixed_when_it_is_accepted(space: Space) -> None:
    first = space.contact()
    space.call("POST", "/contact/bulk", {"action": "tag", "filter": {}, "tags": ["x"]}, 202)
    late = space.contact()
    space.work()
    assert (space.get(first)["tags"], space.get(late)["tags"]) == (["x"], [])


def test_bulk_changes_are_not_for_agents_and_need_their_values(space: Space) -> None:
    space.call("POST", "/contact/bulk", {"action": "tag", "filter": {}, "tags": ["x"]}, 403, space.agent)
    for wrong in (
        {"action": "tag", "filter": {}},
        {"action": "assign", "contactIds": [1]},
        {"action": "tag", "tags": ["x"]},
        {"action": "x"},
    ):
        space.call("POST", "/contact/bulk", wrong, 422)


def test_expired_transfers_and_old_idempotency_keys_go_and_others_stay(space: Space) -> None:
    old, fresh = space.call("POST", "/export", {}, 202), space.call("POST", "/export", {}, 202)
    for number, key in enumerate(("old", "fresh")):
        space.owner.post(
            f"{ROOT}/contact/phone:+6012345678{number}", json={"firstName": "A"}, headers={"Idempotency-Key": key}
        )
    space.run(
        "update transfer set expires_at = now() - interval '1 second' where workspace_id = :w and id = :id",
        id=old["id"],
    )
    space.run(
        "update idempotency_key set created_at = now() - interval '25 hours' where workspace_id = :w and key like '%old'"
    )
    with space.uow() as uow:
        trim_expired(uow)
    space.call("GET", f"/export/{old['id']}", status=404)
    space.call("GET", f"/export/{fresh['id']}")
    assert [row[0][-5:] for row in space.rows("select key from idempotency_key where workspace_id = :w")] == ["fresh"]
