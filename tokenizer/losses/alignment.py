"""Semantic regularization: features inside the decoder are aligned with those of a pretrained network.

Paper: Xiong et al. 2025 (GigaTok), arXiv:2504.08736 section 3.2, with the projector of REPA, Yu et al. 2024, arXiv:2410.06940.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenizer.interfaces import InnerLoss, TokenizerParts, TokenLayout, TrainingPass
from tokenizer.layers.checks import require_at_least, require_one_of
from tokenizer.layers.feature_network import FeatureNetwork
from tokenizer.layers.frozen import Frozen

Teacher = Literal["lite0", "dinov2_vitb14", "dinov2_vits14", "clip_dfn", "siglip"]
Resize = Literal["bicubic", "area"]
EXPANSION = 4  # hidden channels of the projector, as a multiple of its input's


class SemanticRegularizationLoss(InnerLoss):
    """Negative cosine similarity of projected features of the decoder and those of a frozen network, the teacher, in the same cells.

    The teacher sees the images at the size at which it has as many cells as the decoder: 256 pixels become 224 for 16 x 16 cells and
    patches of 14 pixels. The projector, with two hidden layers, is trained with the tokenizer and not exported; the teacher is neither
    trained nor saved.

    Args:
        network: name of the teacher's weights file.
        layer: number of the decoder's block whose output is projected, from 1.
        resize: kind of resizing of the teacher's images, without antialiasing.

    Raises:
        ValueError: an unknown network or resizing, a layer below 1, or a weights file that is damaged or of a different network.
        MissingWeightsError: the teacher's weights are not on this machine.
    """

    def __init__(self, network: Teacher, layer: int, resize: Resize) -> None:
        super().__init__()
        require_one_of("loss.inner.alignment.network", network, get_args(Teacher))
        require_one_of("loss.inner.alignment.resize", resize, get_args(Resize))
        require_at_least("loss.inner.alignment.layer", layer, 1)
        self.taps = (layer,)
        self.teacher = Frozen(FeatureNetwork(network, None, "loss.inner.alignment.network", "loss.weights.alignment=0", resize))
        self.projector: nn.Module | None = None  # made in `check`

    def forward(self, tokenizer: TokenizerParts, current: TrainingPass) -> Tensor:
        """Scalar in [-1, 1], the mean over images and cells in fp32. The teacher gets no gradient."""
        assert self.projector is not None, "`check` makes the projector"
        features, grid = self._cells(current.output.decoder.features, current.output.encoder.layout)
        with torch.no_grad():
            target: Tensor = self.teacher.network.tokens(current.images / 2 + 0.5, grid)  # type: ignore[operator]
        projected: Tensor = self.projector(features)
        return -F.cosine_similarity(projected.float(), target.float(), dim=-1).mean()

    def check(self, tokenizer: TokenizerParts, image_size: int) -> None:
        """Make the projector of the widths of the block and of the teacher.

        Raises:
            ValueError: the features of the block are not those of the cells of the tokens.
        """
        encoded, decoded = self.shapes(tokenizer, image_size)
        features, grid = self._cells(decoded.features, encoded.layout)
        if grid != encoded.layout.grid:
            sizes = [f"{rows} x {columns}" for rows, columns in (grid, encoded.layout.grid)]
            raise ValueError(
                f"block {self.taps[0]} of the decoder has {sizes[0]} cells, expected {sizes[1]}; lower loss.inner.alignment.layer"
            )
        teacher: FeatureNetwork = self.teacher.network  # type: ignore[assignment]
        width = features.shape[2]
        hidden = EXPANSION * width
        layers = nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, teacher.token_width)
        self.projector = nn.Sequential(*layers)

    def _cells(self, features: dict[str, Tensor], layout: TokenLayout) -> tuple[Tensor, tuple[int, int]]:
        """Features (B, h w, W) of the block, of tokens or of a map, and (h, w)."""
        tapped = features[f"block{self.taps[0]}"]
        if tapped.dim() == 4:
            return tapped.flatten(2).transpose(1, 2), (tapped.shape[2], tapped.shape[3])
        rows, columns = layout.grid
        if tapped.shape[1] != rows * columns:
            raise ValueError(
                f"block {self.taps[0]} of the decoder has {tapped.shape[1]} tokens, expected one for each of {rows} x {columns} cells"
            )
        return tapped, (rows, columns)
