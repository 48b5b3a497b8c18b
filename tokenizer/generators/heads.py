"""How a token is written as sub-tokens, read by a generator's trunk, and predicted from what the trunk says.

Sources: one output per token as in LlamaGen, arXiv:2406.06525; an index of 2^18 values in parts of 6 and 12 bits, the second predicted
given the first by two small layers, as in Open-MAGVIT2, Luo et al. 2024, arXiv:2409.04410 (used by MergeVQ, arXiv:2504.00999
appendix A.2), here for the groups of a token too.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tokenizer.generators.kv_cache import KVCache
from tokenizer.interfaces import Configurable, Pick, TokenSpec
from tokenizer.layers.transformer import INITIAL_DEVIATION, LlamaBlock

LOGITS_AT_ONCE = 2**26
"""256 MiB. Each piece adds its share to the gradient of the whole output: pieces a quarter as large took half as long again."""
ROWS_AT_ONCE = 2**13
"""Tokens that the depth transformer reads at a time: attention on a GPU takes fewer than 2^16 sequences in one call, and its
gradient keeps 128 positions of each, whatever their length (https://github.com/pytorch/pytorch/issues/146704)."""


def row_nll(states: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """(M, W) states, (K, W) output weights and (M,) targets to (M,) nats, in fp32."""
    return F.cross_entropy(F.linear(states, weight).float(), targets, reduction="none")


class SubTokenHead(Configurable, ABC):
    """A token's S sub-tokens: its G indices, or the parts of their bits.

    Attributes:
        sizes: of the S sub-vocabularies.
        width: W.
        tokens: what is predicted.
    """

    def __init__(self, tokens: TokenSpec, width: int, bits: Sequence[int] | None) -> None:
        """Make the embeddings and outputs of all sub-vocabularies, as two tables with a row for each value.

        Args:
            tokens: what is predicted.
            width: W, of the trunk.
            bits: parts that each index is split into, the most significant first; None leaves it whole.

        Raises:
            ValueError: the bits are not those of an index.
        """
        super().__init__()
        if bits is not None and (min(bits, default=0) < 1 or 2 ** sum(bits) != tokens.codebook_size):
            raise ValueError(
                f"bits={list(bits)} must be positive and give 2^{sum(bits)} = codebook_size={tokens.codebook_size}; change head.bits"
            )
        self.tokens = tokens
        self.width = width
        self.bits = tuple(bits) if bits is not None else None
        self.sizes = (tuple(2**part for part in bits) if bits is not None else (tokens.codebook_size,)) * tokens.groups
        self.embedding = nn.Embedding(sum(self.sizes), width)
        self.output = nn.Linear(width, sum(self.sizes), bias=False)

    @abstractmethod
    def states(self, hidden: Tensor, sub_tokens: Tensor) -> Sequence[Tensor]:
        """What each sub-token is predicted from: (M, W) of the trunk and (M, S) true sub-tokens to S of (M, W)."""

    @abstractmethod
    def sample(self, hidden: Tensor, pick: Pick) -> Tensor:
        """(R, n, W) of the trunk to (R, n, S) sub-tokens, each drawn by `pick`."""

    def reset_parameters(self) -> None:
        """Draw the embeddings anew; outputs start at zero, so that all values are equally likely."""
        nn.init.normal_(self.embedding.weight, std=INITIAL_DEVIATION)
        nn.init.zeros_(self.output.weight)

    def split(self, indices: Tensor) -> Tensor:
        """(..., G) indices to (..., S) sub-tokens."""
        if self.bits is None:
            return indices
        parts = [(indices >> sum(self.bits[place + 1 :])) & (2**part - 1) for place, part in enumerate(self.bits)]
        return torch.stack(parts, -1).flatten(-2)

    def join(self, sub_tokens: Tensor) -> Tensor:
        """(..., S) sub-tokens to (..., G) indices."""
        if self.bits is None:
            return sub_tokens
        parts = sub_tokens.view(*sub_tokens.shape[:-1], self.tokens.groups, len(self.bits))
        indices: Tensor = parts[..., 0]
        for place in range(1, len(self.bits)):
            indices = (indices << self.bits[place]) | parts[..., place]
        return indices

    def embed_parts(self, sub_tokens: Tensor) -> list[Tensor]:
        """The first k sub-tokens (..., k) to k embeddings (..., W)."""
        # A look-up in each part of the table, not one with offsets: those would be a tensor that every device needs a copy of.
        tables = torch.split(self.embedding.weight, list(self.sizes))
        return [F.embedding(part, table) for part, table in zip(sub_tokens.unbind(-1), tables, strict=False)]

    def embed(self, sub_tokens: Tensor) -> Tensor:
        """(..., S) to (..., W), what the trunk reads: the sum of the sub-tokens' embeddings."""
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

        At most `LOGITS_AT_ONCE` logits exist at a time; where there are more, they are computed a second time for the gradient.
        """
        recompute = torch.is_grad_enabled() and len(hidden) * sum(self.sizes) > LOGITS_AT_ONCE
        columns = []
        weights = torch.split(self.output.weight, list(self.sizes))
        for states, weight, targets in zip(self.states(hidden, sub_tokens), weights, sub_tokens.unbind(-1), strict=True):
            rows = max(1, LOGITS_AT_ONCE // len(weight))
            pieces: list[Tensor] = []
            for piece, wanted in zip(torch.split(states, rows), torch.split(targets, rows), strict=True):
                if recompute:
                    pieces.append(checkpoint(row_nll, piece, weight, wanted, use_reentrant=False, preserve_rng_state=False))
                else:
                    pieces.append(row_nll(piece, weight, wanted))
            columns.append(torch.cat(pieces))
        return torch.stack(columns, -1)


class ParallelHeads(SubTokenHead):
    """All sub-tokens of a token are predicted from the trunk alone, independently of one another."""

    def __init__(self, tokens: TokenSpec, width: int, bits: Sequence[int] | None = None) -> None:
        """See `SubTokenHead`."""
        super().__init__(tokens, width, bits)
        self.reset_parameters()

    def states(self, hidden: Tensor, sub_tokens: Tensor) -> Sequence[Tensor]:
        """(M, W), the same for all."""
        return [hidden] * len(self.sizes)

    def sample(self, hidden: Tensor, pick: Pick) -> Tensor:
        """(R, n, W) to (R, n, S)."""
        logits = torch.split(self.output(hidden), list(self.sizes), -1)
        return torch.stack([pick(part, number) for number, part in enumerate(logits)], -1)


class DepthTransformer(SubTokenHead):
    """A small causal transformer over the sub-tokens of one token: each is predicted given the trunk and those before it.

    Its sequence is the trunk's vector, then the embeddings of all sub-tokens but the last. A token of one sub-token needs no such
    transformer, and none is made.
    """

    def __init__(
        self,
        tokens: TokenSpec,
        width: int,
        attention_heads: int,
        depth: int = 2,
        dropout: float = 0.1,
        bits: Sequence[int] | None = None,
    ) -> None:
        """Set the sizes.

        Args:
            tokens: what is predicted.
            width: W, of the trunk and of these layers.
            attention_heads: of these layers; divides the width.
            depth: number of layers, at least 1.
            dropout: of each layer.
            bits: see `SubTokenHead`.

        Raises:
            ValueError: depth below 1, heads that do not divide the width, or wrong bits.
        """
        super().__init__(tokens, width, bits)
        if depth < 1:
            raise ValueError(f"depth={depth} of the head must be at least 1; head=parallel has no layers")
        self.attention_heads = attention_heads
        several = len(self.sizes) > 1
        self.blocks = nn.ModuleList([LlamaBlock(width, attention_heads, dropout) for _ in range(depth if several else 0)])
        self.places = nn.Parameter(torch.empty(len(self.sizes), width)) if several else None
        self.norm = nn.RMSNorm(width, eps=1e-5) if several else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw embeddings and layers anew; outputs start at zero."""
        super().reset_parameters()
        for block in self.blocks:
            block.reset_parameters()  # type: ignore[operator]
        if self.places is not None and self.norm is not None:
            nn.init.normal_(self.places, std=self.width**-0.5)
            self.norm.reset_parameters()

    def states(self, hidden: Tensor, sub_tokens: Tensor) -> Sequence[Tensor]:
        """(M, W) and (M, S) to S of (M, W), all at once."""
        if self.places is None or self.norm is None:
            return [hidden]
        features = torch.stack([hidden, *self.embed_parts(sub_tokens[:, :-1])], 1) + self.places
        states: Sequence[Tensor] = self.norm(torch.cat([self._mixed(rows) for rows in torch.split(features, ROWS_AT_ONCE)])).unbind(1)
        return states

    def _mixed(self, features: Tensor) -> Tensor:
        """(m, S, W) through all layers."""
        for block in self.blocks:
            features = block(features)
        return features

    def sample(self, hidden: Tensor, pick: Pick) -> Tensor:
        """(R, n, W) to (R, n, S), one sub-token after another."""
        features, choices = hidden.flatten(0, 1)[:, None], []
        sizes = (len(self.blocks), len(features), self.attention_heads, len(self.sizes), self.width // self.attention_heads)
        cache = KVCache(sizes, hidden.dtype, hidden.device)
        tables = zip(torch.split(self.embedding.weight, list(self.sizes)), torch.split(self.output.weight, list(self.sizes)), strict=True)
        for number, (embedding, output) in enumerate(tables):
            if self.places is not None:
                features = features + self.places[number]
            for block, slot in zip(self.blocks, cache.slots(), strict=True):
                features = block(features, remember=slot)
            cache.advance()
            if self.norm is not None:
                features = self.norm(features)
            choice = pick(F.linear(features, output).view(*hidden.shape[:2], -1), number)
            choices.append(choice)
            features = F.embedding(choice.flatten()[:, None], embedding)
        return torch.stack(choices, -1)
