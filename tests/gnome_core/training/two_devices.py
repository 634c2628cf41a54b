"""Code that runs in a process of two devices, which are made of the CPU."""

import os
import subprocess
import sys
from pathlib import Path


def run_on_two_devices(code: str, *arguments: str) -> None:
    """Fails where the code does."""
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr[-2000:]
