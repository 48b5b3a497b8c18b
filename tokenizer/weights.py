"""Weights of other people's networks: which file, where it lies, how to get it. Imports no torch: start-up checks read it.

They lie in the folder named by the environment variable TESSERA_WEIGHTS, by default `tessera` in the user's cache folder.
Nothing is ever fetched implicitly; `python -m experiments.weights` lists, checks and fetches.
"""

import logging
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tokenizer.files import sha256 as sha256  # also for callers of this module

log = logging.getLogger(__name__)


class MissingWeightsError(FileNotFoundError):
    """A network was asked for whose weights are not on this machine."""


@dataclass(frozen=True)
class WeightsFile:
    """One file of weights.

    Attributes:
        name: how configurations call it.
        filename: its name in the weights folder.
        source: the address it is published at.
        sha256_prefix: the first hexadecimal digits of its SHA-256, "" if its publisher states none.
        purpose: what it is for, in a few words.
        mebibytes: about how large it is, 0 if that is not known.
    """

    name: str
    filename: str
    source: str
    sha256_prefix: str
    purpose: str
    mebibytes: int = 0

    @property
    def path(self) -> Path:
        """Where the file belongs on this machine."""
        return weights_folder() / self.filename


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
    )
}


def weights_folder() -> Path:
    """The folder of weights: $TESSERA_WEIGHTS, or `tessera` in the user's cache folder."""
    named = os.environ.get("TESSERA_WEIGHTS")
    if named:
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "tessera"


def find_weights(name: str, without: str = "") -> Path:
    """Path of a file of weights.

    Args:
        name: a key of `FILES`.
        without: the option that does without it, for the message, such as `loss.weights.perceptual=0`.

    Raises:
        MissingWeightsError: the file is not there. The message is one line: what, where it goes, how to get it, how to do without.
        ValueError: no such name.
    """
    if name not in FILES:
        raise ValueError(f"no weights are known as {name!r}; known: {', '.join(FILES)}")
    file = FILES[name]
    if file.path.is_file():
        return file.path
    instead = f"; {without} does without it" if without else ""
    raise MissingWeightsError(
        f"{file.purpose} needs {file.filename}, expected at {file.path}: run `python -m experiments.weights fetch {name}`, "
        f"or copy it there from {file.source}{instead}"
    )


@contextmanager
def reading_weights(name: str, without: str = "") -> Iterator[Path]:
    """Path of a file of weights, to be read inside the `with`; a file that is not the published one is used with a warning.

    Args:
        name: a key of `FILES`.
        without: see `find_weights`.

    Raises:
        MissingWeightsError: the file is not there.
        ValueError: what is inside could not read the file: it is damaged, or holds another network.
    """
    path, expected = find_weights(name, without), FILES[name].sha256_prefix
    if not sha256(path).startswith(expected):
        log.warning("%s is not the published file: its SHA-256 starts with %s, not %s", path, sha256(path)[:12], expected)
    try:
        yield path
    except (RuntimeError, EOFError, pickle.UnpicklingError, LookupError, AttributeError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{path} cannot be read as the weights of {name} ({reason}); `python -m experiments.weights fetch {name}` replaces it"
        ) from error
