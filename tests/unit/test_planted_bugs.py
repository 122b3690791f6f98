"""Every planted bug can still be planted: code that moves on takes its bugs along."""

from pathlib import Path

import pytest

from tests.mutations.planted import BUGS, Bug

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_what_a_bug_replaces_is_in_its_file_once_and_its_tests_are_there(bug: Bug) -> None:
    assert (ROOT / bug.file).read_text().count(bug.before) == 1
    for test in bug.tests:
        file, _, name = test.partition("::")
        assert (ROOT / file).exists()
        assert not name or name.partition("[")[0] in (ROOT / file).read_text()
