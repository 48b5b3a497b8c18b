"""What generated pictures are measured against: statistics and features of real ones, kept in one file so that they are computed once."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from experiments.evaluation.metrics.adm_file import PICTURES, AdmFile
from experiments.evaluation.metrics.features import FeatureExtractor
from experiments.evaluation.metrics.frechet import FeatureMoments
from experiments.evaluation.metrics.images import to_unit
from experiments.evaluation.metrics.reservoir import Reservoir
from tokenizer.interfaces import ImageBatch
from tokenizer.weights import sha256

log = logging.getLogger(__name__)

KEPT = 10_000
"""Features for precision and recall, as many as pictures in ADM's reference files."""
FOLDER = Path("runs/references")
VERSION = 1

Moments = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class ReferenceStatistics:
    """Of one set of real pictures, by one network; tensors on the CPU.

    Attributes:
        network: its name and weights.
        description: which pictures, for cards.
        moments: mean (F,) and covariance (F, F) of the pooled features, float64.
        spatial: mean (S,) and covariance (S, S) of the spatial features, float64; None where they are not known.
        features: (R, F) fp32 pooled features for precision and recall; None where only moments are known.
    """

    network: str
    description: str
    moments: Moments
    spatial: Moments | None
    features: Tensor | None

    @classmethod
    def from_images(cls, loader: Iterable[ImageBatch], network: FeatureExtractor, description: str) -> "ReferenceStatistics":
        """Of all pictures of a loader, uint8 or in [-1, 1].

        Args:
            loader: one pass over the pictures.
            network: computes the features.
            description: which pictures they are; their number is added.

        Raises:
            ValueError: fewer than two pictures.
        """
        unreadable: list[str] = []

        def images() -> Iterable[Tensor]:
            for batch in loader:
                unreadable.extend(batch.left_out)
                yield batch.images

        sums = _Sums(network)
        sums.add_all(images())
        if unreadable:
            log.warning("%d pictures of the reference cannot be read and are left out: %s ...", len(unreadable), ", ".join(unreadable[:3]))
        return sums.statistics(f"{description}, {sums.kept.seen} pictures")

    @classmethod
    def from_npz(cls, path: Path, network: FeatureExtractor) -> "ReferenceStatistics":
        """Of a file of ADM's evaluation: its own statistics where it has mu and sigma, its pictures for the rest.

        Statistics of its own come of other pictures than it holds, so the spatial ones are then never those of its pictures: without
        mu_s and sigma_s there are none.

        Raises:
            ValueError: it is damaged, pickled, lacks what is needed, or was made by a network of another width.
        """
        file = AdmFile(path)
        described = f"{Path(path).name} {sha256(Path(path))[:12]}"
        stored = _stored(file, ("mu", "sigma"), network.width, network.name)
        spatial = _stored(file, ("mu_s", "sigma_s"), network.spatial_width, network.name) if network.spatial_width else None
        if stored is None and PICTURES not in file.names:
            names = ", ".join(sorted(file.names)) or "nothing"
            raise ValueError(f"{path} holds {names}; expected pictures in {PICTURES}, or statistics in mu and sigma")
        if PICTURES not in file.names:
            assert stored is not None
            return cls(identity(network), f"{described}, its mu and sigma", stored, spatial, None)
        sums = _Sums(network, with_moments=stored is None)
        sums.add_all(file.pictures())
        if stored is None:
            return sums.statistics(f"{described}, its {sums.kept.seen} pictures")
        return cls(identity(network), f"{described}, its mu and sigma, its {sums.kept} pictures", stored, spatial, sums.kept.rows.clone())

    def save(self, path: Path) -> None:
        """Write one safetensors file, whole or not at all."""
        tensors = {"mean": self.moments[0], "covariance": self.moments[1]}
        if self.spatial is not None:
            tensors |= {"spatial_mean": self.spatial[0], "spatial_covariance": self.spatial[1]}
        if self.features is not None:
            tensors["features"] = self.features
        metadata = {"version": VERSION, "network": self.network, "description": self.description}
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, beside, {"tessera": json.dumps(metadata)})
        os.replace(beside, path)

    @classmethod
    def load(cls, path: Path, network: FeatureExtractor) -> "ReferenceStatistics":
        """What `save` wrote.

        Raises:
            ValueError: it is damaged, or was made with another network.
        """
        try:
            with safe_open(path, framework="pt") as file:
                metadata = json.loads((file.metadata() or {})["tessera"])
                names = file.keys()
                tensors = {name: file.get_tensor(name) for name in names}
            spatial = (tensors["spatial_mean"], tensors["spatial_covariance"]) if "spatial_mean" in tensors else None
            made_by, description = str(metadata["network"]), str(metadata["description"])
            moments = tensors["mean"], tensors["covariance"]
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            raise ValueError(f"{path} is no file of reference statistics ({error}); delete it, and it is made again") from error
        if made_by != identity(network):
            raise ValueError(f"{path} was made with {made_by}, expected {identity(network)}; delete it, and it is made again")
        return cls(made_by, description, moments, spatial, tensors.get("features"))


