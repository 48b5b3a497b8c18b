"""All numbers of generated pictures that Inception gives, each with its card.

Papers: Heusel et al. 2017, arXiv:1706.08500 (Fréchet distance); Salimans et al. 2016, arXiv:1606.03498 (inception score);
Kynkäänniemi et al. 2019, arXiv:1904.06991 (precision and recall); Nash et al. 2021, arXiv:2103.03841 (distance of spatial features).
"""

from typing import Any

import torch
from torch import Tensor

from experiments.evaluation.cards import Card
from experiments.evaluation.metrics.features import FeatureExtractor
from experiments.evaluation.metrics.inception import SPLITS, FeatureMoments, InceptionScore, frechet_distance
from experiments.evaluation.metrics.neighbours import NEIGHBOURS, precision_recall
from experiments.evaluation.metrics.reference import ReferenceStatistics, identity
from experiments.evaluation.metrics.reservoir import Reservoir
from experiments.evaluation.metrics.samples import FEWEST_SAMPLES, too_few
from experiments.evaluation.results import Results, Skipped

KEPT = 50_000
"""Features of generated pictures for precision and recall, as many as the papers generate: 410 MB in fp32."""


def all_skipped(skipped: Skipped) -> Results:
    """The results where there is no feature network."""
    return Results(skipped=dict.fromkeys(FEWEST_SAMPLES, skipped))


class GenerationMetrics:
    """Running metrics of generated pictures: gfid, sfid, inception_score, precision, recall. For one process.

    A metric whose ingredients are absent is skipped and named. Moments are summed where the network is; features for precision
    and recall go to the CPU.
    """

    def __init__(
        self,
        network: FeatureExtractor,
        reference: ReferenceStatistics | None,
        image_size: int,
        subject: str,
        seed: int,
        guidance: float | str | None,
        transform: str,
        kept: int = KEPT,
    ) -> None:
        """
        Args:
            network: computes the features.
            reference: of real pictures, by the same network; None leaves only the inception score.
            image_size: side of the images in pixels.
            subject: ema or raw, which weights generated.
            seed: of the samples, for the cards.
            guidance: see `Card`.
            transform: how the training pictures were cut, for the cards.
            kept: features kept for precision and recall; more samples are drawn from.

        Raises:
            ValueError: the reference was made with another network.
        """
        if reference is not None and reference.network != identity(network):
            raise ValueError(f"the reference was made with {reference.network}, expected {identity(network)}")
        self.network, self.reference = network, reference
        self.card_fields: dict[str, Any] = {"image_size": image_size, "subject": subject, "seed": seed, "guidance": guidance}
        self.card_fields |= {"transform": transform, "reference": "none" if reference is None else reference.description}
        self.absent = self._absent()
        self.n = 0
        self.pool = FeatureMoments(0 if "gfid" in self.absent else network.width)
        self.map = FeatureMoments(0 if "sfid" in self.absent else network.spatial_width)
        self.score = InceptionScore(network.classes)
        self.kept = Reservoir(0 if "recall" in self.absent else kept, network.width)
        for part in (self.pool, self.map, self.score):
            part.to(network.device)

    @torch.no_grad()
    def update(self, images: Tensor) -> None:
        """Add (B, 3, H, W) images in [0, 1]; B may be 0."""
        if not len(images):
            return
        self.n += len(images)
        features = self.network(images)
        if "gfid" not in self.absent:
            self.pool.update(features.pool)
        if "sfid" not in self.absent and features.spatial is not None:
            self.map.update(features.spatial)
        if "inception_score" not in self.absent and features.logits is not None:
            self.score.update(features.logits)
        if "recall" not in self.absent:
            self.kept.update(features.pool)

    @torch.no_grad()
    def compute(self) -> Results:
        """All metrics of the images so far. Computing twice gives the same."""
        few = {name: why for name in FEWEST_SAMPLES if (why := too_few(name, self.n)) is not None}
        skipped = {name: Skipped(why) for name, why in (few | self.absent).items()}
        values: dict[str, float] = {}
        if self.reference is not None and "gfid" not in skipped:
            values["gfid"] = frechet_distance(_on(self.network.device, self.reference.moments), self.pool.compute())
        if self.reference is not None and self.reference.spatial is not None and "sfid" not in skipped:
            values["sfid"] = frechet_distance(_on(self.network.device, self.reference.spatial), self.map.compute())
        if "inception_score" not in skipped:
            values["inception_score"] = self.score.compute()
        if self.reference is not None and self.reference.features is not None and "recall" not in skipped:
            generated, real = self.kept.rows.to(self.network.device), self.reference.features.to(self.network.device)
            values["precision"], values["recall"] = precision_recall(generated, real)
        return Results(values, {name: self._card(name) for name in values}, skipped)

    def _absent(self) -> dict[str, str]:
        """Why metrics cannot be computed, whatever the number of samples."""
        absent: dict[str, str] = {}
        network, reference = self.network, self.reference
        if not network.classes:
            absent["inception_score"] = f"{network.name} is no classifier"
        if reference is None:
            return absent | dict.fromkeys(("gfid", "sfid", "precision", "recall"), "there are no reference statistics")
        if not network.spatial_width:
            absent["sfid"] = f"{network.name} has no spatial features"
        elif reference.spatial is None:
            absent["sfid"] = f"the reference has no spatial statistics: {reference.description}"
        found = 0 if reference.features is None else len(reference.features)
        if found <= NEIGHBOURS:
            why = f"the reference has {found} features of single pictures, more than {NEIGHBOURS} are needed: {reference.description}"
            absent |= {"precision": why, "recall": why}
        return absent

    def _card(self, metric: str) -> dict[str, Any]:
        neighbours = metric in ("precision", "recall")
        return Card(
            metric=metric,
            backend="tessera" if neighbours else self.network.backend,
            network=self.network.name,
            weights=self.network.weights,
            resize=self.network.resize,
            n=self.n,
            aggregate=self._aggregate(metric),
            dtype="float32 features, float64 distances" if neighbours else "float32, sums in float64",
            losses=None,
            **self.card_fields,
        ).to_dict()

    def _aggregate(self, metric: str) -> str:
        if metric == "inception_score":
            return f"mean over {SPLITS} interleaved splits"
        if metric in ("precision", "recall"):
            assert self.reference is not None
            assert self.reference.features is not None
            return f"balls to neighbour {NEIGHBOURS}, {self.kept} generated, {len(self.reference.features)} real features"
        width = self.network.width if metric == "gfid" else self.network.spatial_width
        singular = "" if self.n > width else f", singular: no more images than the {width} features"
        unverified = "unverified: not compared with ADM's evaluator; " if metric == "sfid" else ""
        return f"{unverified}covariances of all images{singular}"


def _on(device: torch.device, moments: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return moments[0].to(device), moments[1].to(device)
