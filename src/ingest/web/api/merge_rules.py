"""Auto-merge rules: kept switched off, tried out without merging, switched on."""

from typing import Annotated

from fastapi import Path
from pydantic import Field

from ingest.domain.refusals import NotFound
from ingest.pipeline.auto_merge import DEFAULT_CAP, create_rule, preview_rule
from ingest.store.auto_merges import Record, find_rule, list_rules, remove_rule, switch_rule
from ingest.web.api.access import Call
from ingest.web.api.paging import BIGGEST
from ingest.web.api.requests import RequestShape
from ingest.web.api.routes import endpoint, make_router
from ingest.web.api.shapes import CodeAnswer, Shape, seconds

router = make_router("Merge")

RuleId = Annotated[int, Path(ge=1, lt=BIGGEST)]


class NewRule(RequestShape):
    """When two contacts are one without asking anybody."""

    name: str
    key_kind: str = Field(description="phone or email: the kind of key that both must have proved.")
    agreeing_fields: list[str] = Field(
        description="Fields that must be the same and not empty on both, e.g. first_name."
    )
    hourly_cap: int = DEFAULT_CAP


class RuleShape(Shape):
    """A rule."""

    id: int
    name: str
    key_kind: str
    agreeing_fields: list[str]
    hourly_cap: int
    is_enabled: bool
    created_at: int


def _read(rule: Record) -> RuleShape:
    return RuleShape(
        id=rule.id,
        name=rule.name,
        key_kind=rule.key_kind,
        agreeing_fields=list(rule.agreeing_fields),
        hourly_cap=rule.hourly_cap,
        is_enabled=rule.is_enabled,
        created_at=seconds(rule.created_at) or 0,
    )


def _get(call: Call, rule_id: int) -> RuleShape:
    rule = find_rule(call.tx, call.workspace_id, rule_id)
    if rule is None:
        raise NotFound("Rule not found", word="rule_not_found", field="id")
    return _read(rule)


@endpoint(router, "POST", "/merge/rule", "workspace.configure", own=True)
def add_merge_rule(call: Call, body: NewRule) -> RuleShape:
    """Keep a rule. It merges nothing until it is switched on."""
    rule_id = create_rule(
        call.uow,
        call.workspace_id,
        body.name,
        key_kind=body.key_kind,
        agreeing_fields=body.agreeing_fields,
        hourly_cap=body.hourly_cap,
    )
    call.audit("merge_rule.create", rule_id=rule_id)
    return _get(call, rule_id)


@endpoint(router, "GET", "/merge/rule/list", "workspace.configure", own=True)
def list_merge_rules(call: Call) -> list[RuleShape]:
    """Return the workspace's rules, oldest first."""
    return [_read(rule) for rule in list_rules(call.tx, call.workspace_id)]


class PairShape(Shape):
    """Two contacts that the rule would merge."""

    suggestion_id: int
    kept_contact_id: int
    merged_contact_id: int


@endpoint(router, "POST", "/merge/rule/{rule_id}/preview", "workspace.configure", own=True)
def preview_merge_rule(call: Call, rule_id: RuleId) -> list[PairShape]:
    """Return what the rule would merge now, at most 1,000 pairs, without merging any."""
    return [
        PairShape(suggestion_id=each.suggestion_id, kept_contact_id=each.kept_id, merged_contact_id=each.absorbed_id)
        for each in preview_rule(call.uow, call.workspace_id, rule_id)
    ]


@endpoint(router, "POST", "/merge/rule/{rule_id}/enable", "workspace.configure", own=True)
def enable_merge_rule(call: Call, rule_id: RuleId) -> RuleShape:
    """Switch the rule on."""
    return _switch(call, rule_id, is_enabled=True)


@endpoint(router, "POST", "/merge/rule/{rule_id}/disable", "workspace.configure", own=True)
def disable_merge_rule(call: Call, rule_id: RuleId) -> RuleShape:
    """Switch the rule off. What it has merged stays merged and can be taken apart."""
    return _switch(call, rule_id, is_enabled=False)


def _switch(call: Call, rule_id: int, *, is_enabled: bool) -> RuleShape:
    _get(call, rule_id)
    switch_rule(call.tx, call.workspace_id, rule_id, is_enabled=is_enabled)
    call.audit("merge_rule.enable" if is_enabled else "merge_rule.disable", rule_id=rule_id)
    return _get(call, rule_id)


@endpoint(router, "DELETE", "/merge/rule/{rule_id}", "workspace.configure", own=True)
def remove_merge_rule(call: Call, rule_id: RuleId) -> CodeAnswer:
    """Remove the rule."""
    _get(call, rule_id)
    remove_rule(call.tx, call.workspace_id, rule_id)
    call.audit("merge_rule.remove", rule_id=rule_id)
    return CodeAnswer(message="Rule removed")
