"""How long an answer takes over the load, and how long until the API and the merge suggestions show what was accepted."""

from dataclasses import replace

from benchmarks.bench import Bench, Found, Load, Row, describe
from benchmarks.load import percentile
from benchmarks.probes import Probe, message_probe, suggestion_probe
from benchmarks.sites import Site
from benchmarks.systems import ours

SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
IDLE_RATE = 20


def latency(bench: Bench) -> Found:
    """Return answer latency when idle and at shares of the maximum rate; at half of it, the probes run once more beside."""
    found = Found(series={"maximum_per_second": bench.peak(), "over_load": []})
    site = bench.site(ours(), bench.options.senders)
    with bench.running(site) as pids:
        seconds = bench.options.seconds
        idle = Load(bench.options.senders, int(IDLE_RATE * seconds), seconds, IDLE_RATE, "idle")
        for load in (idle, *(bench.load_at(share, seconds, f"{share:.0%} of the maximum") for share in SHARES)):
            run = bench.put(site, load, pids)
            print(describe(run), flush=True)
            found.runs.append(run)
            found.series["over_load"].append({"rate": load.rate, **run.latency_ms})
        for name, make in (("messages", message_probe), ("suggestions", suggestion_probe)):
            _probe(bench, found, site, pids, name, make(site))
    found.rows += _rows(found)
    return found


def _probe(  # noqa: PLR0917 - where, what and how
    bench: Bench, found: Found, site: Site, pids: dict[str, list[int]], name: str, probe: Probe
) -> None:
    load = replace(bench.half_load(2 * bench.options.seconds), label=f"half the maximum, {name} probed")
    with probe:
        run = bench.put(site, load, pids)
    print(describe(run), flush=True)
    found.runs.append(run)
    found.series[f"{name}_visible_ms"] = sorted(round(1000 * each, 1) for each in probe.seconds)


def _rows(found: Found) -> list[Row]:
    by_label = {run.label: run for run in found.runs}
    idle, half = by_label["idle"].latency_ms["50"], by_label["50% of the maximum"].latency_ms["99"]
    rate = by_label["50% of the maximum"].rate
    return [
        Row(f"accept latency p99 at half the maximum rate ({rate:,.0f}/s)", f"{half:.1f} ms", "≤ 50 ms", half <= 50),
        Row("accept latency p50 when idle", f"{idle:.1f} ms", "≤ 10 ms", idle <= 10),
        _visible(found, "messages", "accept → visible in the API, p95, same load", 300),
        _visible(found, "suggestions", "accept of a shared number → merge suggestion in the API, p95, same load", 2000),
    ]


def _visible(found: Found, name: str, what: str, most: int) -> Row:
    times = found.series[f"{name}_visible_ms"]
    if not times:
        return Row(what, "no probe came back in time", f"≤ {most} ms", False)
    p95 = percentile(times, 95)
    return Row(
        what, f"{p95:.0f} ms (p50 {percentile(times, 50):.0f} ms, {len(times)} probes)", f"≤ {most} ms", p95 <= most
    )
