"""Batches and layouts move to a device as a whole; a specification of tokens is read from files of every version."""

import json
from dataclasses import asdict

import torch

from tokenizer.interfaces import ImageBatch, TokenBatch, TokenLayout, TokenSpec


def test_a_batch_of_tokens_moves_with_its_layout():
    layout = TokenLayout((2, 2), "merged", torch.tensor([[0, 1, 1, 0]]), torch.tensor([[2, 2]]))
    batch = TokenBatch(torch.zeros(1, 2, 1, dtype=torch.int64), torch.tensor([3]), layout, ["a"])
    moved = batch.to("meta")
    tensors = (moved.indices, moved.labels, moved.layout.assignment, moved.layout.token_sizes)
    assert [tensor.device.type for tensor in tensors] == ["meta"] * 4
    assert (moved.layout.grid, moved.layout.kind, moved.keys) == ((2, 2), "merged", ["a"])
    assert batch.layout.assignment is layout.assignment


def test_every_tensor_of_a_batch_is_copied_as_the_caller_asks(monkeypatch):
    """A copy that is `non_blocking` for some tensors only would still make the host wait."""
    copies = []
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *args, **kwargs: copies.append((args, kwargs)) or tensor)
    images, labels = torch.zeros(1, 3, 8, 8), torch.zeros(1)
    layout = TokenLayout((2, 2), "merged", torch.zeros(1, 4), torch.zeros(1, 2))
    for batch in (ImageBatch(images, labels, ["a"], {"student": images}), TokenBatch(labels, labels, layout)):
        batch.to("cuda", non_blocking=True)
    assert copies == [(("cuda",), {"non_blocking": True})] * 7


def test_a_layout_without_an_assignment_stays_without_one():
    assert TokenLayout((2, 3)).to("meta") == TokenLayout((2, 3))


def test_a_specification_read_from_a_file_equals_the_one_that_was_written():
    fields = {"codebook_size": 16, "groups": 2, "num_tokens": 4, "grid": [2, 3], "kind": "merged", "num_classes": 3, "kept": [2, 4]}
    spec = TokenSpec(**fields)
    assert spec == TokenSpec(16, 2, 4, (2, 3), "merged", 3, (2, 4))
    assert hash(spec) == hash(TokenSpec(**json.loads(json.dumps(asdict(spec)))))


def test_a_specification_of_an_earlier_version_has_no_merged_tokens():
    assert TokenSpec(codebook_size=16, groups=2, num_tokens=4, grid=(2, 2)).kept == ()


def test_unmerged_tokens_are_one_for_each_cell_in_raster_order():
    spec = TokenSpec(16, 2, 4, (2, 3), "merged", 3, (2, 4))
    assert spec.unmerged == TokenSpec(16, 2, 6, (2, 3), "raster", 3)
    assert spec.unmerged.unmerged == spec.unmerged
