"""The Procfile, the compose file and the queues name the same processes, and nothing names a machine of ours."""

import re
from pathlib import Path

from ingest.jobs.queues import QUEUES
from ingest.supervise import read_procfile

ROOT = Path(__file__).parents[2]


def procfile() -> dict[str, tuple[str, ...]]:
    return {each.name: each.command[1:] for each in read_procfile((ROOT / "Procfile").read_text())}


def compose() -> dict[str, tuple[str, ...]]:
    """Return the commands of the services that run our image, but for the one-shot migration."""
    found = {}
    for service in re.split(r"\n  (?=\w)", (ROOT / "docker" / "compose.yaml").read_text()):
        command = re.search(r"command: \[(worker, \w+|web|beat)\]", service)
        if command:
            found[service.split(":")[0].strip()] = tuple(command.group(1).split(", "))
    return found


def test_every_queue_has_a_process_of_its_own_in_pipeline_order() -> None:
    workers = [command[1:] for command in procfile().values() if command[0] == "worker"]
    assert workers == [(queue,) for queue in QUEUES]


def test_compose_runs_what_the_procfile_runs() -> None:
    assert compose() == procfile()


def test_image_installs_hashed_wheels_and_runs_unprivileged() -> None:
    lines = (ROOT / "docker" / "Dockerfile").read_text()
    installs = re.findall(r"pip install (.*)", lines)
    assert installs
    assert all("--require-hashes" in each or "--no-index" in each for each in installs)
    assert re.search(r"^USER ingest$", lines, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK ", lines, re.MULTILINE)


def test_requirements_are_pinned_with_hashes_and_name_no_index() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        content = path.read_text()
        pins = re.findall(r"^[a-z0-9][\w.\-\[\],]*==[^\s\\]+", content, re.MULTILINE | re.IGNORECASE)
        assert len(pins) == len(re.findall(r"^[^\s#]", content, re.MULTILINE)), path.name
        assert content.count("--hash=sha256:") >= len(pins), path.name
        assert not re.search(r"--(extra-)?index-url|--find-links|://", content), path.name


def test_make_and_readme_name_no_package_index() -> None:
    for name in ("Makefile", "README.md", ".ci/run", "docker/Dockerfile"):
        assert not re.search(
            r"pypi|pythonhosted|(?<!no-emit)-(index-url|find-links)", (ROOT / name).read_text(), re.IGNORECASE
        ), name
