"""Entropy and coding rate losses against formulas, and two processes against one."""

import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed

from tokenizer.interfaces import InnerLoss, TrainingPass
from tokenizer.losses.codebook import EntropyLoss, TotalCodingRateLoss
from tokenizer.quantizers.gsq import GroupedSphericalQuantizer
from tokenizer.quantizers.lfq import LookupFreeQuantizer


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_entropy_loss_is_low_for_certain_tokens_and_many_codes():
    quantizer = LookupFreeQuantizer(3)
    same, spread = torch.ones(1, 4, 1, 3), torch.tensor([[1.0, 1, 1], [-1, 1, 1], [1, -1, 1], [1, 1, -1]]).view(1, 4, 1, 3)
    loss = EntropyLoss(temperature=0.1, batch_weight=1.0)
    assert value(loss, spread, quantizer).item() == pytest.approx(-math.log(4), abs=1e-5)
    assert value(loss, same, quantizer).item() == pytest.approx(0, abs=1e-5)
    assert value(loss, 0 * same, quantizer).item() == pytest.approx(0, abs=1e-5)  # unsure, but of all codes
    assert value(EntropyLoss(0.1, 0.0), 0 * same, quantizer).item() == pytest.approx(3 * math.log(2), abs=1e-5)
    assert value(EntropyLoss(0.1, 0.5), spread, quantizer).item() == pytest.approx(-0.5 * math.log(4), abs=1e-5)


def value(loss: InnerLoss, lookup_latents: torch.Tensor, quantizer: Any) -> torch.Tensor:
    """A loss that reads the quantizer and its output alone."""
    output: Any = SimpleNamespace(quantizer=SimpleNamespace(lookup_latents=lookup_latents))
    parts: Any = SimpleNamespace(quantizer=quantizer)
    term: torch.Tensor = loss(parts, TrainingPass(torch.empty(0), output, 1))
    return term


def coding_rate(rows: torch.Tensor, epsilon: float) -> torch.Tensor:
    rows = rows.double()
    count, width = rows.shape
    return 0.5 * torch.logdet(torch.eye(width, dtype=torch.double) + width / (count * epsilon**2) * rows.t() @ rows)


@pytest.mark.parametrize("epsilon", [0.1, 1.0])
def test_coding_rate_equals_the_float64_formula_with_its_gradients(epsilon):
    latents, codes = normal(2, 8, 3, 4).requires_grad_(), normal(20, 4, seed=1).requires_grad_()
    loss = value(TotalCodingRateLoss(epsilon), latents, SimpleNamespace(codes=codes))
    expected = -coding_rate(latents.flatten(0, 2), epsilon) - coding_rate(codes, epsilon)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for actual, reference in zip(torch.autograd.grad(loss, [latents, codes]), torch.autograd.grad(expected, [latents, codes]), strict=True):
        torch.testing.assert_close(actual, reference, atol=1e-5, rtol=1e-4)


def test_coding_rate_of_orthonormal_rows_is_known():
    """Z^T Z = 2 I for four rows of width 2: 1/2 logdet(2 I) = log 2 at epsilon 1."""
    rows = torch.eye(2).repeat(2, 1).view(1, 4, 1, 2)
    assert value(TotalCodingRateLoss(1.0), rows, SimpleNamespace(codes=None)).item() == pytest.approx(-math.log(2))


def test_coding_rate_is_finite_for_fewer_rows_than_channels():
    table = SimpleNamespace(codes=torch.zeros(3, 16))
    loss = value(TotalCodingRateLoss(1.0), torch.ones(1, 2, 1, 16).requires_grad_(), table)
    assert loss.isfinite()


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature="):
        EntropyLoss(temperature, 1.0)


def test_a_negative_batch_weight_and_an_epsilon_of_zero_are_refused():
    with pytest.raises(ValueError, match=r"batch_weight=-1\.0"):
        EntropyLoss(1.0, -1.0)
    with pytest.raises(ValueError, match=r"epsilon=0\.0"):
        TotalCodingRateLoss(0.0)


def losses_and_gradients(latents: torch.Tensor) -> list[torch.Tensor]:
    """Each loss of this process's part of a batch, and its gradient in the latents and in the codes."""
    torch.manual_seed(0)
    table, signs = GroupedSphericalQuantizer(6, 2, 20), LookupFreeQuantizer(6)
    latents = latents.clone().requires_grad_()
    compared = latents.view(*latents.shape[:2], 2, 3)
    terms = [
        value(EntropyLoss(0.7, 2.0), compared, table),
        value(EntropyLoss(0.7, 2.0), latents.unsqueeze(2), signs),
        value(TotalCodingRateLoss(0.5), compared, table),
    ]
    results = []
    for term in terms:
        gradients = torch.autograd.grad(term, [latents, table.codebook], allow_unused=True, retain_graph=True)
        results += [term.detach(), *(gradient for gradient in gradients if gradient is not None)]
    return results


def one_of_two(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    torch.save(losses_and_gradients(normal(2, 5, 6)[rank : rank + 1]), f"{folder}/{rank}.pt")
    torch.distributed.barrier()  # a process that leaves while the other still connects may end that one
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
def test_two_processes_see_the_joined_batch(tmp_path):
    """Data-parallel training averages gradients over processes: a process's latents count half, codes are averaged."""
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    processes = [subprocess.Popen([sys.executable, __file__, str(rank), str(tmp_path)], env=environment) for rank in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for joined, first, second in zip(losses_and_gradients(normal(2, 5, 6)), *parts, strict=True):
        if joined.dim() == 3:
            torch.testing.assert_close(torch.cat([first, second]) / 2, joined, atol=1e-6, rtol=1e-4)
        else:
            torch.testing.assert_close((first + second) / 2, joined, atol=1e-6, rtol=1e-4)


if __name__ == "__main__":
    one_of_two(int(sys.argv[1]), sys.argv[2])
