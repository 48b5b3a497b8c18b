"""fp32 that stays fp32: distances, entropies and determinants lose codes to bf16 and TF32.

With random unit vectors a bf16 product finds the nearest of 8192 codes for only 96 % of the rows.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """No autocast on `device`, and no TF32 or bf16 inside fp32 matrix products, whatever the trainer chose."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
