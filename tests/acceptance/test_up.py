"""One command runs everything: the printed curl stores a message, Ctrl-C stops all, the next start goes on."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from urllib.request import Request, urlopen

import pytest

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

START_SECONDS = 120


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Up:
    """`ingest up --demo` on a data directory."""

    def __init__(self, data: Path, port: int) -> None:
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("INGEST_") and name not in {"DATABASE_URL", "BROKER_URL"}
        }
        self.data, self.port = data, port
        self.environment = {**environment, "INGEST_DATA_DIR": str(data), "INGEST_PORT": str(port)}
        self.log = data.parent / f"{data.name}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ingest", "up", "--demo", "--demo-rate", "20"],
                stdout=log,
                stderr=log,
                env=self.environment,
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        wait_for(lambda: "Ready at" in self.output, START_SECONDS, self)

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def token(self) -> str:
        found = re.search(r"Token +(\S+)", self.output)
        assert found
        return found.group(1)

    def get(self, path: str) -> Any:
        request = Request(f"http://127.0.0.1:{self.port}{path}", headers={"Authorization": f"Bearer {self.token}"})
        with urlopen(request, timeout=5) as answer:
            return json.load(answer)

    def ingest(self, *arguments: str) -> Any:
        command = [sys.executable, "-m", "ingest", *arguments, "--json"]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        return json.loads(done.stdout)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(90)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def wait_for(condition: Callable[[], object], seconds: float, up: Up) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, up.output[-4000:]
        assert up.process.poll() is None, up.output[-4000:]
        time.sleep(0.1)


def processes_of(data: Path) -> list[str]:
    """Return the command lines of processes that have to do with the data directory."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            words = (each / "cmdline").read_bytes() + (each / "environ").read_bytes()
        except OSError:
            continue
        if str(data).encode() in words and each.name != str(os.getpid()):
            found.append(words.replace(b"\0", b" ").decode(errors="replace")[:200])
    return found


def commands(output: str) -> list[str]:
    """Return the printed curl commands, each as the shell takes it."""
    return [re.sub(r"\\\n *", " ", each) for each in re.findall(r"^  (curl (?:.*\\\n)*.*)$", output, re.MULTILINE)]


def shell(command: str) -> str:
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, timeout=20).stdout


@pytest.fixture
def data() -> Iterator[Path]:
    home = Path(mkdtemp(prefix="ingest-up-"))
    yield home / "data"
    # Killed servers are still writing while they stop.
    deadline = time.monotonic() + 60
    while processes_of(home) and time.monotonic() < deadline:
        time.sleep(0.1)
    shutil.rmtree(home)


@pytest.mark.skipif(shutil.which("curl") is None, reason="the printed commands need curl")
def test_up_shows_live_traffic_and_a_message_of_ones_own_and_goes_on_after_a_restart(data: Path) -> None:
    up = Up(data, free_port())
    try:
        up.wait_ready()
        send, contact, messages = commands(up.output)
        assert shell(send).startswith("HTTP/1.1 200")
        wait_for(lambda: "Hello from curl" in shell(messages), 20, up)
        assert json.loads(shell(contact))["phone"].startswith("+")
        # Sent once more it is a repeated delivery: answered 200, stored once.
        assert shell(send).startswith("HTTP/1.1 200")
        wait_for(lambda: up.ingest("check")["items"].get("stored", {}), 20, up)
        wait_for(lambda: sum(up.ingest("check")["items"]["stored"].values()) > 50, 30, up)
        assert shell(messages).count("Hello from curl") == 1
        assert up.ingest("check")["sound"]
        assert up.ingest("dead-letters", "list") == []
        token = up.token
        assert up.stop() == 0, up.output[-4000:]
    finally:
        up.kill()
    assert processes_of(data) == []

    again = Up(data, up.port)
    try:
        again.wait_ready()
        assert again.token == token
        assert len(again.ingest("channel", "list")) == 10
        assert shell(messages).count("Hello from curl") == 1
        worker = next(
            int(each.name)
            for each in Path("/proc").glob("[0-9]*")
            if b"worker\0resolve" in (each / "cmdline").read_bytes()
            and str(data) in (each / "environ").read_text(errors="replace")
        )
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: "worker_resolve ended with signal SIGKILL" in again.output, 20, again)
        send, *_rest = commands(again.output)
        assert shell(send).startswith("HTTP/1.1 200")
        wait_for(lambda: shell(messages).count("Hello from curl") == 2, 40, again)
        # What is left when everything is killed at once: nothing runs on, and the next start is a recovery.
        again.kill()
        deadline = time.monotonic() + 60
        while processes_of(data) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert processes_of(data) == []
    finally:
        again.kill()

    (data / "secret.key").unlink()
    without_key = Up(data, up.port)
    try:
        assert without_key.process.wait(START_SECONDS) == 1
        assert "secret.key is gone" in without_key.output
        assert not (data / "secret.key").exists()
    finally:
        without_key.kill()


def test_port_in_use_is_told_before_anything_starts(data: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        up = Up(data, int(taken.getsockname()[1]))
        assert up.process.wait(30) == 1
    assert "choose another port with --port" in up.output
    assert not data.exists()
