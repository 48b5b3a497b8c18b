"""A generator that is a table: logits by label, token, sub-token and previous choice."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tokenizer.interfaces import Generator, Pick, TokenBatch, TokenSpec


@dataclass
class ToyState:
    """labels (R,), the last choice (R,), and the number of the next token, on the device and on the host."""

    labels: Tensor
    last: Tensor
    position: Tensor
    count: int = 0

    @property
    def visible_length(self) -> int:
        return self.count // 4

    def count_replay(self) -> None:
        self.count += 1

    def load_(self, other: "ToyState") -> None:
        self.labels.copy_(other.labels)
        self.last.copy_(other.last)
        self.position.copy_(other.position)
        self.count = other.count


class ToyGenerator(Generator):
    """Sub-tokens are the G indices."""

    def __init__(self, tokens: TokenSpec) -> None:
        super().__init__()
        self.tokens = tokens
        self.heads = (tokens.codebook_size,) * tokens.groups
        self.width, self.depth = 1, 1
        self.rows_started: list[int] = []
        self.table = nn.Parameter(torch.empty(tokens.num_classes + 1, tokens.num_tokens, tokens.groups, tokens.codebook_size))
        self.before = nn.Parameter(torch.empty(tokens.codebook_size, tokens.codebook_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(2 * torch.randn(parameter.shape, generator=generator))

    def start(self, labels: Tensor) -> ToyState:
        self.rows_started.append(len(labels))
        return ToyState(labels, torch.zeros_like(labels), torch.zeros(1, dtype=torch.int64, device=labels.device))

    def step(self, state: ToyState, pick: Pick) -> Tensor:
        chosen = []
        for sub_token in range(len(self.heads)):
            rows = self.table[state.labels].index_select(1, state.position)[:, :, sub_token]
            choice = pick(rows + self.before[state.last][:, None], sub_token)
            chosen.append(choice)
            state.last.copy_(choice[:, 0])
        state.position.add_(1)
        state.count += 1
        return torch.stack(chosen, dim=-1)

    def nll(self, batch: TokenBatch) -> Tensor:
        raise NotImplementedError

    def logits(self, batch: TokenBatch) -> list[Tensor]:
        raise NotImplementedError

    def features(self, batch: TokenBatch, block: int) -> Tensor:
        raise NotImplementedError
