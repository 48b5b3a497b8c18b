"""Statistics and features of real images, the reference of samples, cached in one file."""

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

from experiments.config.errors import DataError
from experiments.config.parsing import parse_json
from experiments.evaluation.metrics.adm_file import IMAGES, KEY, AdmFile
from experiments.evaluation.metrics.frechet import FeatureMoments
from experiments.evaluation.metrics.inception import FeatureExtractor, to_unit
from experiments.evaluation.metrics.reservoir import Reservoir
from tokenizer.files import sha256, short_hash, write_bytes
from tokenizer.fitting import digest_of_tensors
from tokenizer.interfaces import ImageBatch

log = logging.getLogger(__name__)

STORED = 10_000  # features for precision and recall, as many as images in ADM's reference files
FOLDER = Path("runs/references")
VERSION = 2  # of the files and their texts

Moments = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class ReferenceStatistics:
    """Statistics of one set of real images by one network; tensors on the CPU."""

    network: str  # its name and weights
    description: str  # which images, for cards
    moments: Moments  # mean (F,) and covariance (F, F) of the pooled features, float64
    spatial: Moments | None  # mean (S,) and covariance (S, S) of the spatial features, float64; None where they are not known
    features: Tensor | None  # (R, F) fp32 pooled features for precision and recall; None where only moments are known

    @classmethod
    def from_images(cls, loader: Iterable[ImageBatch], network: FeatureExtractor, description: str) -> "ReferenceStatistics":
        """Statistics of all images of a loader, uint8 or in [-1, 1].

        Args:
            loader: one pass over the images.
            network: computes the features.
            description: which images they are; their number is added.

        Raises:
            DataError: fewer than two images.
        """
        unreadable: list[str] = []

        def images() -> Iterable[Tensor]:
            for batch in loader:
                unreadable.extend(batch.left_out)
                yield batch.images

        statistics = cls._from_batches(images(), network, f"{description},")
        if unreadable:
            log.warning("%d images of the reference cannot be read and are left out: %s ...", len(unreadable), ", ".join(unreadable[:3]))
        return statistics

    @classmethod
    def from_npz(cls, path: Path, network: FeatureExtractor) -> "ReferenceStatistics":
        """Statistics of a file of ADM's evaluation: mu and sigma where it has them, otherwise those of its images.

        Its statistics are those of other images than it has, so that with mu and sigma there are no spatial ones without mu_s and sigma_s.

        Raises:
            DataError: it is damaged, pickled, incomplete, or was made by a network of another width.
        """
        file = AdmFile(path)
        described = f"{Path(path).name} {sha256(Path(path))[:12]}"
        stored = _stored(file, ("mu", "sigma"), network.width, network.name)
        spatial = _stored(file, ("mu_s", "sigma_s"), network.spatial_width, network.name) if network.spatial_width else None
        if stored is None and IMAGES not in file.names:
            names = ", ".join(sorted(file.names)) or "nothing"
            raise DataError(path, f"it has {names}; expected images in {IMAGES}, or statistics in mu and sigma", KEY)
        if IMAGES not in file.names:
            assert stored is not None
            return cls(identity(network), f"{described}, its mu and sigma", stored, spatial, None)
        if stored is None:
            return cls._from_batches(file.images(), network, f"{described}, its")
        return cls._from_batches(file.images(), network, f"{described}, its mu and sigma, its", stored, spatial)

    @classmethod
    def from_images_of_npz(cls, path: Path, network: FeatureExtractor) -> "ReferenceStatistics":
        """Statistics of the images in such a file by another network than Inception.

        Raises:
            DataError: it is damaged or pickled, or has no images.
        """
        return cls._from_batches(AdmFile(path).images(), network, f"{Path(path).name} {sha256(Path(path))[:12]}, its")

    @classmethod
    @torch.no_grad()
    def _from_batches(
        cls,
        batches: Iterable[Tensor],
        network: FeatureExtractor,
        description: str,
        moments: Moments | None = None,
        spatial: Moments | None = None,
    ) -> "ReferenceStatistics":
        """Features of images (B, 3, H, W), uint8 or in [-1, 1], B may be 0; with their moments unless there are others."""
        rows = Reservoir(STORED, network.width)
        sums = [] if moments else [FeatureMoments(network.width), FeatureMoments(network.spatial_width)]
        for each in sums:
            each.to(network.device)
        for images in batches:
            if not len(images):
                continue
            features = network(images / 255 if images.dtype == torch.uint8 else to_unit(images))
            rows.update(features.pool)
            for each, values in zip(sums, (features.pool, features.spatial), strict=False):
                if values is not None:
                    each.update(values)
        if moments:
            return cls(identity(network), f"{description} {rows} images", moments, spatial, rows.rows.clone())
        description = f"{description} {rows.seen} images"
        if rows.seen < 2:
            raise DataError(None, f"the reference ({description}) is too small: a covariance needs at least two images")
        moments, spatial = (_computed(each) for each in sums)
        return cls(identity(network), description, moments, spatial if network.spatial_width else None, rows.rows.clone())

    def save(self, path: Path) -> None:
        """Write one safetensors file, whole or not at all."""
        tensors = {"mean": self.moments[0], "covariance": self.moments[1]}
        if self.spatial is not None:
            tensors |= {"spatial_mean": self.spatial[0], "spatial_covariance": self.spatial[1]}
        if self.features is not None:
            tensors["features"] = self.features
        metadata = {"version": VERSION, "network": self.network, "description": self.description, "sha256": digest_of_tensors(tensors)}
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        write_bytes(path, save_tensors(contiguous, {"tessera": json.dumps(metadata)}))

    @classmethod
    def load(cls, path: Path, network: FeatureExtractor) -> "ReferenceStatistics":
        """Read a file that `save` wrote.

        Raises:
            DataError: it is damaged, or was made with another network.
        """
        try:
            with safe_open(path, framework="pt") as file:
                metadata = dict(parse_json((file.metadata() or {})["tessera"]))
                names = file.keys()
                tensors = {name: file.get_tensor(name) for name in names}
            spatial = (tensors["spatial_mean"], tensors["spatial_covariance"]) if "spatial_mean" in tensors else None
            digest = digest_of_tensors(tensors)
            if metadata.get("sha256", digest) != digest:  # files of earlier versions have none
                raise ValueError("it is damaged: its SHA-256 differs")
            made_by, description = str(metadata["network"]), str(metadata["description"])
            moments = tensors["mean"], tensors["covariance"]
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            raise DataError(path, f"it is no file of reference statistics ({error}); delete it, and it is made again") from error
        if made_by != identity(network):
            raise DataError(path, f"it was made with {made_by}, expected {identity(network)}; delete it, and it is made again")
        return cls(made_by, description, moments, spatial, tensors.get("features"))


