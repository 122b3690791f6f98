"""Resident memory of the processes under a load that lasts."""

import statistics
import time

from benchmarks.aside import Aside
from benchmarks.bench import Bench, Found, Row, describe
from benchmarks.processes import resident_bytes
from benchmarks.systems import ours

FULL_SECONDS, QUICK_SECONDS = 600.0, 60.0
LIMITS_MB = {"web": 200, "worker": 250}
# What a process may grow in ten minutes and still be called flat.
FLAT_MB = 10.0
MB = 1_000_000


class Watch(Aside):
    """Samples the memory of processes in a thread: [seconds, {name: MB of one process and its children}]."""

    def __init__(self, pids: dict[str, list[int]], every_seconds: float) -> None:
        self._pids, self._every = pids, every_seconds
        super().__init__()
        self.samples: list[tuple[float, dict[str, float]]] = []

    def work(self) -> None:
        started = time.monotonic()
        while not self.is_over.wait(self._every):
            now = {name: max(resident_bytes([pid]) for pid in pids) / MB for name, pids in self._pids.items()}
            self.samples.append(
                (round(time.monotonic() - started, 1), {name: round(mb, 1) for name, mb in now.items()})
            )


def memory(bench: Bench) -> Found:
    """Return the highest memory of each process at half the maximum rate, and how it grows over the second half."""
    seconds = QUICK_SECONDS if bench.options.is_quick else FULL_SECONDS
    site = bench.site(ours(), bench.options.senders)
    load = bench.half_load(seconds, "sustained")
    with bench.running(site) as pids, Watch(pids, seconds / 120) as watch:
        run = bench.put(site, load, pids)
    print(describe(run), flush=True)
    found = Found(runs=[run], series={"megabytes": watch.samples})
    found.rows += [_row(name, watch.samples, seconds) for name in pids]
    return found


def _row(name: str, samples: list[tuple[float, dict[str, float]]], seconds: float) -> Row:
    highest = max(megabytes[name] for _, megabytes in samples)
    later = [(at, megabytes[name]) for at, megabytes in samples if at > seconds / 2]
    slope = 600 * statistics.linear_regression(*zip(*later, strict=True)).slope if len(later) > 1 else 0.0
    most = LIMITS_MB["web" if name == "web" else "worker"]
    told = f"{highest:.0f} MB, {slope:+.1f} MB in 10 minutes (second half of {seconds:.0f} s)"
    # In a minute memories still fill: whether it is flat is judged in full mode.
    is_flat = slope <= FLAT_MB or seconds < FULL_SECONDS
    return Row(f"resident memory (PSS) of {name}", told, f"≤ {most} MB, flat", highest <= most and is_flat)
