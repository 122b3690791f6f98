"""Coverage leads a fuzzer through every place where strangers' bytes are read, for a few seconds each.

FUZZ_SECONDS gives it longer: 3600 for a night. A finding is a stack, and the input in a file that is named.
"""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import targets

SECONDS = int(os.environ.get("FUZZ_SECONDS", "5"))
STARTING_SECONDS = 60

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(SECONDS + STARTING_SECONDS + 30),
    pytest.mark.skipif(
        importlib.util.find_spec("atheris") is None,
        reason="atheris has no wheel for this machine: only tests/fuzz/test_targets.py damages what strangers send",
    ),
]


@pytest.mark.parametrize("name", targets())
def test_nothing_is_found_where_strangers_bytes_are_read(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz.run", name, "--seconds", str(SECONDS), "--findings", str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=False, timeout=SECONDS + STARTING_SECONDS
    )
    told = done.stdout + done.stderr
    inputs = [each.read_bytes() for each in tmp_path.iterdir()]
    assert done.returncode == 0, f"{told[-3000:]}\ninputs: {inputs}"
    figures = {what: int(count) for what, count in re.findall(r"stat::(\w+):\s+(\d+)", told)}
    print(f"\n[fuzz] {name}: {figures['number_of_executed_units']} inputs, {figures['new_units_added']} ways found, "
          f"{figures['peak_rss_mb']} MiB", flush=True)  # fmt: skip
    assert figures["number_of_executed_units"] > len(targets()[name].seeds)