def identity(network: FeatureExtractor) -> str:
    """A network's name and weights."""
    return f"{network.name}, {network.weights}"


def cached_reference(
    contents: str, network: FeatureExtractor, make: Callable[[], ReferenceStatistics], folder: Path = FOLDER
) -> ReferenceStatistics:
    """Reference statistics from the folder's file, which is made if it is not there.

    Args:
        contents: what decides the pictures: a data fingerprint with the split, or the SHA-256 of an npz file.
        network: computes the features.
        make: computes the statistics.
        folder: of such files; a file is named by a hash of contents and network.

    Raises:
        ValueError: the file is damaged, or what `make` raises.
    """
    text = json.dumps([VERSION, contents, identity(network), network.resize, KEPT])
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:12]}.safetensors"
    if path.is_file():
        return ReferenceStatistics.load(path, network)
    reference = make()
    reference.save(path)
    log.info("reference statistics %s: %s", path, reference.description)
    return reference


class _Sums:
    """Running statistics of pictures."""

    def __init__(self, network: FeatureExtractor, with_moments: bool = True) -> None:
        self.network = network
        self.with_moments = with_moments
        self.moments_of_pool = FeatureMoments(network.width if with_moments else 0)
        self.moments_of_map = FeatureMoments(network.spatial_width if with_moments else 0)
        self.kept = Reservoir(KEPT, network.width)
        for moments in (self.moments_of_pool, self.moments_of_map):
            moments.to(network.device)

    @torch.no_grad()
    def add_all(self, batches: Iterable[Tensor]) -> None:
        """(B, 3, H, W) images, uint8 or float in [-1, 1]; B may be 0."""
        for images in batches:
            if not len(images):
                continue
            features = self.network(images / 255 if images.dtype == torch.uint8 else to_unit(images))
            self.kept.update(features.pool)
            if self.with_moments:
                self.moments_of_pool.update(features.pool)
                if features.spatial is not None:
                    self.moments_of_map.update(features.spatial)

    def statistics(self, description: str) -> ReferenceStatistics:
        """Of everything that was added."""
        if self.kept.seen < 2:
            raise ValueError(f"the reference ({description}) is too small: a covariance needs at least two pictures")
        for moments in (self.moments_of_pool, self.moments_of_map):
            moments.join()
        pool = self.moments_of_pool.compute()
        spatial = self.moments_of_map.compute() if self.network.spatial_width else None
        on_cpu = [None if pair is None else (pair[0].cpu(), pair[1].cpu()) for pair in (pool, spatial)]
        assert on_cpu[0] is not None
        return ReferenceStatistics(identity(self.network), description, on_cpu[0], on_cpu[1], self.kept.rows.clone())


def _stored(file: AdmFile, names: tuple[str, str], width: int, network: str) -> Moments | None:
    """Mean and covariance that a file holds, None if it holds neither."""
    present = [name for name in names if name in file.names]
    if not present:
        return None
    if len(present) < 2:
        raise ValueError(f"{file.path} holds {present[0]} alone, expected both {names[0]} and {names[1]}")
    mean, covariance = (torch.from_numpy(file.array(name)) for name in names)
    if mean.shape != (width,) or covariance.shape != (width, width):
        shapes = f"{tuple(mean.shape)} and {tuple(covariance.shape)}"
        raise ValueError(
            f"{names[0]} and {names[1]} of {file.path} have the shapes {shapes}, the features of {network} have the width {width}"
        )
    return mean, covariance
