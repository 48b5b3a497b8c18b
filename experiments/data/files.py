"""The image files of a folder. Imports nothing heavy, so that a configuration is checked before torch is loaded."""

import os
from collections.abc import Iterator, Mapping
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from experiments.config.errors import ConfigError, DataError

EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm")
TOKENS = {"experiments.tokens.cached.CachedTokens": "indices", "experiments.tokens.online.OnlineTokens": "online"}


def check_root(root: str | Path, key: str = "data.root") -> None:
    """Refuse a path without images; stops at the first image.

    Args:
        root: a folder or a file.
        key: configuration key of the path, for messages.

    Raises:
        DataError: the path does not exist, or is a folder without images.
    """
    if not Path(root).exists():
        raise DataError(root, "it does not exist; expected a folder of images or one image file", key)
    if next(image_files(Path(root)), None) is None:
        raise DataError(root, f"it has no images; expected files that end in {', '.join(EXTENSIONS)}", key)


def check_data(config: Mapping[str, Any]) -> None:
    """Check the `root` of a configuration's `data`, or of its `images`, where there is one."""
    for key, node in (("data.root", config), ("data.images.root", config.get("images", {}))):
        if "root" in node:
            check_root(node["root"], key)


def check_images(config: Mapping[str, Any]) -> None:
    """Refuse a configuration's `data` that is tokens.

    Raises:
        ConfigError: it is.
    """
    choice = TOKENS.get(str(config.get("_target_")))
    if choice:
        raise ConfigError("data", choice, expected="images, such as data=image_folder data.root=FOLDER")


def image_files(root: Path) -> Iterator[tuple[str, int]]:
    """Name relative to `root` and size in bytes of each image file below it, in no stated order.

    A file as `root` is itself the one image, with any name. Links are followed, hidden files and folders left out.
    """
    if root.is_file():
        yield root.name, root.stat().st_size
        return
    visited = set()  # real paths: a link may lead back up
    pending = [""]
    while pending:
        folder = pending.pop()
        real = os.path.realpath(root / folder)
        if real in visited:
            continue
        visited.add(real)
        with os.scandir(root / folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    pending.append(f"{folder}{entry.name}/")
                elif entry.name.lower().endswith(EXTENSIONS):
                    yield folder + entry.name, size_of(entry)


def size_of(entry: os.DirEntry[str]) -> int:
    """Bytes, 0 of a broken link: decoding will name it."""
    try:
        return entry.stat().st_size
    except OSError:
        return 0


def class_of(name: str, part: str) -> str | None:
    """The first folder of a relative name below `part` ("", "train/" or "val/"), None if there is none."""
    folder, slash, _ = name.removeprefix(part).partition("/")
    return folder if slash else None


def split(names: list[str], val_share: float) -> tuple[list[str], list[str]]:
    """Training and held-out names, by a hash of each name: new files never move the old ones.

    Both sides get at least one image; a single image is on both.

    Args:
        names: sorted.
        val_share: expected share of held-out names, in (0, 1].
    """
    if len(names) == 1:
        return names, names
    place = {name: int.from_bytes(sha256(os.fsencode(name)).digest()[:8]) / 2**64 for name in names}
    by_place = sorted(names, key=place.__getitem__)
    count = sum(value < val_share for value in place.values())
    held_out = set(by_place[: min(max(count, 1), len(names) - 1)])
    return [name for name in names if name not in held_out], [name for name in names if name in held_out]


def located(name: str) -> Path:
    """Path of a file of an installed package; the package itself is not imported.

    Raises:
        DataError: the file does not exist.
    """
    spec = find_spec(name.partition("/")[0])
    path = Path(spec.origin).parents[1] / name if spec and spec.origin else None
    if path is None or not path.is_file():
        raise DataError(name, "this file of a package is missing; reinstall scikit-image and scikit-learn, or set data=image_folder")
    return path
