"""What a worker process has imported, and whether it is outdated."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.unit

BEGAN = "from sparktune.worker import imports; print(imports._process_began_s())"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has /proc")
def test_when_a_process_began_is_known_to_a_tick() -> None:
    """A file that was written just before is older than the process: by whole seconds it would be newer."""
    for _ in range(3):
        before = time.time()
        ended = subprocess.run([sys.executable, "-c", BEGAN], capture_output=True, text=True, check=True)
        assert before - 0.02 <= float(ended.stdout) <= time.time()
