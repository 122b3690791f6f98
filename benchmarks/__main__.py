"""`make bench`: measures this system beside *naive* and *floor* on this machine, and writes the report.

Every scenario starts its own servers' databases and processes. What one writes under --out takes the place of what the
same scenario wrote before, so that scenarios can be run one by one.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.bench import Bench, Options, as_plain
from benchmarks.report import add_results, print_rows
from benchmarks.scenarios import SCENARIOS
from ingest.embedded.servers import EmbeddedServers

REPORT, QUICK_REPORT = Path("docs/benchmarks"), Path("data/benchmarks-quick")


def main() -> None:
    """Run the scenarios and write what each found, as soon as it is known."""
    arguments = _parser().parse_args()
    options = _options(arguments)
    out = arguments.out or (QUICK_REPORT if options.is_quick else REPORT)
    command = " ".join(["python -m benchmarks", *sys.argv[1:]])
    with (
        tempfile.TemporaryDirectory(prefix="ingest-bench-") as directory,
        EmbeddedServers(Path(directory) / "data") as servers,
    ):
        bench = Bench(servers, Path(directory), options)
        for name in arguments.only or SCENARIOS:
            title, scenario = SCENARIOS[name]
            print(f"\n# {title}", flush=True)
            began = time.monotonic()
            found = as_plain(scenario(bench))
            add_results(out, name, title, command, options, found, time.monotonic() - began)
            print_rows(found["rows"])
    print(f"\nwritten to {out}/README.md")


def _options(arguments: argparse.Namespace) -> Options:
    quick = arguments.quick
    return Options(
        arguments.rounds or (1 if quick else 3),
        arguments.seconds or (4.0 if quick else 10.0),
        arguments.count or (15_000 if quick else 60_000),
        arguments.senders or (2_000 if quick else 20_000),
        arguments.connections,
        arguments.seed,
        quick,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog="scenarios:\n" + "\n".join(f"  {name:10} {title}" for name, (title, _) in SCENARIOS.items()),
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, metavar="NAME", help="these scenarios; default: all")
    parser.add_argument("--quick", action="store_true", help="shorter, and stored sizes a twentieth: no fit figures")
    parser.add_argument("--out", type=Path, help=f"default: {REPORT}, with --quick {QUICK_REPORT}")
    parser.add_argument("--rounds", type=int, help="of each comparison; default: 3, quick 1")
    parser.add_argument("--seconds", type=float, help="at most this long under full load; default: 10, quick 4")
    parser.add_argument("--count", type=int, help="requests prepared, naive a 15th; default: 60,000, quick 15,000")
    parser.add_argument("--senders", type=int, help="default: 20,000, quick 2,000")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    return parser


if __name__ == "__main__":
    main()
