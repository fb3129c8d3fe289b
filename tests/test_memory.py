"""Freed memory stays with the process."""

import platform
import subprocess
import sys

import pytest

from lazyutils import memory

FAULTS = """
import resource, torch
from lazyutils import memory, models
{call}
critic, images = models.build("ColorCritic"), torch.rand(128, 3, 28, 28)
for step in range(80):
    if step == 16:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    critic(images).sum().backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(call: str) -> int:
    """Pages that the system had to supply in 64 training steps, after those in which the heap finds its size."""
    done = subprocess.run([sys.executable, "-c", FAULTS.format(call=call)], check=True, capture_output=True, text=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_buffers_of_a_step_are_not_fetched_anew():
    assert faults("memory.keep_freed()") * 10 < faults("")


def test_another_system_is_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: pytest.fail("asked for a library"))
    memory.keep_freed()
