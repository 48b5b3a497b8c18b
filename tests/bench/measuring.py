"""Measurements of benchmarks: medians of all implementations, run in turns in one process, and the memory that one call adds.

On the CPU, memory is the high-water mark of the process's resident set (Linux: VmHWM, reset through clear_refs, after malloc_trim).
"""

import ctypes
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

Work = Callable[[], object]


def medians(works: dict[str, Work], seconds: float) -> dict[str, float]:
    """Median seconds of each, in turns: at least three turns, at most 25, within `seconds` if possible."""
    times: dict[str, list[float]] = {name: [] for name in works}
    end = time.perf_counter() + seconds
    while any(len(values) < 3 for values in times.values()) or (time.perf_counter() < end and all(len(v) < 25 for v in times.values())):
        for name, work in works.items():
            times[name].append(once(work))
    return {name: statistics.median(values) for name, values in times.items()}


def once(work: Work) -> float:
    """Seconds of one call, including its work on a GPU."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def status(field: str) -> int:
    """Bytes in a field of the process's status file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def peak_mebibytes(work: Work, warmed: bool = False) -> float:
    """Increase of the memory in use during the second call: of the GPU if there is one, else of the resident set.

    Args:
        work: function to call.
        warmed: whether it has been called before, so that a first call is not needed.
    """
    if not warmed:
        work()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    work()
    return max(0, status("VmHWM") - before) / 2**20
