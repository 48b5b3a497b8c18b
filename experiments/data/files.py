"""The image files of a folder. Imports nothing heavy, so that a configuration is checked before torch is loaded."""

import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from experiments.config.errors import TEXT, ConfigError, DataError
from experiments.runs.kinds import kind_of_model, kind_of_path
from tokenizer.files import kind_of

EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm")
SHARDS = (".tar", ".tgz", ".tar.gz", ".parquet", ".arrow", ".tfrecord", ".zip", ".h5", ".lmdb")  # kinds of files that hold many images
TOKENS = {"experiments.tokens.cached.CachedTokens": "indices", "experiments.tokens.online.OnlineTokens": "online"}


def check_root(root: str | Path, key: str = "data.root") -> None:
    """Refuse a path without images; stops at the first image.

    Args:
        root: a folder or a file.
        key: configuration key of the path, for messages.

    Raises:
        DataError: the path does not exist or cannot be inspected, is neither a file nor a folder, is a file that is no image, or is a
            folder without images.
    """
    mode = mode_of(root, "a folder of images or one image file", key)
    if stat.S_ISREG(mode):
        _check_image(root, key)
    elif not stat.S_ISDIR(mode):
        raise DataError(root, f"it is {kind_of(mode)}; expected a folder of images or one image file", key)
    elif kind := kind_of_model(Path(root)):  # its images are figures
        raise DataError(root, f"it is {kind}; expected a folder of images or one image file", key)
    elif not any(status is not None and stat.S_ISREG(status.st_mode) for _, status in image_files(Path(root))):
        expected, kind = f"expected files that end in {', '.join(EXTENSIONS)}", kind_of_path(root)
        raise DataError(root, f"it is {kind}; {expected}" if kind else f"it has no images{_other_files(root)}; {expected}", key)


def check_file(path: str | Path, key: str, expected: str) -> None:
    """Refuse a path that is not a regular file after following links: opening a pipe, for one, would wait without end.

    Args:
        path: the path.
        key: its configuration key, for messages.
        expected: description of the file.

    Raises:
        DataError: it is not.
    """
    mode = mode_of(path, expected, key)
    if not stat.S_ISREG(mode):
        raise DataError(path, f"it is {kind_of_path(path) or kind_of(mode)}; expected {expected}", key)


def mode_of(path: str | Path, expected: str, key: str = "") -> int:
    """Type and permissions of what a path leads to.

    Raises:
        DataError: it cannot be inspected.
    """
    try:
        return Path(path).stat().st_mode
    except FileNotFoundError as error:
        raise DataError(path, f"it does not exist; expected {expected}", key) from error
    except OSError as error:
        raise DataError(path, f"it cannot be inspected: {error.strerror}; expected {expected}", key) from error


def _check_image(path: str | Path, key: str) -> None:
    from experiments.data.decoding import check_header  # imports numpy

    try:
        check_header(Path(path))
    except DataError as error:
        shard = "; shards of many images are not supported, unpack them into a folder" if str(path).lower().endswith(SHARDS) else ""
        kind = kind_of_path(path)
        reason = f"it is {kind}" if kind and not kind.startswith("an image") else f"{error.reason}{shard}"
        raise DataError(path, f"{reason}; expected a folder of images or one image file", key) from error


def _other_files(root: str | Path) -> str:
    """The most frequent suffixes of the files below a folder, for a message."""
    suffixes = Counter(Path(name).suffix.lower() for _, _, names in os.walk(root) for name in names)
    if not suffixes:
        return ""
    found = "; it has " + ", ".join(f"{count} files {suffix or 'without a suffix'}" for suffix, count in suffixes.most_common(3))
    return found + ("; shards of many images are not supported, unpack them" if any(suffix in SHARDS for suffix in suffixes) else "")


def check_data(config: Mapping[str, Any]) -> None:
    """Check the paths of a configuration's `data`: `root`, also that of its `images`, and `file`, where there is one.

    Raises:
        ConfigError: it is no text.
        DataError: see `check_root`.
    """
    for key, node in (("data.root", config), ("data.images.root", config.get("images", {}))):
        if "root" in node:
            if not isinstance(node["root"], str) or not node["root"]:
                raise ConfigError(key, node["root"], expected=f"{TEXT}, the path of a folder or a file")
            check_root(node["root"], key)
    if isinstance(config.get("file"), str):
        check_file(config["file"], "data.file", "a token cache")


def check_images(config: Mapping[str, Any]) -> None:
    """Refuse a configuration's `data` that is tokens.

    Raises:
        ConfigError: it is.
    """
    choice = TOKENS.get(str(config.get("_target_")))
    if choice:
        raise ConfigError("data", choice, expected="images, such as data=image_folder data.root=FOLDER")


def image_files(root: Path, skipped: dict[str, list[str]] | None = None) -> Iterator[tuple[str, os.stat_result | None]]:
    """Name relative to `root` and status of each image file below it, in no stated order.

    A file as `root` is itself the one image, with any name. Links are followed, hidden files and folders left out. The status is None
    where the file cannot be inspected, such as a broken link; decoding will name it.

    Args:
        root: a folder or a file.
        skipped: receives, by reason, the names of folders that cannot be read and of files whose names are not UTF-8.
    """
    skipped = {} if skipped is None else skipped
    if root.is_file():
        yield root.name, root.stat()
        return
    visited = set()  # real paths: a link may lead back up
    pending = [""]
    while pending:
        folder = pending.pop()
        real = os.path.realpath(root / folder)
        if real in visited:
            continue
        visited.add(real)
        try:
            entries = list(os.scandir(root / folder))
        except OSError as error:
            skipped.setdefault(f"folders cannot be read ({error.strerror})", []).append(folder or ".")
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if not _in_utf8(entry.name):
                skipped.setdefault("names are not UTF-8", []).append(ascii(folder + entry.name))
            elif _is_folder(entry):
                pending.append(f"{folder}{entry.name}/")
            elif entry.name.lower().endswith(EXTENSIONS):
                yield folder + entry.name, status_of(entry)


def _in_utf8(name: str) -> bool:
    """Whether Python could decode a name: it replaces other bytes by surrogates."""
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """False also for what cannot be inspected, such as a link to itself."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def status_of(entry: os.DirEntry[str]) -> os.stat_result | None:
    """What a link leads to; None of a broken link."""
    try:
        return entry.stat()
    except OSError:
        return None


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
