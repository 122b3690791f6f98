"""Auto-merge rules: off by default, tried out first, capped, and as reversible as any merge."""

# ruff: noqa: N802 - the names carry the lines of the specification

import pytest
from sqlalchemy import Connection

from ingest.domain.refusals import Conflict, Invalid
from ingest.jobs.act_types import AutoMerge
from ingest.pipeline.auto_merge import add_auto_merges, auto_merge, create_rule, preview_rule
from ingest.pipeline.unmerge import unmerge_contact
from ingest.store.auto_merges import switch_rule
from tests.acts_world import World

PHONE = "+60123456789"


@pytest.fixture
def world(tx: Connection) -> World:
    return World(tx)


def make_pair(world: World, one: str = "Ada", other: str = "ada", number: int = 0) -> tuple[int, int]:
    phone = f"+6012345678{number}"
    pair = world.make_contact(phone=phone, first_name=one), world.make_contact(phone=phone, first_name=other)
    world.make_suggestion(*pair, ["tel:" + phone])
    return pair


def make_rule(world: World, *, enabled: bool = True, **more: int) -> int:
    rule_id = create_rule(
        world.uow(), world.workspace_id, "Same", key_kind="phone", agreeing_fields=["first_name"], **more
    )
    switch_rule(world.tx, world.workspace_id, rule_id, is_enabled=enabled)
    return rule_id


def run(world: World) -> int:
    return auto_merge(world.uow(), AutoMerge(world.workspace_id))


def test_C1_a_rule_is_off_until_it_is_switched_on_and_can_be_tried_out(world: World) -> None:
    older, newer = make_pair(world)
    rule_id = create_rule(world.uow(), world.workspace_id, "Same", key_kind="phone", agreeing_fields=["first_name"])
    assert add_auto_merges(world.uow()) == 0
    assert run(world) == 0
    (pair,) = preview_rule(world.uow(), world.workspace_id, rule_id)
    assert (pair.kept_id, pair.absorbed_id) == (older, newer)
    assert world.scalar("select count(*) from merge_record") == 0
    switch_rule(world.tx, world.workspace_id, rule_id, is_enabled=True)
    assert add_auto_merges(world.uow()) == 1
    assert add_auto_merges(world.uow()) == 1
    assert len(world.jobs("auto_merge")) == 1
    assert run(world) == 1
    assert run(world) == 0
    (record,) = world.rows("select source, rule_id from merge_record")
    assert tuple(record) == ("rule", rule_id)


def test_C1_every_auto_merge_can_be_taken_apart_and_is_not_made_again(world: World) -> None:
    older, newer = make_pair(world)
    make_rule(world)
    run(world)
    unmerge_contact(world.uow(), world.workspace_id, older, newer)
    assert world.contact(newer).merged_into is None
    assert run(world) == 0


def test_C1_what_does_not_agree_is_not_proved_or_only_probable_is_left_to_people(world: World) -> None:
    make_pair(world, "Ada", "Eve", 1)
    make_pair(world, "", "", 2)
    unproved, _ = make_pair(world, number=3)
    world.run("update contact_key set is_verified = false where contact_id = :id", id=unproved)
    probable = make_pair(world, number=4)
    world.run("update merge_suggestion set kind = 'probable' where low_contact_id = :id", id=probable[0])
    blocked, _ = make_pair(world, number=5)
    world.run("update contact set blocked_at = now() where id = :id", id=blocked)
    make_rule(world)
    assert run(world) == 0


def test_C1_a_rule_merges_no_more_than_its_cap_an_hour(world: World) -> None:
    for number in range(3):
        make_pair(world, number=number)
    make_rule(world, hourly_cap=2)
    assert [run(world), run(world)] == [2, 0]
    world.uow(3700)
    assert run(world) == 1


def test_C1_three_people_of_one_key_end_in_one_contact(world: World) -> None:
    one, two, three = (world.make_contact(phone=PHONE, first_name="Ada") for _ in range(3))
    for pair in ((one, two), (one, three), (two, three)):
        world.make_suggestion(*pair, ["tel:" + PHONE])
    make_rule(world)
    assert run(world) == 2
    assert world.rows("select id from contact where merged_into is null")[0].id == one


@pytest.mark.parametrize(
    "given", [{"key_kind": "name"}, {"agreeing_fields": []}, {"agreeing_fields": ["status"]}, {"hourly_cap": 0}]
)
def test_a_rule_that_cannot_be_is_refused(world: World, given: dict[str, object]) -> None:
    values: dict[str, object] = {"key_kind": "phone", "agreeing_fields": ["first_name"], **given}
    with pytest.raises(Invalid):
        create_rule(world.uow(), world.workspace_id, "Odd", **values)  # type: ignore[arg-type]
    make_rule(world)
    with pytest.raises(Conflict):
        make_rule(world)
