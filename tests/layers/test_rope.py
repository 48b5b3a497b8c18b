import math

import pytest
import torch

from tokenizer.layers.rope import grid_rotation, rotate

CPU = torch.device("cpu")


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_angles_are_row_times_frequency_then_column_times_frequency():
    rotation = grid_rotation((2, 3), head_dim=8, prefix=1, device=CPU)
    angles = [row * f for row in (1,) for f in (1.0, 0.01)] + [column * f for column in (2,) for f in (1.0, 0.01)]
    expected = torch.tensor([[math.cos(a), math.sin(a)] for a in angles])
    assert rotation.shape == (7, 4, 2)
    torch.testing.assert_close(rotation[1 + 1 * 3 + 2], expected)


def test_a_prefix_and_the_first_cell_are_not_rotated():
    features = normal(1, 2, 3, 8)
    turned = rotate(features, grid_rotation((1, 2), 8, prefix=1, device=CPU))
    assert torch.equal(turned[:, :, :2], features[:, :, :2])
    assert not torch.allclose(turned[:, :, 2], features[:, :, 2])


def test_a_zero_prefix_multiplies_its_features_by_zero_and_changes_no_cell():
    rotation = grid_rotation((1, 2), 8, prefix=2, device=CPU, prefix_kind="zero")
    assert torch.equal(rotate(normal(1, 2, 4, 8), rotation)[:, :, :2], torch.zeros(1, 2, 2, 8))
    assert torch.equal(rotation[2:], grid_rotation((1, 2), 8, prefix=2, device=CPU)[2:])


def test_lengths_stay_and_products_depend_on_the_distance_between_cells_alone():
    rotation = grid_rotation((4, 5), 8, prefix=0, device=CPU).unflatten(0, (4, 5))
    query, key = normal(8), normal(8, seed=1)

    def product(query_cell: tuple[int, int], key_cell: tuple[int, int]) -> torch.Tensor:
        turned = [rotate(x.view(1, 1, 1, 8), rotation[cell][None]) for x, cell in ((query, query_cell), (key, key_cell))]
        torch.testing.assert_close(turned[0].norm(), query.norm())
        return (turned[0] * turned[1]).sum()

    torch.testing.assert_close(product((0, 1), (2, 0)), product((1, 4), (3, 3)))
    assert abs(product((0, 1), (2, 0)) - product((0, 1), (1, 0))) > 1e-3


def test_half_precision_features_are_rotated_in_full_precision():
    features, rotation = normal(1, 1, 9, 8).bfloat16(), grid_rotation((3, 3), 8, prefix=0, device=CPU)
    assert torch.equal(rotate(features, rotation), rotate(features.float(), rotation).bfloat16())


def test_a_head_that_is_no_multiple_of_four_is_refused():
    with pytest.raises(ValueError, match="multiple of 4, got 6"):
        grid_rotation((2, 2), 6, prefix=1, device=CPU)
