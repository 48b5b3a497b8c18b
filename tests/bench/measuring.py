"""How benchmarks measure: all sides in one process, taking turns, medians; memory above the level before one call.

On the CPU memory is the high-water mark of the process's resident set (Linux: VmHWM, reset through clear_refs, after malloc_trim).
"""

import ctypes
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

Work = Callable[[], object]


def medians(works: dict[str, Work], seconds: float) -> dict[str, float]:
    """Median seconds of each, taking turns: three turns at least, and as many as the time allows."""
    times: dict[str, list[float]] = {name: [] for name in works}
    end = time.perf_counter() + seconds
    while any(len(values) < 3 for values in times.values()) or (time.perf_counter() < end and all(len(v) < 25 for v in times.values())):
        for name, work in works.items():
            times[name].append(once(work))
    return {name: statistics.median(values) for name, values in times.items()}


def once(work: Work) -> float:
    """Seconds of one call, on a GPU with all that it started there."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def status(field: str) -> int:
    """Bytes that the process's status file tells."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def peak_mebibytes(work: Work, warmed: bool = False) -> float:
    """Growth of the memory in use during a call, the second one: of the GPU's where there is one, else of the resident set.

    Args:
        work: what is called.
        warmed: it was called before, and the first call is not needed.
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
