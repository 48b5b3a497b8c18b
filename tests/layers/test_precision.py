"""fp32 products keep all their digits inside `full_precision`."""

import pytest
import torch

from tokenizer.layers.precision import full_precision


def test_autocast_and_low_matrix_precision_are_off_inside_and_back_afterwards():
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(64, 64, generator=generator), torch.randn(64, 64, generator=generator)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            with full_precision(left.device):
                product = left @ right
                assert torch.get_float32_matmul_precision() == "highest"
            assert (left @ right).dtype == torch.bfloat16
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    torch.testing.assert_close(product.double(), left.double() @ right.double(), atol=1e-4, rtol=0, check_dtype=True)


def test_an_error_inside_leaves_nothing_changed():
    before = torch.get_float32_matmul_precision()
    with pytest.raises(RuntimeError, match="inside"), full_precision(torch.device("cpu")):
        raise RuntimeError("inside")
    assert torch.get_float32_matmul_precision() == before
