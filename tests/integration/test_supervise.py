"""The supervisor starts again what dies, tells only parents to stop, and leaves nothing behind."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ingest.errors import BadSetting
from ingest.supervise import ProcessLine, Supervisor, find_procfile, read_procfile

pytestmark = pytest.mark.processes

SLEEPER = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)
# Writes who was signalled: the parent itself, or its child as well.
FAMILY = """
import os, signal, sys, time
def told(who):
    def write(*_):
        with open(sys.argv[1], "a") as file: file.write(who + "\\n")
        os._exit(0)
    return write
child = os.fork()
signal.signal(signal.SIGTERM, told("parent" if child else "child"))
os.write(1, b"up\\n")
time.sleep(600)
"""
SUPERVISED = """
import sys, time
from ingest.supervise import ProcessLine, Supervisor
supervisor = Supervisor()
supervisor.start([ProcessLine("sleeper", (sys.executable, "-c", sys.argv[1]))])
print(supervisor.pids()["sleeper"], flush=True)
time.sleep(600)
"""


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    supervisor = Supervisor(output=io.StringIO())
    yield supervisor
    supervisor.kill()


def line(name: str, script: str, *arguments: str) -> ProcessLine:
    return ProcessLine(name, (sys.executable, "-c", script, *arguments))


def output(supervisor: Supervisor) -> str:
    assert isinstance(supervisor.output, io.StringIO)
    return supervisor.output.getvalue()


def wait_for(condition: Callable[[], bool], supervisor: Supervisor | None = None, seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if supervisor:
            supervisor.tend()
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_procfile_names_every_queue_in_pipeline_order() -> None:
    from ingest.jobs.queues import QUEUES

    lines = read_procfile(find_procfile())
    assert [each.name for each in lines] == ["web", *(f"worker_{queue}" for queue in QUEUES), "beat"]
    assert lines[1].command == ("ingest", "worker", "resolve")


def test_only_chooses_and_unknown_names_are_refused() -> None:
    text = "a: run a\nb: run b\nc: run c\n"
    assert [each.name for each in read_procfile(text, ["c", "a"])] == ["a", "c"]
    with pytest.raises(BadSetting, match="no process d in the Procfile: use a, b, c"):
        read_procfile(text, ["a", "d"])


def test_missing_program_is_named(supervisor: Supervisor) -> None:
    with pytest.raises(BadSetting, match="process x needs the program no-such-program"):
        supervisor.start([ProcessLine("x", ("no-such-program",))])


def test_output_is_prefixed_with_the_process_name(supervisor: Supervisor) -> None:
    supervisor.start([line("talker", "print('hello')"), line("other", SLEEPER)])
    assert wait_for(lambda: "hello" in output(supervisor) and "| up" in output(supervisor))
    assert any("talker" in each and each.endswith("| hello") for each in output(supervisor).splitlines())


def test_killed_process_is_started_again_and_the_others_go_on(supervisor: Supervisor) -> None:
    supervisor.start([line("first", SLEEPER), line("second", SLEEPER)])
    before = supervisor.pids()
    os.kill(before["first"], signal.SIGKILL)
    assert wait_for(lambda: supervisor.pids().get("first", before["first"]) != before["first"], supervisor)
    assert supervisor.pids()["second"] == before["second"]
    assert "first ended with signal SIGKILL; starting it again in 0.5 s" in output(supervisor)


def test_process_that_keeps_dying_is_started_ever_later(supervisor: Supervisor) -> None:
    supervisor.start([line("broken", "raise SystemExit(3)")])
    assert wait_for(lambda: "again in 2 s" in output(supervisor), supervisor)
    told = [each.split("in ")[-1] for each in output(supervisor).splitlines() if "ended with status 3" in each]
    assert told == ["0.5 s", "1 s", "2 s"]


def test_stop_signals_the_parent_only_and_waits(supervisor: Supervisor, tmp_path: Path) -> None:
    told = tmp_path / "told"
    supervisor.start([line("family", FAMILY, str(told))])
    assert wait_for(lambda: output(supervisor).count("| up") == 2)
    pid = supervisor.pids()["family"]
    supervisor.stop()
    assert told.read_text() == "parent\n"
    assert supervisor.pids() == {}
    os.killpg(pid, signal.SIGKILL)


def test_stubborn_process_is_killed_after_the_timeout(supervisor: Supervisor) -> None:
    supervisor.start([line("stubborn", STUBBORN)])
    assert wait_for(lambda: "| up" in output(supervisor))
    pid = supervisor.pids()["stubborn"]
    supervisor.stop(timeout_seconds=0.3)
    assert not is_alive(pid)
    assert "stubborn did not stop and is killed" in output(supervisor)


def test_stopped_processes_stay_stopped(supervisor: Supervisor) -> None:
    supervisor.start([line("sleeper", SLEEPER)])
    supervisor.stop()
    supervisor.tend()
    assert supervisor.pids() == {}


def test_environment_is_added() -> None:
    supervisor = Supervisor({"INGEST_TEST_VALUE": "given"}, io.StringIO())
    supervisor.start([line("teller", "import os, json; print(json.dumps(os.environ['INGEST_TEST_VALUE']))")])
    try:
        assert wait_for(lambda: json.dumps("given") in output(supervisor))
    finally:
        supervisor.kill()


def test_killed_supervisor_takes_its_processes_along() -> None:
    started = subprocess.Popen([sys.executable, "-c", SUPERVISED, SLEEPER], stdout=subprocess.PIPE, text=True)
    assert started.stdout
    with started.stdout:
        pid = int(started.stdout.readline())
        assert is_alive(pid)
        time.sleep(0.5)
        started.kill()
        started.wait()
    assert wait_for(lambda: not is_alive(pid))
