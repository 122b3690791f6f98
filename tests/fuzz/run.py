"""Fuzzes one target under atheris: `python -m tests.fuzz.run read:telegram --seconds 60`.

The recorded requests are the first corpus; coverage leads from there. Ends with status 0 and a line of figures, or with
the finding: a stack, and the input in a file of `--findings`. Memory is bounded at 1 GiB, an input at 10 s.

Source: atheris 3.0, libFuzzer's options.
"""

import argparse
import logging
import sys
import tempfile
from pathlib import Path

import atheris
import structlog

ONE_INPUT_SECONDS = 10
MAX_MEMORY_MIB = 1024
MAX_INPUT_BYTES = 64 * 1024

with atheris.instrument_imports(include=["ingest", "email", "python_multipart", "urllib.parse", "html", "_markupbase"]):
    from tests.fuzz.targets import targets


def main() -> None:
    """Fuzz until the time is up or something is found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=targets())
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--findings", type=Path, default=Path())
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    target = targets()[given.target]
    corpus = Path(tempfile.mkdtemp(prefix="ingest-fuzz-"))
    for number, each in enumerate(target.seeds):
        (corpus / f"recorded-{number}").write_bytes(each)
    options = {
        "max_total_time": given.seconds,
        "seed": given.seed,
        "timeout": ONE_INPUT_SECONDS,
        "rss_limit_mb": MAX_MEMORY_MIB,
        "max_len": MAX_INPUT_BYTES,
        "artifact_prefix": f"{given.findings.absolute()}/",
        "print_final_stats": 1,
        "verbosity": 0,
    }
    atheris.Setup([sys.argv[0], *(f"-{name}={value}" for name, value in options.items()), str(corpus)], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
