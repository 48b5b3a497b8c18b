"""Codebook usage and perplexity."""

import pytest
import torch

from experiments.evaluation.metrics.codebook import CodebookCounts, CodebookUsage, CodebookUsageProduct, Perplexity, PerplexityPerGroup


def count(groups, codebook_size, *batches):
    counts = CodebookCounts(groups, codebook_size)
    for batch in batches:
        counts.count(torch.tensor(batch))
    return values(counts)


def values(counts):
    counts.join()
    metrics = (CodebookUsage, Perplexity, CodebookUsageProduct, PerplexityPerGroup)
    return {metric.key: metric(None, counts).compute() for metric in metrics}


def test_one_group_by_hand():
    results = count(1, 4, [[[0], [0], [1], [1]]])  # two of four codes, equally often
    assert results["codebook_usage"] == 0.5
    assert results["perplexity"] == pytest.approx(2.0)


def test_groups_share_their_counts_and_are_also_counted_apart():
    # Group 0 chooses code 0 four times; group 1 chooses 0, 1, 2, 3 once each. Together: 5, 1, 1, 1 of 8.
    results = count(2, 4, [[[0, 0], [0, 1], [0, 2], [0, 3]]])
    assert results["codebook_usage"] == 1.0
    assert results["perplexity"] == pytest.approx((8 / 5) ** (5 / 8) * 8 ** (3 / 8))
    assert results["codebook_usage_product"] == 0.25
    assert results["perplexity_per_group"] == pytest.approx((1 + 4) / 2)


def test_counts_of_batches_are_summed_before_usage_is_taken():
    assert count(1, 4, [[[0]]], [[[1]]])["codebook_usage"] == 0.5
    assert count(1, 4, [[[0]]], [[[0]]])["codebook_usage"] == 0.25


def test_batches_of_different_numbers_of_tokens_weigh_by_their_tokens():
    assert count(1, 2, [[[0], [0], [0]]], [[[1]]])["perplexity"] == pytest.approx(4 / 27**0.25)


def test_reset_forgets_the_counts():
    counts = CodebookCounts(1, 2)
    counts.count(torch.tensor([[[1]]]))
    counts.reset()
    counts.count(torch.tensor([[[0]]]))
    assert values(counts)["codebook_usage"] == 0.5
