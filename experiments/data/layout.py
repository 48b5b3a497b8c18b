"""Training and evaluation images of a folder, and their classes, from names alone."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from experiments.config.errors import DataError

ROLES = {"train": "train", "training": "train", "test": "test", "testing": "test"}  # of folders, whatever the case of their names
ROLES |= dict.fromkeys(("val", "valid", "validation"), "val")
TOLERATED_STRAYS = 10  # up to this many images outside all class folders, or one in a hundred, are left out
EXPECTED = "expected train/<class>/ and val/<class>/, or <class>/, or images without classes"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Layout:
    """Sorted names of the training and the evaluation images, sorted class names, and a description of the evaluation images."""

    train: list[str]
    val: list[str]
    classes: list[str] | None
    which: str


def layout_of(root: Path, names: list[str], val_share: float, evaluated: Literal["held_out", "all"]) -> Layout:
    """The layout of a folder; what is not as expected is logged with numbers.

    Args:
        root: the folder or file.
        names: sorted, relative to it.
        val_share: expected share of held-out images where there is no val folder.
        evaluated: where there is no val folder, the held-out share or all images.

    Raises:
        DataError: train and val folders are deeper in the folder, have two names or no images, or a val class that training does not have.
    """
    _check_wrapper(root, names)
    folders = _split_folders(root, names)
    train = [name for name in names if part_of(name) == folders.get("train", "/")]
    role = "val" if "val" in folders or "train" in folders else "test"
    val = [name for name in names if part_of(name) == folders.get(role, "/")]
    _check_others(root, names, len(names) - len(train) - len(val), folders, train, val)
    if not val:
        names, classes = _labeled(root, train or names)
        if evaluated == "all":
            return Layout(names, names, classes, "all images")
        return Layout(*split(names, val_share, classes), classes, f"held-out share {val_share:g}")
    train, classes = _labeled(root, train)
    val, val_classes = _labeled(root, val)
    classes = val_classes if not train else classes
    if classes and val_classes is None:
        log.warning("%d of %d evaluation images are in no class folder: they have no labels", _strays(val), len(val))
    owners = {class_of(name) for name in val} - {None, *(classes or [])} if classes else set()
    if owners:
        unknown = ", ".join(sorted(str(owner) for owner in owners)[:5])
        raise DataError(root, f"it has {len(owners)} val classes that training does not have: {unknown}", "data.root")
    return Layout(train, val, classes, f"{folders[role].rstrip('/')} folder")


def part_of(name: str) -> str:
    """The first folder of a relative name, as "train/", if that is a usual name of a split; otherwise empty."""
    first = name[: name.find("/") + 1]
    return first if first[:-1].casefold() in ROLES else ""


def class_of(name: str) -> str | None:
    """The first folder of a relative name below its split's, None if there is none."""
    folder, slash, _ = name.removeprefix(part_of(name)).partition("/")
    return folder if slash else None


def _check_wrapper(root: Path, names: list[str]) -> None:
    """Refuse a folder whose train and val folders are deeper in it."""
    roles: dict[str, set[str]] = {}
    for folder in {os.path.dirname(name) for name in names}:
        words = folder.split("/")
        for depth, word in enumerate(words):
            if word.casefold() in ROLES:
                roles.setdefault("/".join(words[:depth]), set()).add(ROLES[word.casefold()])
                break
    tops = {name.partition("/")[0] for name in names}
    deeper = sorted(place for place, found in roles.items() if place and (len(tops) == 1 or len(found & {"train", "val", "test"}) > 1))
    if deeper and "" not in roles:
        more = f" and in {len(deeper) - 1} other folders" if len(deeper) > 1 else f": set data.root={root / deeper[0]}"
        raise DataError(root, f"its {' and '.join(sorted(roles[deeper[0]]))} folders are in {deeper[0]}{more}; {EXPECTED}", "data.root")


