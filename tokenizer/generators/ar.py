"""The autoregressive generator of LlamaGen: a class, then the tokens one after another.

Papers: Sun et al. 2024, arXiv:2406.06525 (LlamaGen, rotary positions); Xiong et al. 2025, arXiv:2504.08736 (GigaTok, learned positions,
section 4 and table 8).
The sequence is the class and all tokens but the last; position n of it predicts token n. Positions are those of the token that is read:
the class has none of its own on the grid, and token n - 1 is read at position n.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from tokenizer.generators.heads import SubTokenHead
from tokenizer.generators.kv_cache import KVCache
from tokenizer.interfaces import Generator, Pick, TokenBatch, TokenSpec
from tokenizer.layers.rope import grid_rotation
from tokenizer.layers.llama import INITIAL_DEVIATION, LlamaBlock
from tokenizer.pretrained import Pretrained

GPU_BUCKET = 64


@dataclass
class Decoding:
    """How far R rows have come.

    Attributes:
        inputs: (R, 1, W), what the trunk reads next: the class, then the token drawn last; written in place.
        cache: of the positions before.
        rotation: (N, d/2, 2), or None where positions are learned.
    """

    inputs: Tensor
    cache: KVCache
    rotation: Tensor | None

    @property
    def window(self) -> int:
        """Positions that the next step reads; steps with equal windows can share a recorded graph."""
        return self.cache.window

    def replayed(self) -> None:
        """Count a step that a recorded graph has made on the device."""
        self.cache.filled += 1


class AutoregressiveGenerator(Pretrained, Generator):
    """Llama blocks over class and tokens."""

    def __init__(
        self,
        tokens: TokenSpec,
        width: int,
        depth: int,
        attention_heads: int,
        positions: Literal["learned", "rotary"],
        head: SubTokenHead,
        dropout: float,
        class_dropout: float,
    ) -> None:
        """Set the sizes.

        Args:
            tokens: what is generated.
            width: W.
            depth: blocks.
            attention_heads: divides the width.
            positions: learned (a table over the sequence), or rotary (the cell on the grid, for tokens in raster order).
            head: writes and predicts a token; of the same width.
            dropout: of the embeddings, the output of attention and of the feed-forward.
            class_dropout: probability that a class is replaced by the null class in training, for guidance.

        Raises:
            ValueError: sizes that do not fit together, a rate outside 0 to 1, or rotary positions for tokens that have no cell.
        """
        super().__init__()
        _require_places(tokens, positions)
        _require_fit(tokens, width, head)
        if depth < 1 or not 0 <= dropout < 1 or not 0 <= class_dropout < 1:
            raise ValueError(f"depth={depth} must be at least 1, dropout={dropout} and class_dropout={class_dropout} in [0, 1)")
        self.tokens, self.heads, self.width, self.depth = tokens, head.sizes, width, depth
        self.attention_heads, self.class_dropout = attention_heads, class_dropout
        self.class_embedding = nn.Embedding(tokens.num_classes + 1, width)
        self.position_table = nn.Parameter(torch.empty(tokens.num_tokens + 1, width)) if positions == "learned" else None
        self.blocks = nn.ModuleList([LlamaBlock(width, attention_heads, dropout) for _ in range(depth)])
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.head = head
        self.dropout = nn.Dropout(dropout)
        self._rotation(torch.device("meta"))  # refuses a head that cannot be rotated
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew: N(0, 0.02^2), positions N(0, 1/W), outputs zero, so that the first loss is the sum of ln heads[s]."""
        nn.init.normal_(self.class_embedding.weight, std=INITIAL_DEVIATION)
        if self.position_table is not None:
            nn.init.normal_(self.position_table, std=self.width**-0.5)
        for block in self.blocks:
            block.reset_parameters()  # type: ignore[operator]
        self.norm.reset_parameters()
        self.head.reset_parameters()

    def nll(self, batch: TokenBatch) -> Tensor:
        """(B, N, S) nats, fp32."""
        hidden, sub_tokens = self.norm(self._trunk(batch, self.depth)), self.head.split(batch.indices)
        return self.head.nll(hidden.flatten(0, 1), sub_tokens.flatten(0, 1)).view(sub_tokens.shape)

    def logits(self, batch: TokenBatch) -> list[Tensor]:
        """S tensors (B, N, heads[s])."""
        hidden, sub_tokens = self.norm(self._trunk(batch, self.depth)), self.head.split(batch.indices)
        parts = self.head.logits(hidden.flatten(0, 1), sub_tokens.flatten(0, 1))
        return [part.view(*hidden.shape[:2], -1) for part in parts]

    def features(self, batch: TokenBatch, block: int) -> Tensor:
        """(B, N, W) after block number `block`, 1 .. depth, before any norm.

        Raises:
            ValueError: there is no such block.
        """
        if not 1 <= block <= self.depth:
            raise ValueError(f"block={block} must be between 1 and depth={self.depth}")
        return self._trunk(batch, block)

    def start(self, labels: Tensor) -> Decoding:
        """The state before the first token of R rows, on the labels' device.

        Args:
            labels: (R,) int64 in 0 .. num_classes; the last one is the null class.

        Raises:
            ValueError: a label out of range, or a generator in training mode, whose dropout would be drawn anew at each step.
        """
        if self.training:
            raise ValueError("the generator is in training mode; call eval() before generating")
        if labels.min() < 0 or labels.max() > self.null_label:
            raise ValueError(f"labels lie in {labels.min()} .. {labels.max()}, expected 0 .. {self.null_label}, the last one for no class")
        weight = self.class_embedding.weight
        shape = (self.depth, len(labels), self.attention_heads, self.tokens.num_tokens, self.width // self.attention_heads)
        cache = KVCache(shape, weight.dtype, weight.device, bucket=1 if weight.device.type == "cpu" else GPU_BUCKET)
        with torch.no_grad():
            return Decoding(self.class_embedding(labels.to(weight.device))[:, None].clone(), cache, self._rotation(weight.device))

    @torch.no_grad()
    def step(self, state: Decoding, pick: Pick) -> Tensor:
        """The next token (R, 1, G) of every row.

        All that changes on the device is written in place and nothing is read from there, so that this call can be recorded as a
        CUDA graph, one for each `state.window`.

        Raises:
            ValueError: all tokens are drawn.
        """
        features, cache, rotation = state.inputs, state.cache, None
        slots = cache.slots()
        if self.position_table is not None:
            features = features + self.position_table.index_select(0, cache.position)
        if state.rotation is not None:
            rotation = state.rotation.index_select(0, cache.position)
        for block, slot in zip(self.blocks, slots, strict=True):
            features = block(features, rotation, slot)
        sub_tokens = self.head.sample(self.norm(features), pick)
        state.inputs.copy_(self.head.embed(sub_tokens))
        cache.advance()
        return self.head.join(sub_tokens)

    def _trunk(self, batch: TokenBatch, blocks: int) -> Tensor:
        """(B, N, W), the residual stream after the first `blocks` blocks."""
        expected = (self.tokens.num_tokens, self.tokens.groups)
        if batch.indices.shape[1:] != expected:
            raise ValueError(f"indices have shape {tuple(batch.indices.shape)}, expected (B, N, G) with N, G = {expected}")
        labels: Tensor = torch.where(batch.labels < 0, self.null_label, batch.labels)
        if self.training and self.class_dropout:
            dropped = torch.rand(labels.shape, device=labels.device) < self.class_dropout
            labels = torch.where(dropped, self.null_label, labels)
        read = self.head.embed(self.head.split(batch.indices[:, :-1]))
        features: Tensor = self.dropout(torch.cat([self.class_embedding(labels)[:, None], read], 1))
        if self.position_table is not None:
            features = features + self.position_table[:-1]
        rotation = self._rotation(features.device)
        for block in self.blocks[:blocks]:
            features = block(features, rotation)
        return features

    def _rotation(self, device: torch.device) -> Tensor | None:
        """(N, d/2, 2) for the class and all tokens but the last; computed on demand, as a table could be left behind on another device."""
        if self.position_table is not None:
            return None
        grid = (self.tokens.grid[0], self.tokens.grid[1])
        return grid_rotation(grid, self.width // self.attention_heads, 1, device)[:-1]


def _require_places(tokens: TokenSpec, positions: str) -> None:
    """Refuse rotary positions for tokens that do not lie on the grid one by one."""
    if positions not in ("learned", "rotary"):
        raise ValueError(f"positions={positions} must be learned or rotary")
    if positions == "rotary" and (tokens.kind != "raster" or tokens.num_tokens != tokens.grid[0] * tokens.grid[1]):
        raise ValueError(
            f"positions=rotary needs a token for every cell in raster order; these are {tokens.num_tokens} tokens of kind "
            f"{tokens.kind} on a grid of {tokens.grid[0]} x {tokens.grid[1]}; set generator.positions=learned"
        )


def _require_fit(tokens: TokenSpec, width: int, head: SubTokenHead) -> None:
    """Refuse a head for other tokens or of another width."""
    given = (head.width, head.tokens.codebook_size, head.tokens.groups)
    expected = (width, tokens.codebook_size, tokens.groups)
    if given != expected:
        raise ValueError(
            f"the head has (width, codebook_size, groups) = {given}, the generator {expected}; change head.width or head.tokens"
        )
