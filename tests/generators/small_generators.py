"""Small autoregressive generators with random weights, and tokens for them."""

from dataclasses import asdict, replace
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from experiments.config.compose import CONF
from experiments.config.files import read_yaml
from tokenizer.generators.ar import AutoregressiveGenerator
from tokenizer.generators.heads import DepthTransformer, ParallelHeads, SubTokenHead
from tokenizer.interfaces import Generator, TokenBatch, TokenSpec
from tokenizer.pretrained import build

PLAIN = TokenSpec(codebook_size=11, groups=1, num_tokens=6, grid=(2, 3), num_classes=3)
GROUPED = replace(PLAIN, codebook_size=8, groups=8)
IMAGENET = TokenSpec(codebook_size=16384, groups=1, num_tokens=256, grid=(16, 16), num_classes=1000)
LARGE = replace(PLAIN, codebook_size=2**18)
CASES = {
    "plain": (PLAIN, "parallel", None),
    "plain with a depth head": (PLAIN, "depth", None),
    "groups in parallel": (GROUPED, "parallel", None),
    "groups in depth": (GROUPED, "depth", None),
    "bits in parallel": (LARGE, "parallel", [6, 12]),
    "bits in depth": (LARGE, "depth", [6, 12]),
    "bits of groups in depth": (replace(GROUPED, groups=2), "depth", [1, 2]),
}


def make_head(kind: str, tokens: TokenSpec, bits: list[int] | None = None, width: int = 16) -> SubTokenHead:
    if kind == "parallel":
        return ParallelHeads(tokens, width, bits)
    return DepthTransformer(tokens, width, attention_heads=2, depth=2, dropout=0.1, bits=bits)


def make(case: str = "plain", positions: str = "learned", start: bool = False) -> AutoregressiveGenerator:
    """In eval mode; with `start` initialized by reset_parameters, else with outputs that are not zero."""
    tokens, kind, bits = CASES[case]
    torch.manual_seed(0)
    generator = AutoregressiveGenerator(tokens, 16, 2, 2, positions, make_head(kind, tokens, bits), dropout=0.1, class_dropout=0.1)
    if not start:
        for name, parameter in generator.named_parameters():
            if "norm" not in name:
                torch.nn.init.normal_(parameter, std=0.3)
    return generator.eval()


def size_of(name: str) -> dict[str, Any]:
    """Width, depth and number of heads in a file of conf/transformer."""
    return read_yaml(CONF / "transformer" / f"{name}.yaml")


def from_files(generator: str, head: str, tokens: TokenSpec, size: dict[str, Any], **changed: object) -> Generator:
    """The generator of two files of conf/generator and conf/head for these tokens, of a size and with changed arguments."""
    config = {
        "tokens": {"_target_": "tokenizer.interfaces.TokenSpec", **asdict(tokens)},
        "generator": {**read_yaml(CONF / "generator" / f"{generator}.yaml"), **changed},
        "generator_size": size,
        "head": read_yaml(CONF / "head" / f"{head}.yaml"),
    }
    return build(OmegaConf.to_container(OmegaConf.create(config), resolve=True)["generator"])


def batch_for(tokens: TokenSpec, rows: int = 3, seed: int = 1) -> TokenBatch:
    drawn = torch.Generator().manual_seed(seed)
    indices = torch.randint(tokens.codebook_size, (rows, tokens.num_tokens, tokens.groups), generator=drawn)
    return TokenBatch(indices, torch.randint(tokens.num_classes, (rows,), generator=drawn), tokens.layout)


def flat_logits(generator: AutoregressiveGenerator, batch: TokenBatch) -> Tensor:
    """(B, N, all sub-vocabularies)."""
    return torch.cat(generator.logits(batch), -1)
