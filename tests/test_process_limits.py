"""How far a child process steps back."""

import subprocess
import sys
from pathlib import Path

import pytest

_SAYS = """
import os
from pathlib import Path
from service.process_limits import give_way

give_way()
session = Path("/proc/self/autogroup")
print(os.getpriority(os.PRIO_PROCESS, 0), session.read_text().split()[-1] if {0} else 0)
"""


@pytest.mark.parametrize("is_shared_by_session", [True, False])
def test_a_child_gives_way_itself_and_with_its_session(is_shared_by_session: bool) -> None:
    if is_shared_by_session and not Path("/proc/self/autogroup").exists():
        pytest.skip("processors are not shared among sessions here")
    code = _SAYS.format(is_shared_by_session)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, start_new_session=True
    )
    process, session = map(int, done.stdout.split())
    assert process > 0
    assert session == (process if is_shared_by_session else 0)
