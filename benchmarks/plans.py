"""How PostgreSQL ran the statements of a block: node types, rows and buffers, as one line a statement.

Source: PostgreSQL documentation, EXPLAIN, FORMAT JSON. The statements are run once more for it, with the same values.
"""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, event


def explain(tx: Connection, run: Callable[[], Any]) -> list[str]:
    """Run the block and return a line for each statement that it executed in the transaction, in order."""
    executed: list[tuple[str, Any]] = []

    def note(_tx: object, _cursor: object, statement: str, given: Any, *_: object) -> None:
        executed.append((statement, given))

    event.listen(tx, "before_cursor_execute", note)
    try:
        run()
    finally:
        event.remove(tx, "before_cursor_execute", note)
    return [_explained(tx, statement, given) for statement, given in executed]


def _explained(tx: Connection, statement: str, given: Any) -> str:
    told = tx.exec_driver_sql(f"explain (analyze, buffers, timing off, format json) {statement}", given).scalar_one()
    return describe(told[0]["Plan"])


def describe(plan: Mapping[str, Any]) -> str:
    """Return a plan as one line, the outermost node first.

    A node is shown with the rows that it gave, all its loops together, and those that its filter turned down; the last
    words are the buffers of the whole.
    """
    buffers = plan.get("Shared Hit Blocks", 0) + plan.get("Shared Read Blocks", 0)
    return f"{_node(plan)}; {buffers:,} buffers"


def _node(plan: Mapping[str, Any]) -> str:
    name = plan["Node Type"]
    if place := plan.get("Index Name") or plan.get("Relation Name") or plan.get("Function Name"):
        name += f" {place}"
    rows = f"{plan['Actual Rows'] * plan['Actual Loops']:,.0f}"
    if turned_down := plan.get("Rows Removed by Filter"):
        rows += f" of {(plan['Actual Rows'] + turned_down) * plan['Actual Loops']:,.0f}"
    within = ", ".join(_node(each) for each in plan.get("Plans", ()) if each["Actual Loops"])
    return f"{name} ({rows})" + (
        f" < {within}" if len(plan.get("Plans", ())) < 2 and within else f" < [{within}]" if within else ""
    )
