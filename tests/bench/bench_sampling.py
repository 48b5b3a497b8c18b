"""Sampling with the cache against a loop without one, and against the time to read the weights.

The loop without a cache runs the whole sequence so far through the same generator for every token and makes the same choices: equal
indices are asserted (on a GPU in bf16 the fraction of equal indices is printed, as sums round differently). With guidance there are two
rows per sample. The lower bound of a step is the number of bytes of all parameters that it reads, divided by the measured bandwidth of
a large copy; keys, values and arithmetic are not included, so only small batches can approach it.

Run: python tests/bench/bench_sampling.py [small | b | l | xl | xxl]
"""

import os
import sys
from collections.abc import Callable
from functools import partial

import torch
from measuring import medians, peak_mebibytes
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from tokenizer.generators.ar import AutoregressiveGenerator
from tokenizer.generators.heads import ParallelHeads
from tokenizer.generators.sample import IndexSampler
from tokenizer.generators.sampling import Guidance, Sampling, choose, filtered, guided, token_seeds
from tokenizer.interfaces import TokenSpec

SIZES = {"small": (384, 6, 6), "b": (768, 12, 12), "l": (1024, 24, 16), "xl": (1280, 36, 20), "xxl": (1536, 48, 24)}  # width, depth, heads
SAMPLING = Sampling(temperature=1.0, top_k=0, top_p=1.0, guidance=Guidance(2.0), seed=0)
SECONDS_PER_CASE = 5.0


def make(size: str, device: torch.device) -> AutoregressiveGenerator:
    """A generator of 36 tokens with 4096 codes, or of 256 tokens with 16384 codes as in the papers, with random weights everywhere."""
    codebook_size, side = (4096, 6) if size == "small" else (16384, 16)
    tokens = TokenSpec(codebook_size, groups=1, num_tokens=side * side, grid=(side, side), num_classes=1000)
    width, depth, attention_heads = SIZES[size]
    with device:
        generator = AutoregressiveGenerator(tokens, width, depth, attention_heads, "learned", ParallelHeads(tokens, width), 0.0, 0.1)
    random = torch.Generator(device).manual_seed(0)
    nn.init.normal_(generator.head.output.weight, std=0.1, generator=random)
    return generator.eval().to(torch.bfloat16 if device.type == "cuda" else torch.float32)


@torch.inference_mode()
def without_cache(generator: AutoregressiveGenerator, labels: Tensor, numbers: Tensor) -> Tensor:
    """The same samples from a loop over sequences of growing length."""
    tokens, positions = generator.tokens, generator.position_table
    assert positions is not None
    classes = generator.class_embedding(torch.cat([labels, torch.full_like(labels, generator.null_label)]))[:, None]
    seeds = token_seeds(SAMPLING.seed, numbers.tolist(), tokens.num_tokens, 1).to(labels.device)
    scales = torch.tensor(SAMPLING.guidance.scales(tokens.num_tokens), dtype=torch.float64, device=labels.device)
    indices = torch.empty(len(labels), 0, 1, dtype=torch.int64, device=labels.device)
    for place in range(tokens.num_tokens):
        features = torch.cat([classes, generator.head.embed(generator.head.split(torch.cat([indices, indices])))], 1)
        features = features + positions[: place + 1]
        for block in generator.blocks:
            features = block(features, None)
        conditional, unconditional = generator.head.output(generator.norm(features[:, -1:])).chunk(2)
        logits = filtered(guided(conditional, unconditional, scales[place : place + 1, None]), SAMPLING)
        indices = torch.cat([indices, choose(logits, seeds[:, place])[..., None]], 1)
    return indices


def copy_bandwidth(device: torch.device) -> float:
    """Bytes per second, read plus written, of a 256 MiB copy."""
    source = torch.zeros(2**26, device=device)
    target = torch.zeros_like(source)
    return 2 * source.nbytes / medians({"copy": partial(target.copy_, source)}, 1.0)["copy"]


def lower_bound(generator: AutoregressiveGenerator, bandwidth: float) -> float:
    """Seconds to read the blocks and the output layer once; only single rows of the embedding tables are read."""
    read = [*generator.blocks.parameters(), *generator.norm.parameters(), generator.head.output.weight]
    return sum(parameter.nbytes for parameter in read) / bandwidth


def case(generator: AutoregressiveGenerator, batch_size: int, device: torch.device) -> tuple[dict[str, Callable[[], Tensor]], str]:
    """The implementations, and the fraction of equal indices."""
    labels = (torch.arange(batch_size) % 1000).to(device)
    numbers = torch.arange(batch_size)
    works = {
        "cache": partial(IndexSampler(generator, SAMPLING), labels, numbers),
        "no cache": partial(without_cache, generator, labels, numbers),
    }
    if device.type == "cuda":
        works["no graph"] = partial(IndexSampler(generator, SAMPLING, "eager"), labels, numbers)
    indices = {name: work() for name, work in works.items()}
    equal = (indices["cache"] == indices["no cache"]).double().mean().item()
    assert equal == 1 or device.type == "cuda", f"{equal:.4f} of the indices are equal"
    return works, f"{equal:.2%}"


def main() -> None:
    """Print the table."""
    size = sys.argv[1] if len(sys.argv) > 1 else "small"
    if size not in SIZES:
        raise SystemExit(f"{size}: expected one of {', '.join(SIZES)}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator, bandwidth = make(size, device), copy_bandwidth(device)
    bound, count = lower_bound(generator, bandwidth), generator.tokens.num_tokens
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}"
    parameters = sum(parameter.numel() for parameter in generator.parameters())
    table = Table(
        title=f"GPT {size}, {parameters / 1e6:.0f} M parameters, {count} tokens, guided; {where}, torch {torch.__version__}; "
        f"copy {bandwidth / 1e9:.0f} GB/s, lower bound {1e3 * bound:.3f} ms per step"
    )
    for column in (
        "batch",
        "implementation",
        "tokens/s",
        "ms per step",
        "ratio to the lower bound",
        "speedup over no cache",
        "MiB",
        "equal indices",
    ):
        table.add_column(column, justify="right")
    for batch_size in (1, 64):
        works, equal = case(generator, batch_size, device)
        memory = {name: peak_mebibytes(work, warmed=True) for name, work in works.items()}
        seconds = medians(works, SECONDS_PER_CASE)
        for name, duration in seconds.items():
            step, speedup = duration / count, seconds["no cache"] / duration
            row = [
                f"{batch_size * count / duration:.0f}",
                f"{1e3 * step:.3f}",
                f"{step / bound:.1f}x",
                f"{speedup:.1f}x",
                f"{memory[name]:.0f}",
                equal,
            ]
            table.add_row(str(batch_size), name, *row)
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
