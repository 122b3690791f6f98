"""What a message costs when a million contacts and five million messages are there already."""

from dataclasses import replace

from benchmarks import seeding
from benchmarks.bench import Bench, Found, Measured, Row, describe, median_stored
from benchmarks.sites import Site
from benchmarks.systems import ours

CONTACTS = 1_000_000
MESSAGES_EACH = 5
# Of the full size: what is measured on the way there.
STEPS = (0.1, 1.0)
WIDE, NEW = "full, senders from all", "full, every sender new"


def stored(bench: Bench) -> Found:
    """Return the rates on an empty and on a full database, alternating; and with senders drawn from all contacts."""
    options, found = bench.options, Found(series={"over_size": []})
    contacts = max(options.scaled(CONTACTS), 2 * options.senders)
    full, there = bench.site(ours(), options.senders), options.senders
    for step in STEPS:
        wanted = max(int(contacts * step), there)
        seconds = _fill(full, there, wanted - there)
        print(f"filled to {wanted:,} contacts and {wanted * MESSAGES_EACH:,} messages in {seconds:.0f} s", flush=True)
        there = wanted
        if step < 1:
            _measure(bench, found, full, there, options.senders, "on the way")
    for _ in range(options.rounds):
        _measure(bench, found, bench.site(ours(), options.senders), 0, options.senders, "empty")
        _measure(bench, found, full, there, options.senders, "full")
    _measure(bench, found, full, there, there, WIDE)
    _measure(bench, found, full, there, 0, NEW)
    found.rows += _rows(found, there)
    return found


def _fill(site: Site, there: int, count: int) -> float:
    ids = seeding.store_contacts(site.conninfo, there, count)
    return seeding.store_messages(site.conninfo, ids, MESSAGES_EACH)


def _measure(  # noqa: PLR0917 - what, where, and under which name
    bench: Bench, found: Found, site: Site, contacts: int, senders: int, label: str
) -> Measured:
    # Nobody has a number beyond those stored.
    load = replace(bench.full_load(senders, label), first=0 if senders else contacts)
    run = bench.measure(site, load)
    print(describe(run), flush=True)
    found.runs.append(run)
    point = {"contacts": contacts, "label": label, "stored_per_second": run.stored_per_second, "cpu_us": run.cpu_us}
    found.series["over_size"].append(point)
    return run


def _rows(found: Found, contacts: int) -> list[Row]:
    empty, full = (median_stored(found.runs, "ours", label) for label in ("empty", "full"))
    wide, new = (median_stored(found.runs, "ours", label) for label in (WIDE, NEW))
    size = f"{contacts:,} contacts and {contacts * MESSAGES_EACH:,} messages stored"
    same = f"{full / empty:.2f} × ({full:,.0f}/s to {empty:,.0f}/s)"
    return [
        Row(f"same load with {size}, to the empty database", same, "≥ 0.8 ×", full >= 0.8 * empty),
        Row(
            f"senders drawn from all {contacts:,} contacts, to the empty database",
            f"{wide / empty:.2f} × ({wide:,.0f}/s)",
        ),
        Row(f"every sender new, with {size}", f"{new:,.0f}/s"),
    ]
