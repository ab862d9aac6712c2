"""What a figure was measured on and with, written beside every figure."""

import datetime
import os
import platform
from pathlib import Path
from typing import Any

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")


def kind() -> str:
    """The machine in one line: cores and the CPU flags that decide inference speed, no host name."""
    return f"{os.cpu_count()} cores, {platform.machine()}, {' '.join(_flags()) or 'no AVX2'}"


def conditions(command: str, seed: int | None) -> dict[str, Any]:
    """Command, seed, date and machine kind of one measurement."""
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    return {"command": command, "seed": seed, "date": today, "machine": kind()}


def _flags() -> list[str]:
    info = Path("/proc/cpuinfo")
    words = set(info.read_text().split()) if info.exists() else set()
    return [flag for flag in FLAGS if flag in words]
