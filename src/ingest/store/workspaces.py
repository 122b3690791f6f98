"""Workspaces: the tenants."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class Workspace:
    """A tenant. `cycle_day` is the day of the month on which its billing cycle starts, in its time zone."""

    id: int
    name: str
    time_zone: str
    cycle_day: int
    settings: dict[str, Any]


LIST = text("select id, name, time_zone, cycle_day, settings from workspace where id = any(:ids)")
LIST_ALL = text("select id, name, time_zone, cycle_day, settings from workspace order by id")
ADD = text("insert into workspace (name) values (:name) returning id")


def get_workspaces(tx: Connection, ids: Collection[int]) -> dict[int, Workspace]:
    """Return the workspaces that exist, by id."""
    return {row.id: Workspace(*row) for row in tx.execute(LIST, {"ids": list(ids)})}


def list_workspaces(tx: Connection) -> list[Workspace]:
    """Return all workspaces, by id."""
    return [Workspace(*row) for row in tx.execute(LIST_ALL)]


def add_workspace(tx: Connection, name: str) -> int:
    """Make a workspace and return its id."""
    return int(tx.execute(ADD, {"name": name}).scalar_one())


def list_workspace_ids(tx: Connection) -> list[int]:
    """Return the ids of all workspaces, in order."""
    return list(tx.scalars(text("select id from workspace order by id")))
