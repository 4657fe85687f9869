"""What this machine is good at, measured: device, number format, allocator. Imports torch."""

from __future__ import annotations

import ctypes
import platform
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch


@dataclass(frozen=True, slots=True)
class Device:
    """The device work runs on, the number format that is fastest there, and the rates measured (GFLOP/s)."""

    name: str
    dtype: torch.dtype
    rates: dict[str, float]

    def describe(self) -> str:
        """One line for the terminal and the report."""
        rates = ", ".join(f"{key} {value:,.0f} GFLOP/s" for key, value in self.rates.items())
        return f"{self.name}, {str(self.dtype).removeprefix('torch.')} ({rates})"


@cache
def device() -> Device:
    """Return the best device here; bf16 only where a matrix product in it is measurably faster than in fp32."""
    keep_large_allocations()
    if torch.cuda.is_available():
        return Device("cuda", torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32, {})
    rates = _rates()
    faster = rates["bf16"] > 1.2 * rates["fp32"]
    return Device("cpu", torch.bfloat16 if faster else torch.float32, rates)


def _rates(repeats: int = 24) -> dict[str, float]:
    """Best of products of the shape of a small model's feed-forward layer, in GFLOP/s; about 0.2 s.

    The formats take turns, so that another process that is busy for a moment slows both, and the choice stays the
    same from one start to the next: a run that goes on must not change its number format.
    """
    formats = {"bf16": torch.bfloat16, "fp32": torch.float32}
    sides = {key: (torch.ones(512, 576, dtype=d), torch.ones(1536, 576, dtype=d)) for key, d in formats.items()}
    seconds: dict[str, list[float]] = {key: [] for key in formats}
    for _ in range(repeats):
        for key, (a, b) in sides.items():
            start = time.perf_counter()
            torch.nn.functional.linear(a, b)
            seconds[key].append(time.perf_counter() - start)
    return {key: 2 * 512 * 576 * 1536 / min(taken) / 1e9 for key, taken in seconds.items()}


@cache
def keep_large_allocations() -> bool:
    """Tell glibc to keep large blocks instead of giving each back to the kernel; True where it could be told.

    Training on a CPU otherwise spends half of its time in page faults: every activation is mapped anew.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    trim_threshold, mmap_threshold = -1, -3  # malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
    libc = ctypes.CDLL("libc.so.6")
    gigabyte = 1 << 30
    return bool(libc.mallopt(mmap_threshold, gigabyte) and libc.mallopt(trim_threshold, 2 * gigabyte - 1))


def free_memory(place: torch.device) -> int | None:
    """Return the bytes that may still be taken on a device; of a container, what its limit leaves. None: unknown."""
    if place.type == "cuda":
        unused = torch.cuda.memory_reserved(place) - torch.cuda.memory_allocated(place)
        return torch.cuda.mem_get_info(place)[0] + unused
    facts, group = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
    if place.type != "cpu" or not facts.is_file():
        return None
    lines = dict(line.split(":", 1) for line in facts.read_text().splitlines())
    free = 1024 * int(lines["MemAvailable"].split()[0])
    limit = _text(group / "memory.max")
    if not limit.isdigit():
        return free
    files = [line for line in _text(group / "memory.stat").splitlines() if line.startswith("inactive_file ")]
    used = int(_text(group / "memory.current") or 0) - sum(int(line.split()[1]) for line in files)  # files may go
    return min(free, int(limit) - used)


def _text(path: Path) -> str:
    return path.read_text().strip() if path.is_file() else ""
