"""Quantizers against a plain PyTorch version and vector-quantize-pytorch: time, memory, equality with float64.

All implementations run on the CPU with all threads; `measuring` describes the method.

Run: python tests/bench/bench_quantizers.py
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from measuring import medians, peak_mebibytes
from rich.console import Console
from rich.table import Table
from torch import Tensor
from vector_quantize_pytorch import LFQ, VectorQuantize

from tokenizer.interfaces import TrainingPass
from tokenizer.losses.codebook import EntropyLoss
from tokenizer.quantizers.gsq import GroupedSphericalQuantizer
from tokenizer.quantizers.lfq import LookupFreeQuantizer
from tokenizer.quantizers.lookup import nearest_code

LOOKUPS = [(4096, 8192, 8), (1024, 16384, 64), (256, 262144, 8), (4096, 8192, 1)]
SECONDS_PER_CASE = 5.0
TEMPERATURE = 0.01


@dataclass(frozen=True)
class Case:
    """One row of the table. `agreement` compares our result with float64."""

    name: str
    goal: str
    tessera: Callable[[], object]
    others: dict[str, Callable[[], object]]
    agreement: Callable[[], str]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def plain_lookup(latents: Tensor, codebook: Tensor) -> Tensor:
    """The common implementation: all squared distances at once."""
    distances = latents.square().sum(1, keepdim=True) + codebook.square().sum(1) - 2 * latents @ codebook.t()
    return distances.argmin(1)


def exact_lookup(latents: Tensor, codebook: Tensor) -> Tensor:
    """float64, from differences, in chunks of rows."""
    indices = []
    for rows in latents.double().split(max(1, 2**22 // codebook.numel())):
        indices.append((rows[:, None] - codebook.double()).square().sum(-1).argmin(1))
    return torch.cat(indices)


def matches(indices: Tensor, expected: Tensor) -> str:
    return f"{(indices.flatten() == expected.flatten()).sum().item()}/{expected.numel()}"


def lookup_case(n: int, V: int, d: int) -> Case:
    latents, codebook = drawn(n, d), drawn(V, d, seed=1)
    peer = VectorQuantize(dim=d, codebook_size=V).eval()
    peer._codebook.embed.data.copy_(codebook[None])
    return Case(
        f"lookup {n} x {V}, d {d}",
        "5x" if d == 64 else "10x",
        lambda: nearest_code(latents, codebook),
        {"plain": lambda: plain_lookup(latents, codebook), "v-q-p": lambda: peer(latents[None])},
        lambda: matches(nearest_code(latents, codebook), exact_lookup(latents, codebook)),
    )


def grouped_case() -> Case:
    torch.manual_seed(0)
    latents = drawn(1, 1024, 64)
    quantizer = GroupedSphericalQuantizer(64, 8, 8192).eval()
    peer = VectorQuantize(dim=64, codebook_dim=8, heads=8, codebook_size=8192, use_cosine_sim=True).eval()
    peer._codebook.embed.data.copy_(quantizer.codebook.data[None])
    rows, codes = F.normalize(latents.view(-1, 8), dim=-1), F.normalize(quantizer.codebook.data, dim=-1)
    return Case(
        "gsq encode, 8 groups of 8, V 8192, 1024 tokens",
        "10x",
        lambda: quantizer(latents),
        {"plain": lambda: codes[plain_lookup(rows, codes)], "v-q-p": lambda: peer(latents)},
        lambda: matches(quantizer(latents).indices, exact_lookup(rows, codes)),
    )


def corners(D: int) -> Tensor:
    return 2.0 * (torch.arange(2**D)[:, None] >> torch.arange(D) & 1) - 1


def plain_entropy(latents: Tensor, codes: Tensor) -> Tensor:
    """Both entropies from all n x V probabilities."""
    logarithms = (2 * latents @ codes.t() / TEMPERATURE).log_softmax(-1)
    probabilities = logarithms.exp()
    mean = probabilities.mean(0)
    return -(probabilities * logarithms).sum(-1).mean() + torch.special.xlogy(mean, mean.clamp(min=1e-38)).sum()


def gradient(loss: Callable[[Tensor], Tensor], latents: Tensor) -> Tensor:
    leaf = latents.clone().requires_grad_()
    loss(leaf).backward()
    assert leaf.grad is not None
    return leaf.grad


def entropy_of(loss: EntropyLoss, quantizer: LookupFreeQuantizer, latents: Tensor) -> Tensor:
    parts: Any = SimpleNamespace(quantizer=quantizer)
    output: Any = SimpleNamespace(quantizer=SimpleNamespace(lookup_latents=latents.unsqueeze(2)))
    return loss(parts, TrainingPass(latents, output, 1))


def entropy_case() -> Case:
    latents, codes = 0.02 * drawn(1, 256, 18), corners(18)
    quantizer, loss = LookupFreeQuantizer(18), EntropyLoss(TEMPERATURE, 1.0)
    peer = LFQ(dim=18, codebook_size=2**18, entropy_loss_weight=1.0, commitment_loss_weight=0.0, diversity_gamma=1.0).train()

    def agreement() -> str:
        """Largest difference of gradients, on 12 channels, where all codes fit in memory in float64."""
        small, table = latents[..., :12], corners(12).double()
        actual = gradient(lambda leaf: entropy_of(loss, LookupFreeQuantizer(12), leaf), small)
        expected = gradient(lambda leaf: plain_entropy(leaf[0], table), small.double())
        return f"gradient {(actual - expected).abs().max().item():.0e} of {expected.abs().max().item():.0e}"

    return Case(
        "lfq entropy 2^18, 256 tokens, forward and backward",
        "300x",
        lambda: gradient(lambda leaf: entropy_of(loss, quantizer, leaf), latents),
        {
            "plain": lambda: gradient(lambda leaf: plain_entropy(leaf[0], codes), latents),
            "v-q-p": lambda: gradient(lambda leaf: peer(leaf, inv_temperature=1 / TEMPERATURE)[2], latents),
        },
        agreement,
    )


def main() -> None:
    """Print the table."""
    console = Console(width=200)
    table = Table(title=f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f} at the start, torch {torch.__version__}")
    for column in (
        "case",
        "tessera ms",
        "plain ms",
        "v-q-p ms",
        "times faster than the best",
        "goal",
        "tessera MiB",
        "plain MiB",
        "v-q-p MiB",
        "as float64",
    ):
        table.add_column(column, justify="left" if column == "case" else "right")
    for case in [*(lookup_case(*shape) for shape in LOOKUPS), grouped_case(), entropy_case()]:
        works = {"tessera": case.tessera, **case.others}
        memory = {name: peak_mebibytes(work) for name, work in works.items()}
        seconds = medians(works, SECONDS_PER_CASE)
        best = min(seconds[name] for name in case.others)
        table.add_row(
            case.name,
            *(f"{1e3 * seconds[name]:.1f}" for name in works),
            f"{best / seconds['tessera']:.1f}x",
            case.goal,
            *(f"{memory[name]:.1f}" for name in works),
            case.agreement(),
        )
    console.print(table)


if __name__ == "__main__":
    main()
