"""NULs, halves of surrogate pairs, bytes that are no text, marks of direction and very long texts, through every route
that writes: taken and shown as it can be, or refused naming the field. Never an error of ours.
"""

import json
from typing import Any
from urllib.parse import quote

import pytest

from .space import ROOT, Space

LONG = "long" * 25_000
# As JSON spells them.
ODD = {
    "NUL": r"a\u0000b",
    "NULs alone": r"\u0000\u0000",
    "first half of a pair": r"a\ud83d b",
    "second half of a pair": r"a\ude00 b",
    "byte order mark": r"\ufeffa",
    "right to left": r"a\u202eb\u2066",
    "no character": r"a\uffffb",
    "controls": r"a\u0001\u001b[31m\u0085b",
    "very long": LONG,
    "a mebibyte": "x" * 1_100_000,
}
CONDITION = {"category": "contactField", "field": "firstName", "operator": "isEqualTo", "value": "<ODD>"}
STEPS = [{"id": "q", "kind": "ask", "text": "<ODD>", "answer": "email"}]
# `<ODD>` is the text, `<N>` a number of its own for what must be unique. `(method, path, body)`.
CALLS: dict[str, tuple[str, str, Any]] = {
    "a new contact": ("POST", "/contact/phone:+6012300<N>", {"firstName": "<ODD>", "lastName": "<ODD>"}),
    "an email": ("POST", "/contact/phone:+6012300<N>", {"firstName": "A", "email": "<ODD>@example.com"}),
    "a phone": ("PUT", "/contact/id:<ID>", {"phone": "<ODD>"}),
    "a language": ("PUT", "/contact/id:<ID>", {"language": "<ODD>"}),
    "a picture": ("PUT", "/contact/id:<ID>", {"profilePic": "https://example.com/<ODD>"}),
    "a custom field": ("PUT", "/contact/id:<ID>", {"custom_fields": [{"name": "odd", "value": "<ODD>"}]}),
    "a custom field's name": ("PUT", "/contact/id:<ID>", {"custom_fields": [{"name": "<ODD>", "value": "x"}]}),
    "create or update": ("POST", "/contact/create_or_update/email:odd<N>@example.com", {"firstName": "<ODD>"}),
    "a tag": ("POST", "/contact/id:<ID>/tag", ["<ODD>"]),
    "a tag taken off": ("DELETE", "/contact/id:<ID>/tag", ["<ODD>"]),
    "a comment": ("POST", "/contact/id:<ID>/comment", {"text": "<ODD>"}),
    "a lifecycle stage": ("POST", "/contact/id:<ID>/lifecycle/update", {"name": "<ODD>"}),
    "an assignee": ("POST", "/contact/id:<ID>/conversation/assignee", {"assignee": "<ODD>"}),
    "a closing summary": (
        "POST", "/contact/id:<ID>/conversation/status", {"status": "close", "category": "<ODD>", "summary": "<ODD>"},
    ),
    "a block's reason": ("POST", "/contact/id:<ID>/block", {"reason": "<ODD>"}),
    "a filter": ("POST", "/contact/list", {"filter": {"$and": [CONDITION]}, "search": "<ODD>", "timezone": "<ODD>"}),
    "a page": ("POST", "/contact/page", {"filter": {"$and": [CONDITION]}, "search": "<ODD>", "cursor": "<ODD>"}),
    "a segment": ("POST", "/segment", {"name": "<ODD>", "filter": {"$and": [CONDITION]}, "search": "<ODD>"}),
    "an export": ("POST", "/export", {"filter": {"$and": [CONDITION]}, "search": "<ODD>", "columns": ["<ODD>"]}),
    "a bulk change": ("POST", "/contact/bulk", {"action": "tag", "filter": {"$and": [CONDITION]}, "tags": ["<ODD>"]}),
    "bulk tags": ("POST", "/contact/bulk/tag", {"tags": ["<ODD>"], "contactIds": ["<ODD>"]}),
    "a bulk block": ("POST", "/contact/bulk/block", {"filter": {"$and": [CONDITION]}, "reason": "<ODD>"}),
    "a bulk deletion": ("POST", "/contact/bulk/delete", {"filter": {"$and": [CONDITION]}, "count": "<ODD>"}),
    "a user": ("POST", "/space/user", {"firstName": "<ODD>", "lastName": "<ODD>", "email": "u<N>@x.org", "role": "agent"}),
    "a custom field made": ("POST", "/space/custom_field", {"name": "<ODD>", "dataType": "text", "description": "<ODD>"}),
    "a list field made": ("POST", "/space/custom_field", {"name": "L<N>", "dataType": "list", "allowedValues": ["<ODD>"]}),
    "closing notes": ("POST", "/space/closing_notes", {"category": "<ODD>", "content": "<ODD>", "description": "<ODD>"}),
    "a tag made": ("POST", "/space/tag", {"name": "<ODD>", "description": "<ODD>", "colorCode": "<ODD>", "emoji": "<ODD>"}),
    "a tag renamed": ("PUT", "/space/tag", {"currentName": "<ODD>", "name": "<ODD>"}),
    "a token": ("POST", "/space/token", {"name": "<ODD>", "role": "agent"}),
    "a stage made": ("POST", "/space/lifecycle", {"name": "<ODD>", "description": "<ODD>", "emoji": "<ODD>"}),
    "a field order": ("PUT", "/space/field_order", {"fields": ["<ODD>"]}),
    "a merge rule": ("POST", "/merge/rule", {"name": "<ODD>", "kinds": ["exact"], "keys": ["<ODD>"]}),
    "a merge": ("POST", "/contact/merge", {"contactIds": ["<ODD>", 1], "values": {"firstName": "<ODD>"}}),
    "a workflow": (
        "POST", "/workflow", {"name": "<ODD>", "definition": {"trigger": {"kind": "manual", "<ODD>": 1}, "steps": STEPS}},
    ),
    "a subscription": ("POST", "", {"url": "https://example.com/<ODD>", "type": "<ODD>", "hookUrl": "https://example.com/<ODD>"}),
}  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
def test_odd_text_is_taken_or_refused_by_name_and_never_an_error_of_ours(space: Space, odd: str) -> None:
    space.call("POST", "/space/custom_field", {"name": "Odd", "dataType": "text"})
    contact_id = space.contact()
    taken = set()
    for number, (what, (method, path, body)) in enumerate(CALLS.items(), 1000):
        url = ROOT + path if path else "/integration/n8n-api/subscribe"
        url = url.replace("<N>", str(number)).replace("<ID>", str(contact_id))
        raw = json.dumps(body).replace("<N>", str(number)).replace("<ODD>", ODD[odd]).encode()
        answer = space.owner.request(method, url, content=raw, headers={"content-type": "application/json"})
        told = answer.json()
        assert answer.status_code < 500, f"{what}: {answer.status_code} {answer.text[:300]}"
        if answer.status_code < 300:
            taken.add(what)
        elif answer.status_code in (400, 422):
            assert told["message"], what
            assert told["field"] or told["error"] != "invalid" or len(raw) > 1024**2, (what, told)
        json.dumps(told).encode()
    if odd not in ("very long", "a mebibyte"):
        assert {"a new contact", "a tag", "a comment", "a segment", "a filter", "a block's reason"} & taken, taken
    shown = json.dumps(space.get(contact_id)) + json.dumps(
        space.call("POST", "/contact/list", {"filter": {"$and": []}})
    )
    assert "\\u0000" not in shown


