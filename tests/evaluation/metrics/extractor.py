"""A feature extractor small enough for tests."""

import torch
from torch.nn.functional import interpolate

from experiments.evaluation.metrics.inception import Features


class SmallExtractor:
    """Random projections of 4 x 4 pixels."""

    name, backend, weights, resize = "small", "torch", "file 0123", "mean of areas to 4"
    device = torch.device("cpu")

    def __init__(self, width=6, spatial_width=4, classes=3):
        self.width, self.spatial_width, self.classes = width, spatial_width, classes
        generator = torch.Generator().manual_seed(0)
        self.matrix = torch.randn(48, width + spatial_width + classes, generator=generator)

    def __call__(self, images):
        small = interpolate(images.float(), size=(4, 4), mode="area").flatten(1)
        pool, spatial, logits = (small @ self.matrix).split([self.width, self.spatial_width, self.classes], 1)
        return Features(pool, spatial if self.spatial_width else None, logits if self.classes else None)


def random_images(count, seed=0, size=8):
    """(count, 3, size, size) uint8."""
    return torch.randint(256, (count, 3, size, size), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
