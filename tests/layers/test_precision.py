"""fp32 products keep all their digits inside `full_precision`, and the settings of the process are as before afterwards."""

from collections.abc import Iterator
from threading import Barrier, Thread
from typing import Any

import pytest
import torch

from tokenizer.layers.precision import full_precision, full_precision_unless_autocast

CPU = torch.device("cpu")
OPERATORS: list[Any] = [
    torch.backends.cuda.matmul,
    torch.backends.cudnn.conv,
    torch.backends.cudnn.rnn,
    torch.backends.mkldnn.matmul,
    torch.backends.mkldnn.conv,
]


def settings() -> list[object]:
    """Precision of products, of cuDNN, and of every operator; None where torch refuses to summarize operators that differ."""
    values: list[object] = [each.fp32_precision for each in OPERATORS]
    for get in (torch.get_float32_matmul_precision, lambda: torch.backends.cudnn.allow_tf32):
        try:
            values.append(get())
        except RuntimeError:
            values.append(None)
    return values


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The settings of torch's start after every test."""
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True
    for each in OPERATORS:
        each.fp32_precision = "none"
    torch.backends.cudnn.conv.fp32_precision = torch.backends.cudnn.rnn.fp32_precision = "tf32"


def test_autocast_and_low_matrix_precision_are_off_inside_and_back_afterwards():
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(64, 64, generator=generator), torch.randn(64, 64, generator=generator)
    torch.set_float32_matmul_precision("medium")
    with torch.autocast("cpu", torch.bfloat16):
        with full_precision(left.device):
            product = left @ right
            assert torch.get_float32_matmul_precision() == "highest"
        assert (left @ right).dtype == torch.bfloat16
    assert torch.get_float32_matmul_precision() == "medium"
    torch.testing.assert_close(product.double(), left.double() @ right.double(), atol=1e-4, rtol=0, check_dtype=True)


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
@pytest.mark.parametrize("cudnn", [True, False])
def test_products_and_convolutions_are_in_full_precision_inside(precision, cudnn):
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32 = cudnn
    before = settings()
    with full_precision(CPU), full_precision(CPU):
        assert torch.get_float32_matmul_precision() == "highest"
        assert not torch.backends.cudnn.allow_tf32
        assert {each.fp32_precision for each in OPERATORS} <= {"ieee", "none"}
    assert settings() == before


@pytest.mark.parametrize("place", range(len(OPERATORS)))
@pytest.mark.parametrize("value", ["tf32", "ieee"])
def test_settings_of_single_operators_are_respected(place, value):
    """torch refuses to read the common setting where these differ from it."""
    OPERATORS[place].fp32_precision = value
    before = settings()
    with full_precision(CPU):
        assert {each.fp32_precision for each in OPERATORS if each is not torch.backends.cudnn.rnn} <= {"ieee", "none"}
    assert settings() == before


def test_an_error_inside_leaves_nothing_changed():
    torch.set_float32_matmul_precision("high")
    before = settings()
    with pytest.raises(RuntimeError, match="inside"), full_precision(CPU):
        raise RuntimeError("inside")
    assert settings() == before


def test_threads_that_overlap_restore_the_settings_of_the_first():
    """The second thread enters before the first one leaves, and leaves after it."""
    torch.set_float32_matmul_precision("high")
    before, inside = settings(), []
    first_is_inside, second_is_inside, first_has_left = Barrier(2), Barrier(2), Barrier(2)

    def first():
        with full_precision(CPU):
            first_is_inside.wait(5)
            second_is_inside.wait(5)
        first_has_left.wait(5)

    def second():
        first_is_inside.wait(5)
        with full_precision(CPU):
            second_is_inside.wait(5)
            first_has_left.wait(5)
            inside.append(torch.get_float32_matmul_precision())

    threads = [Thread(target=first), Thread(target=second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert inside == ["highest"]
    assert settings() == before


def test_evaluation_is_in_full_precision_unless_autocast_is_on():
    torch.set_float32_matmul_precision("medium")
    with full_precision_unless_autocast(CPU):
        assert torch.get_float32_matmul_precision() == "highest"
        assert not torch.backends.cudnn.allow_tf32
    with torch.autocast("cpu", torch.bfloat16), full_precision_unless_autocast(CPU):
        assert torch.is_autocast_enabled("cpu")
        assert torch.get_float32_matmul_precision() == "medium"


@pytest.mark.gpu
def test_convolutions_on_a_gpu_keep_all_digits_inside():
    generator = torch.Generator().manual_seed(0)
    images, weight = torch.randn(2, 256, 16, 16, generator=generator), torch.randn(64, 256, 3, 3, generator=generator)
    torch.backends.cudnn.allow_tf32 = True
    with full_precision(torch.device("cuda")):
        inside = torch.nn.functional.conv2d(images.cuda(), weight.cuda()).cpu()
    expected = torch.nn.functional.conv2d(images.double(), weight.double())
    assert (inside.double() - expected).abs().max() < 1e-3  # TF32 has 10 bits: about 0.05 here
