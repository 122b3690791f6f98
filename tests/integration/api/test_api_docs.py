"""Every command of docs/api.md is run, as a new integrator would, against a served API."""

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import text

from ingest.jobs.types import DetectDuplicates, read_job
from ingest.pipeline.detect import detect_duplicates

from .conftest import MakeSpace
from .space import QuietRuntime, Space

PAGE = Path(__file__).parents[3] / "docs" / "api.md"
FENCE = re.compile(r"^```(bash|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(shutil.which("curl") is None, reason="the page's commands need curl"),
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def base_url(api_runtime: QuietRuntime, tmp_path: Path) -> Iterator[str]:
    """The root of the API, served by a web process of our own."""
    port = free_port()
    environment = {
        **os.environ,
        "DATABASE_URL": api_runtime.settings.database_url,
        "BROKER_URL": "redis://127.0.0.1:1/0",
        "INGEST_SECRET_KEY": api_runtime.settings.secret_keys[0],
        "INGEST_DATA_DIR": str(tmp_path),
        "INGEST_PORT": str(port),
    }
    serve = "from ingest.settings import read_settings; from ingest.web.serve import serve; serve(read_settings())"
    with (tmp_path / "web.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", serve], env=environment, stdout=log, stderr=log)
        try:
            wait_until_served(f"http://127.0.0.1:{port}/healthz", tmp_path / "web.log")
            yield f"http://127.0.0.1:{port}/api/v2"
        finally:
            process.terminate()
            process.wait(20)


def wait_until_served(url: str, log: Path) -> None:
    for _ in range(150):
        try:
            httpx2.get(url)
        except httpx2.TransportError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(log.read_text())


@pytest.fixture
def worked(space: Space) -> Iterator[Space]:
    """A workspace whose transfers are worked off and whose duplicates are looked for meanwhile."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.1):
            space.work()
            look_for_duplicates(space)

    thread = threading.Thread(target=work)
    thread.start()
    yield space
    over.set()
    thread.join()


def look_for_duplicates(space: Space) -> None:
    rows = space.rows("select id, name, args from job where workspace_id = :w and queue = 'detect' and due_at <= now()")
    if rows:
        with space.uow() as uow:
            jobs = [read_job(row.name, space.id, row.args) for row in rows]
            detect_duplicates(uow, [each for each in jobs if isinstance(each, DetectDuplicates)])
            uow.tx.execute(text("delete from job where id = any(:ids)"), {"ids": [row.id for row in rows]})


def test_every_command_of_the_api_page_answers_as_it_says(base_url: str, worked: Space, tmp_path: Path) -> None:
    blocks = FENCE.findall(PAGE.read_text(encoding="utf-8"))
    # One shell for all, which tells where a block's answers end.
    script = "\n".join(
        f"{code}\necho; echo '=== {place}'" for place, (kind, code) in enumerate(blocks) if kind == "bash"
    )
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env={**os.environ, "BASE": base_url, "TOKEN": worked.token()},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    answers = {int(place): text for text, place in re.findall(r"(.*?)\n=== (\d+)\n", done.stdout, re.DOTALL)}
    for place, (kind, expected) in enumerate(blocks):
        for line in expected.splitlines() if kind == "text" else ():
            assert line in answers[place - 1]


def test_the_page_is_about_calls_that_exist(make_space: MakeSpace) -> None:
    document = make_space().owner.get("/api/v2/openapi.json").json()
    known = {re.sub(r"\{\w+\}", "x", path.removeprefix("/api/v2")) for path in document["paths"]}
    for path in re.findall(r'"\$BASE(/[^"?]*)', PAGE.read_text(encoding="utf-8")):
        assert re.sub(r"(id:)?\$\w+|(phone|email):[^/]*", "x", path) in known, path