def identity(network: FeatureExtractor) -> str:
    """A network's name and weights."""
    return f"{network.name}, {network.weights}"


def cached_reference(
    contents: str, network: FeatureExtractor, make: Callable[[], ReferenceStatistics], folder: Path = FOLDER
) -> ReferenceStatistics:
    """Reference statistics from their file, which is made if it is absent.

    Args:
        contents: identity of the images: a data fingerprint with the split, or the SHA-256 of an npz file.
        network: computes the features.
        make: computes the statistics.
        folder: folder of such files; a file is named by a hash of contents and network.

    Raises:
        DataError: the file is damaged, or an error of `make`.
    """
    path = folder / f"{short_hash([VERSION, contents, identity(network), network.resize, STORED])}.safetensors"
    if path.is_file():
        return ReferenceStatistics.load(path, network)
    reference = make()
    reference.save(path)
    log.info("reference statistics %s: %s", path, reference.description)
    return reference


def _computed(sums: FeatureMoments) -> Moments:
    sums.join()
    mean, covariance = sums.compute()
    return mean.cpu(), covariance.cpu()


def _stored(file: AdmFile, names: tuple[str, str], width: int, network: str) -> Moments | None:
    """Mean and covariance in a file, None if it has neither."""
    present = [name for name in names if name in file.names]
    if not present:
        return None
    if len(present) < 2:
        raise DataError(file.path, f"it has {present[0]} alone, expected both {names[0]} and {names[1]}", KEY)
    shapes = [file.shape(name) for name in names]
    if shapes != [(width,), (width, width)]:
        reason = f"{names[0]} and {names[1]} have the shapes {shapes[0]} and {shapes[1]}, the features of {network} have the width {width}"
        raise DataError(file.path, reason, KEY)
    mean, covariance = (torch.from_numpy(file.array(name)) for name in names)
    return mean, covariance
