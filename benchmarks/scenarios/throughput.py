"""How many messages/s are accepted and stored: beside the comparators, by workers, by broker."""

from collections.abc import Sequence

from benchmarks.bench import Bench, Found, Measured, Row, describe, median_stored
from benchmarks.rabbitmq import is_installed, rabbitmq
from benchmarks.systems import System, floor, naive, ours

TARGETS = {"known": (15.0, 0.7), "new": (10.0, None)}


def known(bench: Bench) -> Found:
    """Return the rates with senders that all three systems know, alternating."""
    found = _compare(bench, "known", bench.options.senders)
    bench.set_peak(median_stored(found.runs, "ours"))
    return found


def new(bench: Bench) -> Found:
    """Return the rates where every message is from somebody new."""
    return _compare(bench, "new", 0)


def _compare(bench: Bench, name: str, senders: int) -> Found:
    found = Found()
    for _ in range(bench.options.rounds):
        for system in (naive(), floor(), ours()):
            _run(bench, found, system, senders, name)
    medians = {each: median_stored(found.runs, each) for each in ("naive", "floor", "ours")}
    found.series["stored_per_second"] = medians
    who = f"{senders:,} known senders" if senders else "every sender new"
    above_naive, above_floor = TARGETS[name]
    found.rows += [
        Row(f"accepted and stored messages/s, {who}", f"{medians['ours']:,.0f}"),
        _ratio(who, medians, "naive", above_naive),
        _ratio(who, medians, "floor", above_floor),
        _missing(found.runs),
    ]
    return found


def _ratio(who: str, medians: dict[str, float], other: str, least: float | None) -> Row:
    ratio = medians["ours"] / max(0.1, medians[other])
    target = f"≥ {least:g} × {other}" if least else ""
    told = f"{ratio:.2f} × ({other}: {medians[other]:,.0f}/s)"
    return Row(f"{who}: ours to {other}", told, target, ratio >= least if least else None)


def _missing(runs: Sequence[Measured]) -> Row:
    lost = {
        name: sum(run.accepted - run.stored for run in runs if run.system == name)
        for name in ("ours", "naive", "floor")
    }
    told = ", ".join(f"{name} {count}" for name, count in lost.items())
    return Row("accepted and not stored when the queue was empty", told, "ours 0", lost["ours"] == 0)


def workers(bench: Bench) -> Found:
    """Return the rates with one, two and four resolve workers."""
    found = Found()
    for count in (1, 2, 4):
        for _ in range(bench.options.rounds):
            _run(bench, found, ours(count), bench.options.senders, str(count))
    medians = {str(count): median_stored(found.runs, "ours", str(count)) for count in (1, 2, 4)}
    found.series["stored_per_second"] = medians
    told = ", ".join(f"{count}: {rate:,.0f}/s" for count, rate in medians.items())
    found.rows.append(Row("accepted and stored messages/s by resolve workers", told))
    return found


def brokers(bench: Bench) -> Found:
    """Return the rates of ours and naive over Valkey and over RabbitMQ."""
    found = Found()
    _on_broker(bench, found, "Valkey")
    if is_installed():
        before = bench.broker_url
        with rabbitmq(bench.directory / "rabbitmq") as url:
            bench.broker_url = url
            _on_broker(bench, found, "RabbitMQ")
        bench.broker_url = before
    else:
        found.rows.append(Row("RabbitMQ", "not measured: the package rabbitmq-server is not installed"))
    return found


def _on_broker(bench: Bench, found: Found, broker: str) -> None:
    for _ in range(bench.options.rounds):
        for system in (naive(), ours()):
            _run(bench, found, system, bench.options.senders, broker)
    own, other = median_stored(found.runs, "ours", broker), median_stored(found.runs, "naive", broker)
    told = f"ours {own:,.0f}/s, naive {other:,.0f}/s: {own / max(0.1, other):.1f} ×"
    found.rows.append(Row(f"accepted and stored messages/s over {broker}", told))


def _run(bench: Bench, found: Found, system: System, senders: int, label: str) -> None:
    run = bench.measure(bench.site(system, senders), bench.full_load(senders, label))
    print(describe(run), flush=True)
    found.runs.append(run)
