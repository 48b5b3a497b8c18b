"""Shortcut losses of a hybrid tokenizer's first updates: its convolutional networks are trained as an autoencoder of their own.

Paper: Xiong et al. 2025 (GigaTok), arXiv:2504.08736, appendix.
"""

import torch.nn.functional as F
from torch import Tensor

from tokenizer.interfaces import InnerLoss, TokenizerParts, TrainingPass
from tokenizer.layers.checks import require_at_least


class ShortcutLoss(InnerLoss):
    """Losses of the image that is decoded without the transformers, plus the squared error between the maps before and after them.

    The losses of the image are those of the reconstruction with their weights. The map before the transformers gets no gradient of the
    squared error.

    Args:
        until: number of the last update with this loss, at least 1.

    Raises:
        ValueError: a number below 1.
    """

    def __init__(self, until: int) -> None:
        super().__init__()
        require_at_least("loss.inner.shortcut.until", until, 1)
        self.until = until

    def forward(self, tokenizer: TokenizerParts, current: TrainingPass) -> Tensor | None:
        """Scalar; None after the last update."""
        if current.update > self.until:
            return None
        assert current.image_loss is not None
        before, after = current.output.encoder.features["map"], current.output.decoder.features["map"]
        image: Tensor = tokenizer.decoder.paint(before)  # type: ignore[operator]
        return current.image_loss(image) + F.mse_loss(after.float(), before.detach().float())

    def check(self, tokenizer: TokenizerParts, image_size: int) -> None:
        """Check that there are maps before and after the transformers.

        Raises:
            ValueError: there are not.
        """
        encoded, decoded = self.shapes(tokenizer, image_size)
        maps = encoded.features.get("map"), decoded.features.get("map")
        if maps[0] is None or maps[1] is None or maps[0].shape != maps[1].shape:
            raise ValueError("the backbone has no transformers between two equal maps; expected backbone=hybrid_1d or hybrid_2d")
