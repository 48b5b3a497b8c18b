"""The autoregressive generator of LlamaGen: a class, then the tokens one after another.

Papers: Sun et al. 2024, arXiv:2406.06525 (LlamaGen, rotary positions); Xiong et al. 2025, arXiv:2504.08736 (GigaTok, learned positions,
section 4 and table 8).
Deviation: with rotary positions, the class token's queries and keys are unchanged by default; the released code of LlamaGen multiplies
them by zero (`prefix=zero`).
The input sequence is the class and all tokens but the last; position n predicts token n. Positions are those of the input token: the
class has no position on the grid, and token n - 1 is the input at position n.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from tokenizer.generators.heads import SubTokenHead
from tokenizer.generators.kv_cache import KVCache
from tokenizer.interfaces import Generator, Pick, TokenBatch, TokenSpec
from tokenizer.layers.checks import require_at_least, require_labels, require_rate
from tokenizer.layers.llama import HIDDEN_MULTIPLE, INITIAL_STD, NORM_EPS, LlamaBlock, rms_norm
from tokenizer.layers.rope import Prefix, grid_rotation
from tokenizer.layers.trunk import Trunk
from tokenizer.pretrained import Pretrained

GPU_BUCKET = 64  # of the cache


@dataclass
class Decoding:
    """State of R rows during generation.

    Attributes:
        inputs: (R, 1, W), next input of the trunk, the embedding of the class or of the last token; updated in place.
        cache: keys and values of the previous positions.
        rotation: (N, d/2, 2), or None with learned positions; constant.
    """

    inputs: Tensor
    cache: KVCache
    rotation: Tensor | None

    @property
    def visible_length(self) -> int:
        """Number of positions that the next step reads; steps with equal lengths can share a CUDA graph."""
        return self.cache.visible_length

    def count_replay(self) -> None:
        """Count a replayed step on the host; the graph itself advances only tensors."""
        self.cache.length += 1

    def load_(self, other: "Decoding") -> None:
        """Copy another state of the same generator and number of rows in place."""
        self.inputs.copy_(other.inputs)
        self.cache.load_(other.cache)


class AutoregressiveGenerator(Pretrained, Generator):
    """Llama blocks over class and tokens.

    Args:
        tokens: tokens to generate.
        width: W.
        depth: number of blocks.
        attention_heads: number of heads, a divisor of the width.
        positions: learned (a table over the sequence), or rotary (the cell on the grid, for tokens in raster order).
        head: embeds and predicts a token; same width.
        dropout: dropout rate of the embeddings and of the outputs of attention and feed-forward.
        class_dropout: probability of replacing a class by the null class in training, for guidance.
        prefix: query and key of the class with rotary positions: identity leaves them unchanged, zero multiplies them by zero.
        feedforward_multiple: the hidden width of the feed-forward is rounded up to a multiple of this number.
        norm_eps: epsilon of all norms.

    Raises:
        ValueError: sizes that do not fit together, a rate outside 0 to 1, or rotary positions for tokens that have no cell.
    """

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
        prefix: Prefix = "identity",
        feedforward_multiple: int = HIDDEN_MULTIPLE,
        norm_eps: float = NORM_EPS,
    ) -> None:
        super().__init__()
        _require_cells(tokens, positions, prefix)
        _require_fit(tokens, width, head)
        require_at_least("generator.depth", depth, 1)
        require_rate("generator.dropout", dropout)
        require_rate("generator.class_dropout", class_dropout)
        self.tokens, self.heads, self.width, self.depth = tokens, head.sizes, width, depth
        self.attention_heads, self.class_dropout, self.prefix = attention_heads, class_dropout, prefix
        self.class_embedding = nn.Embedding(tokens.num_classes + 1, width)
        self.position_table = nn.Parameter(torch.empty(tokens.num_tokens + 1, width)) if positions == "learned" else None
        sizes = (width, attention_heads, dropout, feedforward_multiple, norm_eps)
        self.blocks = Trunk([LlamaBlock(*sizes) for _ in range(depth)])
        self.norm = nn.Identity() if head.takes_residual else rms_norm(width, norm_eps)
        self.head = head
        self.dropout = nn.Dropout(dropout)
        self._rotation(torch.device("meta"))  # refuses a head that cannot be rotated
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialize all parameters: N(0, 0.02^2), positions N(0, 1/W), outputs zero, so the initial loss is the sum of ln heads[s]."""
        nn.init.normal_(self.class_embedding.weight, std=INITIAL_STD)
        if self.position_table is not None:
            nn.init.normal_(self.position_table, std=self.width**-0.5)
        self.blocks.reset_parameters()
        if isinstance(self.norm, nn.RMSNorm):
            self.norm.reset_parameters()
        self.head.reset_parameters()

    def nll(self, batch: TokenBatch) -> Tensor:
        """(B, N, S) nats, fp32."""
        hidden, sub_tokens = self._hidden(batch), self.head.split(batch.indices)
        return self.head.nll(hidden.flatten(0, 1), sub_tokens.flatten(0, 1)).view(sub_tokens.shape)

    def logits(self, batch: TokenBatch) -> list[Tensor]:
        """S tensors (B, N, heads[s])."""
        hidden, sub_tokens = self._hidden(batch), self.head.split(batch.indices)
        parts = self.head.logits(hidden.flatten(0, 1), sub_tokens.flatten(0, 1))
        return [part.view(*hidden.shape[:2], -1) for part in parts]

    def features(self, batch: TokenBatch, block: int) -> Tensor:
        """(B, N, W) after block number `block`, 1 .. depth, before any norm.

        Raises:
            ValueError: `block` is out of range.
        """
        if not 1 <= block <= self.depth:
            raise ValueError(f"block={block} must be between 1 and depth={self.depth}")
        features, rotation = self._inputs(batch)
        return self.blocks[:block](features, rotation)[0]  # type: ignore[no-any-return]

    def start(self, labels: Tensor) -> Decoding:
        """State of R rows before the first token, on the generator's device.

        Args:
            labels: (R,) int64 in 0 .. num_classes; the last one is the null class.

        Raises:
            ValueError: a label is out of range, or the generator is in training mode, where dropout would act.
        """
        if self.training:
            raise ValueError("the generator is in training mode; call eval() before generating")
        require_labels(labels, self.null_label)
        weight = self.class_embedding.weight
        shape = (self.depth, len(labels), self.attention_heads, self.tokens.num_tokens, self.width // self.attention_heads)
        cache = KVCache(shape, weight.dtype, weight.device, bucket=1 if weight.device.type == "cpu" else GPU_BUCKET)
        with torch.no_grad():
            return Decoding(self.class_embedding(labels.to(weight.device))[:, None].clone(), cache, self._rotation(weight.device))

    @torch.no_grad()
    def step(self, state: Decoding, pick: Pick) -> Tensor:
        """The next token (R, 1, G) of every row.

        Tensors of the state are updated in place and none is read on the host, so this call can be recorded as a CUDA graph, one for
        each `state.visible_length`.

        Raises:
            ValueError: all tokens are drawn.
        """
        features, cache, rotation = state.inputs, state.cache, None
        cache_updates = cache.layer_updates()
        if self.position_table is not None:
            features = features + self.position_table.index_select(0, cache.position)
        if state.rotation is not None:
            rotation = state.rotation.index_select(0, cache.position)
        for block, cache_update in zip(self.blocks, cache_updates, strict=True):
            features = block(features, rotation, cache_update)
        sub_tokens = self.head.sample(self.norm(features), pick)
        state.inputs.copy_(self.head.embed(sub_tokens))
        cache.advance()
        return self.head.join(sub_tokens)

    def _hidden(self, batch: TokenBatch) -> Tensor:
        """(B, N, W) input of the head: the output of the last block, normalized unless the head takes the residual stream."""
        features, rotation = self._inputs(batch)
        hidden: Tensor = self.norm(self.blocks(features, rotation)[0])
        return hidden

    def _inputs(self, batch: TokenBatch) -> tuple[Tensor, Tensor | None]:
        """(B, N, W) input of the first block, and the rotation for all blocks."""
        expected = (self.tokens.num_tokens, self.tokens.groups)
        if batch.indices.shape[1:] != expected:
            raise ValueError(f"indices have shape {tuple(batch.indices.shape)}, expected (B, N, G) with N, G = {expected}")
        labels: Tensor = torch.where(batch.labels < 0, self.null_label, batch.labels)
        if self.training and self.class_dropout:
            dropped = torch.rand(labels.shape, device=labels.device) < self.class_dropout
            labels = torch.where(dropped, self.null_label, labels)
        embedded = self.head.embed(self.head.split(batch.indices[:, :-1]))
        features: Tensor = self.dropout(torch.cat([self.class_embedding(labels)[:, None], embedded], 1))
        if self.position_table is not None:
            features = features + self.position_table[:-1]
        return features, self._rotation(features.device)

    def _rotation(self, device: torch.device) -> Tensor | None:
        """(N, d/2, 2) for the class and all tokens but the last; not a buffer, which would have to be materialized and moved."""
        if self.position_table is not None:
            return None
        grid = (self.tokens.grid[0], self.tokens.grid[1])
        return grid_rotation(grid, self.width // self.attention_heads, 1, device, prefix_kind=self.prefix)[:-1]


def _require_cells(tokens: TokenSpec, positions: str, prefix: str) -> None:
    """Refuse rotary positions unless there is one token per cell of the grid, and a kind of prefix without rotary positions."""
    if positions not in ("learned", "rotary"):
        raise ValueError(f"positions={positions} must be learned or rotary")
    if prefix not in get_args(Prefix):
        raise ValueError(f"prefix={prefix}: expected one of {', '.join(get_args(Prefix))}; change generator.prefix")
    if prefix != "identity" and positions == "learned":
        raise ValueError(f"prefix={prefix}: no effect on learned positions; set generator.positions=rotary or generator.prefix=identity")
    if positions == "rotary" and (tokens.kind != "raster" or tokens.num_tokens != tokens.grid[0] * tokens.grid[1]):
        raise ValueError(
            f"positions=rotary needs a token for every cell in raster order; these are {tokens.num_tokens} tokens of kind "
            f"{tokens.kind} on a grid of {tokens.grid[0]} x {tokens.grid[1]}; set generator.positions=learned"
        )


def _require_fit(tokens: TokenSpec, width: int, head: SubTokenHead) -> None:
    """Refuse a head for different tokens or of a different width."""
    actual = (head.width, head.tokens.codebook_size, head.tokens.groups)
    expected = (width, tokens.codebook_size, tokens.groups)
    if actual != expected:
        raise ValueError(
            f"the head has (width, codebook_size, groups) = {actual}, the generator {expected}; change head.width or head.tokens"
        )
