"""A bounded choice from a stream."""

import torch

from experiments.evaluation.metrics.reservoir import Reservoir


def filled(limit, count, batch):
    reservoir = Reservoir(limit, 1)
    for part in torch.arange(count).float()[:, None].split(batch):
        reservoir.update(part)
    return reservoir


def test_all_rows_are_stored_in_order_while_they_fit():
    reservoir = filled(10, 7, 3)
    assert reservoir.rows.flatten().tolist() == list(range(7))
    assert str(reservoir) == "7"


def test_the_choice_is_the_same_for_every_batch_size():
    one = filled(20, 300, 300)
    assert torch.equal(one.rows, filled(20, 300, 7).rows)
    assert len(set(one.rows.flatten().tolist())) == 20
    assert str(one) == "20 of 300, drawn with seed 0"


def test_every_part_of_the_stream_has_the_same_chance():
    rows = filled(2000, 20_000, 512).rows.flatten()
    shares = torch.histc(rows, 4, 0, 20_000) / 2000
    assert (shares - 0.25).abs().max() < 0.03  # three standard deviations
