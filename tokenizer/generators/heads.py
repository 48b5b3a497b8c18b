"""Heads of a generator: splitting a token into sub-tokens, embedding them for the trunk, and predicting them from its output.

Sources: one output per token as in LlamaGen, arXiv:2406.06525; an index of 2^18 values in parts of 6 and 12 bits, the second predicted
given the first by two small layers, as in Open-MAGVIT2, Luo et al. 2024, arXiv:2409.04410 (used by MergeVQ, arXiv:2504.00999
appendix A.2), here also for the groups of a token. In Open-MAGVIT2's released code the first part has the least significant bits
(`bits_from=low`).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tokenizer.generators.kv_cache import KVCache
from tokenizer.interfaces import Configurable, Pick, TokenSpec
from tokenizer.layers.checks import ArgumentError, require_at_least, require_indices, require_one_of, require_rate
from tokenizer.layers.llama import HIDDEN_MULTIPLE, INITIAL_STD, NORM_EPS, LlamaBlock, rms_norm
from tokenizer.layers.trunk import Trunk

MAX_LOGITS = 2**26  # 256 MiB. Every chunk adds to the gradient of the output weights: chunks of a quarter of this size took 1.5x as long.
# Tokens per call of the depth transformer: attention on a GPU accepts fewer than 2^16 sequences, and its gradient stores 128 positions of
# each, whatever their length (https://github.com/pytorch/pytorch/issues/146704).
MAX_ROWS = 2**13
BitsFrom = Literal["high", "low"]
MOST_BITS = 62  # of an index in int64


def _row_nll(states: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """(M, W) states, (K, W) output weights and (M,) targets to (M,) nats, in fp32."""
    return F.cross_entropy(F.linear(states, weight).float(), targets, reduction="none")


class SubTokenHead(Configurable, ABC):
    """Head for the S sub-tokens of a token: its G indices, or parts of their bits.

    Embeddings and outputs of all sub-vocabularies are two tables with a row for each value.

    Args:
        tokens: tokens to predict.
        width: W of the trunk.
        bits: bits of the parts that each index is split into, in the order of prediction; None keeps it whole.
        bits_from: end of the index that the first part is taken from. high: its most significant bits; low: its least significant bits.

    Attributes:
        sizes: sizes of the S sub-vocabularies.
        width: W.
        tokens: tokens to predict.
        takes_residual: whether the input is the residual stream of the trunk; else its normalized output.

    Raises:
        ValueError: the bits do not sum to those of an index, or `bits_from` is unknown or has no bits to order.
    """

    takes_residual = False

    def __init__(self, tokens: TokenSpec, width: int, bits: Sequence[int] | None, bits_from: BitsFrom = "high") -> None:
        super().__init__()
        require_at_least("head.width", width, 1)
        if bits is not None and (min(bits, default=0) < 1 or sum(bits) > MOST_BITS or 2 ** sum(bits) != tokens.codebook_size):
            raise ArgumentError("head.bits", list(bits), f"positive numbers whose sum gives 2^sum = codebook_size={tokens.codebook_size}")
        require_one_of("head.bits_from", bits_from, get_args(BitsFrom))
        if bits is None and bits_from != "high":
            raise ValueError(f"bits_from={bits_from}: no effect on an index that is kept whole; set head.bits or head.bits_from=high")
        self.tokens = tokens
        self.width = width
        self.bits = tuple(bits) if bits is not None else None
        self.bits_from = bits_from
        self.sizes = (tuple(2**part for part in bits) if bits is not None else (tokens.codebook_size,)) * tokens.groups
        self.embedding = nn.Embedding(sum(self.sizes), width)
        self.output = nn.Linear(width, sum(self.sizes), bias=False)

    @abstractmethod
    def states(self, hidden: Tensor, sub_tokens: Tensor) -> Sequence[Tensor]:
        """Inputs of the output layer: (M, W) input and (M, S) true sub-tokens to S of (M, W)."""

    @abstractmethod
    def sample(self, hidden: Tensor, pick: Pick) -> Tensor:
        """(R, n, W) output of the trunk to (R, n, S) sub-tokens drawn by `pick`."""

    def reset_parameters(self) -> None:
        """Initialize the embeddings at random and the outputs with zeros, so that all values are equally likely."""
        nn.init.normal_(self.embedding.weight, std=INITIAL_STD)
        nn.init.zeros_(self.output.weight)

    def split(self, indices: Tensor) -> Tensor:
        """(..., G) indices of any integer type to (..., S) int64 sub-tokens.

        Raises:
            ValueError: wrong shape or type, or an index outside [0, V).
        """
        indices = require_indices(indices, self.tokens.groups, self.tokens.codebook_size, any_rank=True)
        if self.bits is None:
            return indices
        parts = [(indices >> shift) & (2**part - 1) for shift, part in zip(self._shifts(self.bits), self.bits, strict=True)]
        return torch.stack(parts, -1).flatten(-2)

    def join(self, sub_tokens: Tensor) -> Tensor:
        """(..., S) sub-tokens to (..., G) indices."""
        if self.bits is None:
            return sub_tokens
        parts = sub_tokens.view(*sub_tokens.shape[:-1], self.tokens.groups, len(self.bits))
        shifts = self._shifts(self.bits)
        indices: Tensor = parts[..., 0] << shifts[0]
        for part, shift in zip(parts.unbind(-1)[1:], shifts[1:], strict=True):
            indices = indices | (part << shift)
        return indices

    def _shifts(self, bits: Sequence[int]) -> list[int]:
        """Number of less significant bits below each part."""
        if self.bits_from == "low":
            return [sum(bits[:place]) for place in range(len(bits))]
        return [sum(bits[place + 1 :]) for place in range(len(bits))]

    def embed_parts(self, sub_tokens: Tensor) -> list[Tensor]:
        """The first k sub-tokens (..., k) to k embeddings (..., W)."""
        # One lookup per part of the table: offsets into the whole table would be a tensor that has to be on every device.
        tables = torch.split(self.embedding.weight, list(self.sizes))
        return [F.embedding(part, table) for part, table in zip(sub_tokens.unbind(-1), tables, strict=False)]

    def embed(self, sub_tokens: Tensor) -> Tensor:
        """(..., S) to (..., W), the input of the trunk: the sum of the sub-tokens' embeddings."""
        total, *others = self.embed_parts(sub_tokens)
        for other in others:
            total = total + other
        return total

    def logits(self, hidden: Tensor, sub_tokens: Tensor) -> list[Tensor]:
        """(M, W) and (M, S) to S tensors (M, sizes[s])."""
        weights = torch.split(self.output.weight, list(self.sizes))
        return [F.linear(states, weight) for states, weight in zip(self.states(hidden, sub_tokens), weights, strict=True)]

    def nll(self, hidden: Tensor, sub_tokens: Tensor) -> Tensor:
        """(M, W) and (M, S) to (M, S) nats, fp32.

        At most `MAX_LOGITS` logits exist at a time; if there are more in total, they are recomputed in the backward pass.
        """
        recompute = torch.is_grad_enabled() and len(hidden) * sum(self.sizes) > MAX_LOGITS
        columns = []
        weights = torch.split(self.output.weight, list(self.sizes))
        for states, weight, targets in zip(self.states(hidden, sub_tokens), weights, sub_tokens.unbind(-1), strict=True):
            rows = max(1, MAX_LOGITS // len(weight))
            chunks: list[Tensor] = []
            for state_chunk, target_chunk in zip(torch.split(states, rows), torch.split(targets, rows), strict=True):
                if recompute:
                    chunks.append(checkpoint(_row_nll, state_chunk, weight, target_chunk, use_reentrant=False, preserve_rng_state=False))
                else:
                    chunks.append(_row_nll(state_chunk, weight, target_chunk))
            columns.append(torch.cat(chunks))
        return torch.stack(columns, -1)


class ParallelHeads(SubTokenHead):
    """All sub-tokens of a token are predicted independently, from the trunk alone. Arguments as for `SubTokenHead`."""

    def __init__(self, tokens: TokenSpec, width: int, bits: Sequence[int] | None = None, bits_from: BitsFrom = "high") -> None:
        super().__init__(tokens, width, bits, bits_from)
        self.reset_parameters()

    def states(self, hidden: Tensor, sub_tokens: Tensor) -> Sequence[Tensor]:
        """The output of the trunk, (M, W), S times."""
        return [hidden] * len(self.sizes)

    def sample(self, hidden: Tensor, pick: Pick) -> Tensor:
        """(R, n, W) to (R, n, S)."""
        logits = torch.split(self.output(hidden), list(self.sizes), -1)
        return torch.stack([pick(part, number) for number, part in enumerate(logits)], -1)


class DepthTransformer(SubTokenHead):
    """A small causal transformer over the sub-tokens of one token: each is predicted given the trunk and the previous ones.

    Its sequence is the residual stream of the trunk, without a norm, then the embeddings of all sub-tokens but the last. With a single
    sub-token there are no blocks, and the input is the normalized output of the trunk.

    Args:
        tokens: tokens to predict.
        width: W of the trunk and of the blocks.
        attention_heads: attention heads of the blocks, a divisor of the width.
        depth: number of blocks, at least 1.
        dropout: dropout rate of each block.
        bits: see `SubTokenHead`.
        bits_from: see `SubTokenHead`.
        feedforward_multiple: see `LlamaBlock`.
        norm_eps: epsilon of all norms.

    Raises:
        ValueError: depth below 1, heads that do not divide the width, or wrong bits.
    """

    def __init__(
        self,
        tokens: TokenSpec,
        width: int,
        attention_heads: int,
        depth: int = 2,
        dropout: float = 0.1,
        bits: Sequence[int] | None = None,
        bits_from: BitsFrom = "high",
        feedforward_multiple: int = HIDDEN_MULTIPLE,
        norm_eps: float = NORM_EPS,
    ) -> None:
        super().__init__(tokens, width, bits, bits_from)
        require_at_least("head.depth", depth, 1)
        require_rate("head.dropout", dropout)
        self.attention_heads = attention_heads
        several = self.takes_residual = len(self.sizes) > 1
        sizes = (width, attention_heads, dropout, feedforward_multiple, norm_eps)
        self.blocks = Trunk([LlamaBlock(*sizes) for _ in range(depth if several else 0)])
        self.places = nn.Parameter(torch.empty(len(self.sizes), width)) if several else None
        self.norm = rms_norm(width, norm_eps) if several else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialize embeddings and blocks at random and the outputs with zeros."""
        super().reset_parameters()
        self.blocks.reset_parameters()
        if self.places is not None and self.norm is not None:
            nn.init.normal_(self.places, std=self.width**-0.5)
            self.norm.reset_parameters()

    def states(self, hidden: Tensor, sub_tokens: Tensor) -> Sequence[Tensor]:
        """(M, W) and (M, S) to S of (M, W), in one pass."""
        if self.places is None or self.norm is None:
            return [hidden]
        features = torch.stack([hidden, *self.embed_parts(sub_tokens[:, :-1])], 1) + self.places
        states: Sequence[Tensor] = self.norm(torch.cat([self.blocks(rows)[0] for rows in torch.split(features, MAX_ROWS)])).unbind(1)
        return states

    def sample(self, hidden: Tensor, pick: Pick) -> Tensor:
        """(R, n, W) to (R, n, S), one sub-token after another."""
        features, choices = hidden.flatten(0, 1)[:, None], []
        shape = (len(self.blocks), len(features), self.attention_heads, len(self.sizes), self.width // self.attention_heads)
        cache = KVCache(shape, hidden.dtype, hidden.device)
        tables = zip(torch.split(self.embedding.weight, list(self.sizes)), torch.split(self.output.weight, list(self.sizes)), strict=True)
        for number, (embedding, output) in enumerate(tables):
            if self.places is not None:
                features = features + self.places[number]
            for block, cache_update in zip(self.blocks, cache.layer_updates(), strict=True):
                features = block(features, cache_update=cache_update)
            cache.advance()
            if self.norm is not None:
                features = self.norm(features)
            choice = pick(F.linear(features, output).view(*hidden.shape[:2], -1), number)
            choices.append(choice)
            features = F.embedding(choice.flatten()[:, None], embedding)
        return torch.stack(choices, -1)
