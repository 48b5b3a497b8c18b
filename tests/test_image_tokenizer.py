"""An image tokenizer whose encoder merges tokens."""

import pytest
import torch

from tests.merging_tokenizer import merging_tokenizer
from tokenizer.interfaces import TokenSpec


def test_a_specification_names_the_numbers_of_tokens_that_are_kept():
    """Two groups of 16 codes, 4 x 4 cells; half as many tokens by default."""
    model = merging_tokenizer()
    assert model.tokens(32, 10) == TokenSpec(16, 2, 8, (4, 4), "merged", 10, (8,))
    assert model.tokens(32, 10, [9, 4, 9]) == TokenSpec(16, 2, 9, (4, 4), "merged", 10, (4, 9))


def test_merged_indices_are_decoded_with_their_assignment_and_not_without():
    model, images = merging_tokenizer(), torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        output, layout = model.encode(images, 5)
        torch.testing.assert_close(model.decode_indices(output.indices, layout), model(images, 5).decoder.reconstruction)
        with pytest.raises(ValueError, match="assignment=None"):
            model.decode_indices(output.indices, model.tokens(32, 0, [5]).layout)
