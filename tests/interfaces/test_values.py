"""Batches and layouts move to a device as a whole."""

import torch

from tokenizer.interfaces import TokenBatch, TokenLayout


def test_a_batch_of_tokens_moves_with_its_layout():
    layout = TokenLayout((2, 2), "merged", torch.tensor([[0, 1, 1, 0]]), torch.tensor([[2, 2]]))
    batch = TokenBatch(torch.zeros(1, 2, 1, dtype=torch.int64), torch.tensor([3]), layout, ["a"])
    moved = batch.to("meta")
    tensors = (moved.indices, moved.labels, moved.layout.assignment, moved.layout.token_sizes)
    assert [tensor.device.type for tensor in tensors] == ["meta"] * 4
    assert (moved.layout.grid, moved.layout.kind, moved.keys) == ((2, 2), "merged", ["a"])
    assert batch.layout.assignment is layout.assignment


def test_a_layout_without_an_assignment_stays_without_one():
    assert TokenLayout((2, 3)).to("meta") == TokenLayout((2, 3))
