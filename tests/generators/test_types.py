"""Generators take indices of any integer type in range, and run in any float type."""

from dataclasses import replace

import pytest
import torch

from tests.generators.small_generators import CASES, batch_for, make


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_indices_may_have_any_integer_type(case, dtype):
    generator = make(case)
    batch = batch_for(generator.tokens)
    batch = replace(batch, indices=batch.indices % 100)
    converted = replace(batch, indices=batch.indices.to(dtype))
    assert torch.equal(generator.nll(converted), generator.nll(batch))
    assert all(torch.equal(*pair) for pair in zip(generator.logits(converted), generator.logits(batch), strict=True))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("wrong", [-1, "size"])
def test_indices_out_of_range_are_refused_with_their_value(case, wrong):
    generator = make(case)
    batch, index = batch_for(generator.tokens), generator.tokens.codebook_size if wrong == "size" else wrong
    batch.indices[1, 2, -1] = index
    for method in (generator.nll, generator.logits):
        with pytest.raises(ValueError, match=f"index {index} is out of range, expected 0 to {generator.tokens.codebook_size - 1}"):
            method(batch)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_generator_of_another_float_type_trains_and_samples(case, dtype):
    plain, generator = make(case), make(case).to(dtype)
    batch = batch_for(generator.tokens)
    nll = generator.nll(batch)
    torch.testing.assert_close(nll, plain.nll(batch), rtol=0.1, atol=0.1)
    nll.mean().backward()
    assert all(value.grad.dtype == dtype for value in generator.parameters() if value.grad is not None)
    choices = generator.step(generator.start(torch.tensor([0, 1])), lambda logits, number: logits.argmax(-1))
    assert choices.shape == (2, 1, generator.tokens.groups)
