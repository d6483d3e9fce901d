"""The machine and the versions that figures belong to."""

import os
import pathlib
import platform
import re
import subprocess


def _output(*command, cwd=None):
    try:
        return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def describe(root, weir):
    cpus = re.findall(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory_kb = int(re.search(r"MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text())[1])
    return {
        "cpu": cpus[0] if cpus else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory_kb / 1e6, 1),
        "kernel": platform.release(),
        "load_at_start": os.getloadavg()[0],
        "weir": _output(weir, "--version"),
        "revision": _output("git", "describe", "--always", "--dirty", cwd=root),
        "rustc": _output("rustc", "--version", cwd=root),
        "python": platform.python_version(),
    }