def _split_folders(root: Path, names: list[str]) -> dict[str, str]:
    """Folder of each split, as "train/"."""
    used = {part_of(name) for name in names} - {""}
    try:
        tops = {f"{entry.name}/" for entry in os.scandir(root) if entry.is_dir()} if root.is_dir() else set()
    except OSError:
        tops = set()
    folders: dict[str, str] = {}
    for part in sorted(used | {top for top in tops if top[:-1].casefold() in ROLES}):
        role = ROLES[part[:-1].casefold()]
        if part not in used and role != "test":
            raise DataError(root, f"its folder {part} has no images; expected images in it, or no such folder", "data.root")
        if role in folders:
            raise DataError(root, f"it has {folders[role]} and {part}, two folders for one split; expected one of them", "data.root")
        if part in used:
            folders[role] = part
    return folders


def _check_others(root: Path, names: list[str], count: int, folders: dict[str, str], train: list[str], val: list[str]) -> None:
    """Log the images outside the folders of splits, and refuse evaluation images beside images of no split."""
    if not count or not (train or val):
        return
    used = " and ".join(folders[role] for role in ("train", "val", "test") if role in folders)
    outside = [
        name for name in names if part_of(name) not in {folders.get("train"), folders.get("val" if train or "val" in folders else "test")}
    ]
    if val and not train:
        raise DataError(
            root, f"it has {used} and {count} images outside, such as {outside[0]}, but no train folder; {EXPECTED}", "data.root"
        )
    log.warning("data.root has %s: %d images outside them are not used, such as %s; %s", used, count, outside, EXPECTED)


def _strays(names: Sequence[str]) -> int:
    return sum(class_of(name) is None for name in names)


def _labeled(root: Path, names: list[str]) -> tuple[list[str], list[str] | None]:
    """Names without a few that are in no class folder, and the sorted classes; None if more are in none."""
    strays = [name for name in names if class_of(name) is None]
    in_class = len(names) - len(strays)
    shown = ", ".join(strays[:3])
    if strays and in_class:
        if len(strays) > max(TOLERATED_STRAYS, len(names) // 100) or len(strays) >= in_class:
            log.warning("%d of %d images are in no class folder, such as %s: there are no labels", len(strays), len(names), shown)
            return names, None
        log.warning("%d of %d images are in no class folder and are left out: %s", len(strays), len(names), shown)
        names = [name for name in names if class_of(name) is not None]
    if not in_class:
        return names, None
    classes = sorted({str(class_of(name)) for name in names})
    if len(classes) == 1:
        folders = {name.split("/")[1] for name in names if name.count("/") > 1 and not part_of(name)}
        advice = f"; if its {len(folders)} folders are the classes, set data.root={root / classes[0]}" if len(folders) > 1 else ""
        log.warning("all %d images are in one folder, so there is one class: %s%s", len(names), classes[0], advice)
    return names, classes


def split(names: list[str], val_share: float, classes: Sequence[str] | None = None) -> tuple[list[str], list[str]]:
    """Training and held-out names, by a hash of each name: new files never move the old ones.

    Both sides get at least one image; a single image is on both. A class without a training image gets the held-out one that is last in the
    order of the hashes, as long as another is held out.

    Args:
        names: sorted.
        val_share: expected share of held-out names, in (0, 1].
        classes: names of the classes, if there are labels.
    """
    if len(names) == 1:
        return names, names
    place = {name: int.from_bytes(sha256(os.fsencode(name)).digest()[:8]) / 2**64 for name in names}
    by_place = sorted(names, key=place.__getitem__)
    count = sum(value < val_share for value in place.values())
    held_out = by_place[: min(max(count, 1), len(names) - 1)]
    if classes:
        held_out = _with_training_images(names, held_out, classes)
    chosen = set(held_out)
    return [name for name in names if name not in chosen], [name for name in names if name in chosen]


def _with_training_images(names: list[str], held_out: list[str], classes: Sequence[str]) -> list[str]:
    """The held-out names without one of each class that would have no training image."""
    chosen = set(held_out)
    missing = set(classes) - {class_of(name) for name in names if name not in chosen}
    remaining = list(held_out)
    for name in reversed(held_out):
        if class_of(name) in missing and len(remaining) > 1:
            remaining.remove(name)
            missing.discard(class_of(name))
    if missing:
        log.warning("%d of %d classes have no training image: %s", len(missing), len(classes), ", ".join(sorted(map(str, missing))[:5]))
    return remaining