@pytest.mark.parametrize("odd", ["a\0b", "\0", "\ud800", "\ufeff", "\u202e", "%00", "x" * 9000, "\xff\xfe"])
def test_odd_text_in_a_path_a_query_or_a_header_is_never_an_error_of_ours(space: Space, odd: str) -> None:
    quoted = quote(odd.encode("utf-8", "surrogatepass"))
    for method, path in (
        ("GET", f"/contact/email:{quoted}@example.com"),
        ("GET", f"/contact/phone:{quoted}"),
        ("GET", f"/contact/id:{quoted}"),
        ("DELETE", f"/contact/email:{quoted}"),
        ("GET", f"/segment/{quoted}"),
        ("GET", f"/contact/id:1/message/list?cursorId={quoted}&limit={quoted}"),
        ("GET", f"/suggestion?cursor={quoted}&state={quoted}"),
        ("GET", f"/space/user?cursorId={quoted}"),
        ("GET", f"/export/{quoted}"),
    ):
        answer = space.owner.request(method, ROOT + path)
        assert answer.status_code < 500, f"{method} {path}: {answer.status_code} {answer.text[:300]}"
    keyed = space.owner.post(
        f"{ROOT}/contact/phone:+60123456789",
        json={"firstName": "A"},
        headers={"Idempotency-Key": odd.encode("utf-8", "surrogatepass")},
    )
    assert keyed.status_code < 500, keyed.text
    assert (
        space.owner.get(f"{ROOT}/space/user", headers={"Authorization": b"Bearer \xff\xfe\xed\xa0"}).status_code == 401
    )


@pytest.mark.parametrize(
    "cell",
    [b"a\0b", b"\xff\xfe\xc3", b"\xed\xa0\x80", "\ufeffa".encode(), "a\u202eb".encode(), b"a\x01\x1b[31m", b"y" * 300_000],
)  # fmt: skip
@pytest.mark.parametrize("where", ["a cell", "a heading", "a file name"])
def test_odd_text_in_an_import_is_imported_or_refused_by_name(space: Space, cell: bytes, where: str) -> None:
    rows = {
        "a cell": (b"firstName", cell),
        "a heading": (b"firstName," + cell, b"Ann,x"),
        "a file name": (b"firstName", b"A"),
    }
    heading, row = rows[where]
    content = heading + b",phone\n" + row + b",+6591230077\n" + b"Bea" + b",x" * heading.count(b",") + b",+6591230078\n"
    query = {"mapping": json.dumps({"firstName": "firstName", "phone": "phone"})} if where == "a heading" else {}
    if where == "a file name":
        query["fileName"] = cell[:3000].decode("latin-1")
    answer = space.owner.post(f"{ROOT}/import", content=content, params=query, headers={"content-type": "text/csv"})
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert answer.json()["message"]
        return
    space.work()
    done = space.call("GET", f"/import/{answer.json()['id']}")
    assert done["state"] in ("completed", "completed_with_errors"), done
    # The row beside it is not harmed.
    assert space.call("GET", "/contact/phone:+6591230078")
