"""Numbers that rounding alone would put outside of their range are at its bound."""

import torch

from experiments.evaluation.metrics import reconstruction
from experiments.evaluation.metrics.codebook import perplexity
from experiments.evaluation.metrics.frechet import frechet_distance


def test_equal_moments_have_no_negative_distance():
    generator = torch.Generator().manual_seed(0)
    for number in range(20):
        features = torch.randn(40, 24, generator=generator, dtype=torch.float64) * 10.0**number
        moments = features.mean(0), features.T.cov()
        assert frechet_distance(moments, moments) >= 0


def test_a_uniform_choice_has_no_more_codes_than_there_are():
    for size in range(1, 300):
        assert 0.999 * size < float(perplexity(torch.ones(size, dtype=torch.int64))) <= size


def test_equal_images_are_no_more_than_equal():
    for seed in range(20):
        images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(seed)).round(decimals=seed % 3)
        similarity = reconstruction.structural_similarity(images, images, reconstruction.SSIM_WINDOW)
        assert float(similarity.max()) <= 1
        assert float(similarity.min()) > 0.999
