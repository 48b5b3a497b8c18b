"""An image tokenizer whose encoder merges tokens."""

from tests.merging_tokenizer import merging_tokenizer
from tokenizer.interfaces import TokenSpec


def test_a_specification_names_the_numbers_of_tokens_that_are_kept():
    """Two groups of 16 codes, 4 x 4 cells; half as many tokens by default."""
    model = merging_tokenizer()
    assert model.tokens(32, 10) == TokenSpec(16, 2, 8, (4, 4), "merged", 10, (8,))
    assert model.tokens(32, 10, [9, 4, 9]) == TokenSpec(16, 2, 9, (4, 4), "merged", 10, (4, 9))
