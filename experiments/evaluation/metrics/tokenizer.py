"""All numbers of an image tokenizer over one evaluation set, each with its card."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from experiments.evaluation.cards import Card, library
from experiments.evaluation.metrics.codebook import CodebookCounts
from experiments.evaluation.metrics.inception import (
    RESIZE,
    SPLITS,
    FeatureMoments,
    InceptionScore,
    frechet_distance,
    inception_features,
    load_inception,
)
from experiments.evaluation.metrics.reconstruction import SMALLEST_SIDE, ReconstructionErrors, to_unit
from experiments.evaluation.metrics.sums import Sums
from experiments.evaluation.results import Results, Skipped
from tokenizer.interfaces import Quantizer, TokenizerOutput
from tokenizer.layers.distributed import sum_over_ranks, world_size
from tokenizer.losses.perceptual import LPIPSLoss
from tokenizer.weights import FILES, MissingWeightsError, find_weights, sha256

WEIGHTS = ("ema", "raw")
PIXELWISE = ("psnr", "psnr_image_mean", "l1", "psnr_bicubic", "ssim", "lpips")
CODEBOOK = ("codebook_usage", "perplexity", "codebook_usage_product", "perplexity_per_group")
NETWORKS = {"lpips": "alexnet", "rfid": "inception", "inception_score": "inception"}
LOADERS: dict[str, Callable[[], nn.Module]] = {
    "alexnet": lambda: LPIPSLoss("alexnet", "symmetric"),
    "inception": load_inception,
}
FEWEST_IMAGES = {"rfid": 2, "inception_score": 2 * SPLITS}

BACKENDS = {"ssim": "torchmetrics", "lpips": "lpips", "rfid": "torch-fidelity", "inception_score": "torch-fidelity"}
AGGREGATES = {
    "psnr": "total squared error",
    "psnr_bicubic": "total squared error",
    "l1": "total absolute error",
    "rfid": "covariances of all images",
    "inception_score": f"mean over {SPLITS} interleaved splits",
    "codebook_usage": "counts summed over images and groups",
    "perplexity": "counts summed over images and groups",
    "codebook_usage_product": "counts summed over images, product over groups",
    "perplexity_per_group": "counts summed over images, mean over groups",
    "bits_per_token": "constant",
    "bits_per_pixel": "total bits over total pixels",
}
RESIZES = {"rfid": RESIZE, "inception_score": RESIZE}


class TokenizerMetrics:
    """Running metrics of one tokenizer: no `nn.Module`, so that its networks stay out of checkpoints, optimizers and EMA.

    Everything is summed where the images are and read once, in `compute`, over all ranks.

    Args:
        quantizer: its sizes are read.
        downsample: factor of the bicubic baseline, pixels per cell along one side.
        image_size: side of the images in pixels.
        subject: ema or raw, which weights made the reconstructions.
        seed: of the run, for the cards.
        transform: how the images were cut, for the cards.
        reference: which images they are, for the cards.
        losses: what the tokenizer was trained with, for the cards.
        rfid: whether to compute rFID and inception score.
        same_images_as: metrics of another subject that see the same images, `update`d first and not yet reset when this one
            is computed. Its networks and its real features serve both; the bicubic baseline is computed there only.
    """

    def __init__(
        self,
        quantizer: Quantizer,
        downsample: int,
        image_size: int,
        subject: str,
        seed: int,
        transform: str,
        reference: str,
        losses: str | None = None,
        rfid: bool = True,
        same_images_as: "TokenizerMetrics | None" = None,
    ) -> None:
        """Find out what can be computed on this machine.

        Raises:
            ValueError: an unknown subject.
        """
        if subject not in WEIGHTS:
            raise ValueError(f"subject is {subject!r}, expected one of {', '.join(WEIGHTS)}")
        self.bits_per_token, self.factor = quantizer.bits_per_token, downsample
        self.card_fields: dict[str, Any] = {"subject": subject, "seed": seed, "transform": transform, "reference": reference}
        self.card_fields |= {"image_size": image_size, "guidance": None, "losses": losses}
        self.owner = same_images_as
        self.device = torch.device("cpu")
        self.unavailable: dict[str, Skipped] = {}
        self.networks: dict[str, nn.Module] = {}
        self.codebook = self._codebook(quantizer)
        wanted = self._available(image_size, rfid)
        self.pixels = ReconstructionErrors(wanted.intersection(PIXELWISE), downsample)
        self.rate = Sums(["images", "tokens", "pixels"])
        self.with_inception = "rfid" in wanted
        self.real, self.fake, self.score = self._feature_sums()
        self.hashes = {name: sha256(find_weights(name))[:12] for name in {NETWORKS[metric] for metric in wanted if metric in NETWORKS}}

    def reset(self) -> None:
        """Forget all images; networks stay loaded."""
        for part in self._parts():
            part.reset()

    def to(self, device: torch.device | str) -> "TokenizerMetrics":
        """Compute on another device."""
        self.device = torch.device(device)
        for part in self._parts():
            part.to(self.device)
        for network in self.networks.values():
            network.to(self.device)
        return self

    @torch.no_grad()
    def update(self, images: Tensor, output: TokenizerOutput) -> None:
        """Add a batch, in fp32 whatever the precision around it.

        Args:
            images: (B, 3, H, W) in [-1, 1]; B may be 0.
            output: what the tokenizer made of them.

        Raises:
            ValueError: the reconstruction has another shape.
        """
        reconstruction = output.decoder.reconstruction
        if reconstruction.shape != images.shape:
            raise ValueError(f"the reconstruction has the shape {tuple(reconstruction.shape)}, the images {tuple(images.shape)}")
        if len(images) == 0:
            return
        if images.device != self.device:
            self.to(images.device)
        indices = output.quantizer.indices
        with torch.autocast(images.device.type, enabled=False):
            self.rate.add("images", len(images))
            self.rate.add("tokens", indices.shape[0] * indices.shape[1])
            self.rate.add("pixels", images.shape[0] * images.shape[2] * images.shape[3])
            if self.codebook is not None:
                self.codebook.update(indices)
            self.pixels.update(images, reconstruction, self._network("alexnet") if "lpips" in self.pixels.metrics else None)
            if self.with_inception:
                self._update_inception(images, reconstruction)

    @torch.no_grad()
    def compute(self) -> Results:
        """All metrics over the images of all ranks; every rank must call it. Computing twice gives the same."""
        rate = self.rate.read()
        n = round(rate["images"])
        skipped = self.unavailable | self._absent_elsewhere()
        if n == 0:
            skipped = dict.fromkeys(self._all_metrics(), Skipped("no image was evaluated"))
        values = {"bits_per_token": self.bits_per_token}
        if n > 0:
            values["bits_per_pixel"] = self.bits_per_token * rate["tokens"] / rate["pixels"]
            values |= self.pixels.compute()
            values |= self.codebook.compute() if self.codebook is not None else {}
        for name, fewest in FEWEST_IMAGES.items():
            if self.with_inception and name not in skipped and n < fewest:
                skipped[name] = Skipped(f"{name} needs at least {fewest} images, {n} were evaluated")
        if self.with_inception and "rfid" not in skipped:
            values["rfid"] = frechet_distance(self._real_moments(n), self.fake.compute())
        if self.with_inception and "inception_score" not in skipped:
            values["inception_score"] = self.score.compute()
        subject = self.card_fields["subject"]
        not_finite = {name: value for name, value in values.items() if not math.isfinite(value)}
        reasons = {name: Skipped(f"its value with the {subject} weights is {value}") for name, value in not_finite.items()}
        skipped = reasons | skipped
        values = {name: value for name, value in values.items() if name not in skipped}
        return Results(values, {name: self._card(name, n) for name in values}, skipped)

    def _codebook(self, quantizer: Quantizer) -> CodebookCounts | None:
        try:
            return CodebookCounts(quantizer.groups, quantizer.codebook_size)
        except ValueError as error:
            self.unavailable |= dict.fromkeys(CODEBOOK, Skipped(str(error)))
            return None

    def _available(self, image_size: int, rfid: bool) -> set[str]:
        """The metrics beside the codebook's that can be computed here; the reasons for the others go to `unavailable`."""
        wanted = {*PIXELWISE, "rfid", "inception_score"}
        if self.owner is not None:
            wanted.remove("psnr_bicubic")
            self.unavailable |= {name: why for name, why in self.owner.unavailable.items() if name in NETWORKS}
            rfid = rfid and self.owner.with_inception
        if not rfid:
            wanted -= {"rfid", "inception_score"}
        smallest = SMALLEST_SIDE | {"psnr_bicubic": self.factor}
        for name in sorted(wanted - set(self.unavailable)):
            if image_size < smallest.get(name, 1):
                reason = f"{name} needs images of at least {smallest[name]} pixels, image_size is {image_size}"
                self.unavailable[name] = Skipped(reason)
            elif name in NETWORKS:
                try:
                    self._load(NETWORKS[name])
                except MissingWeightsError as error:
                    self.unavailable[name] = Skipped(str(error), error.name)
                except ValueError as error:
                    self.unavailable[name] = Skipped(str(error))
        return wanted - set(self.unavailable)

    def _feature_sums(self) -> tuple[FeatureMoments, FeatureMoments, InceptionScore]:
        """Sums over real and reconstructed images, of no width where rFID is not computed: the moments are 34 MB each."""
        width = {} if self.with_inception else {"width": 0}
        real = FeatureMoments(**width) if self.owner is None else FeatureMoments(width=0)
        return real, FeatureMoments(**width), InceptionScore()

    def _parts(self) -> list[Any]:
        parts = [self.pixels, self.rate, self.codebook, self.real, self.fake, self.score]
        return [part for part in parts if part is not None]

    def _all_metrics(self) -> list[str]:
        names = {*self.pixels.metrics, *CODEBOOK, *self.unavailable, "bits_per_pixel"}
        return sorted(names | ({"rfid", "inception_score"} if self.with_inception else set()))

    def _load(self, name: str) -> None:
        """Load a feature network, one for both subjects."""
        holder = self if self.owner is None else self.owner
        find_weights(name)
        if name not in holder.networks:
            holder.networks[name] = LOADERS[name]()

    def _network(self, name: str) -> nn.Module:
        """A feature network, where the images are."""
        return (self if self.owner is None else self.owner).networks[name]

    def _update_inception(self, images: Tensor, reconstruction: Tensor) -> None:
        network = self._network("inception")
        if self.owner is None:
            self.real.update(inception_features(network, to_unit(images))[0])
        features, logits = inception_features(network, to_unit(reconstruction))
        self.fake.update(features)
        self.score.update(logits)

    def _real_moments(self, n: int) -> tuple[Tensor, Tensor]:
        holder = self if self.owner is None else self.owner
        seen = round(float(sum_over_ranks(holder.real.count)))
        if seen != n:
            raise ValueError(f"{n} images were evaluated, but the metrics that share their real features saw {seen}")
        return holder.real.compute()

    def _absent_elsewhere(self) -> dict[str, Skipped]:
        """What another machine of this run cannot compute: all ranks must agree before they add up."""
        names = sorted(NETWORKS)
        present = torch.tensor([float(name not in self.unavailable) for name in names], device=self.device)
        lacking = [name for name, count in zip(names, sum_over_ranks(present).tolist(), strict=True) if count < world_size()]
        elsewhere = {name: f"{FILES[NETWORKS[name]].filename} is absent on another machine" for name in lacking}
        return {name: self.unavailable.get(name, Skipped(reason, NETWORKS[name])) for name, reason in elsewhere.items()}

    def _card(self, metric: str, n: int) -> dict[str, Any]:
        network = NETWORKS.get(metric)
        library_name = BACKENDS.get(metric)
        resize = f"bicubic down and up by {self.factor}" if metric == "psnr_bicubic" else RESIZES.get(metric)
        return Card(
            metric=metric,
            backend=library(library_name) if library_name else "tessera",
            network=network,
            weights=f"{FILES[network].filename} {self.hashes[network]}" if network else None,
            resize=resize,
            n=n,
            aggregate=AGGREGATES.get(metric, "mean over images"),
            dtype="float32, sums in float64",
            **self.card_fields,
        ).to_dict()
