"""Errors that a user can correct. Each is shown as one line and ends the process with status 1; anything else is a bug with a traceback.

An error carries what it is about in fields; no code reads the text of a message.
"""

import copyreg
import difflib
import errno
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TEXT = "text"  # begins `expected` where a value has to be text
UNSET: Any = type("Unset", (), {"__repr__": lambda _: "UNSET", "__bool__": lambda _: False})()  # a value that was not given; None is null


class TesseraError(Exception):
    """Base of all errors that are shown as one line. It keeps its class and fields when it is pickled, whatever its constructor takes."""

    def __reduce__(self) -> tuple[Any, ...]:
        return copyreg.__newobj__, (type(self),), {"args": self.args, **self.__dict__}  # type: ignore[attr-defined]


class ConfigError(TesseraError, ValueError):
    """A setting, an argument of the command line or a line of a configuration file that cannot be used.

    The message is `place: key=value: reason; expected ...; nearest: ...; advice`, of which absent parts are left out.

    Args:
        key: dotted key, file or option; empty where the error is not about one.
        value: value of the key; left out of the message if it is not given.
        reason: what is wrong, if `expected` does not imply it.
        expected: description of valid values.
        nearest: the valid name that is most similar to the value or to the key.
        place: where the key was set, such as a file and a row.
        advice: what to do; by default, to change the key.
    """

    def __init__(
        self,
        key: str = "",
        value: Any = UNSET,
        *,
        reason: str = "",
        expected: str = "",
        nearest: str = "",
        place: str = "",
        advice: str | None = None,
    ) -> None:
        self.key, self.value, self.reason, self.expected, self.nearest, self.place = key, value, reason, expected, nearest, place
        self.advice = advice if advice is not None else f"change `{key}`" if value is not UNSET else ""
        super().__init__(self._line())

    def _line(self) -> str:
        subject = self.key if self.value is UNSET else f"{self.key}={spelled(self.value)}"
        parts = [self.reason, f"expected {self.expected}" * bool(self.expected)]
        parts += [f"nearest: `{self.nearest}`" * bool(self.nearest), self.advice]
        return ": ".join(part for part in (self.place, subject, "; ".join(part for part in parts if part)) if part)

    def at(self, place: str) -> "ConfigError":
        """The same error with the place where it happened."""
        return self.changed(place=", ".join(part for part in (place, self.place) if part))

    def changed(self, **fields: Any) -> "ConfigError":
        """The same error with other fields; the default advice names the new key."""
        if "key" in fields and self.advice == f"change `{self.key}`":
            fields["advice"] = None
        return ConfigError(**{**vars(self), **fields})


class DataError(TesseraError, ValueError):
    """A file or folder of data that is absent, damaged or not what it was taken for; `key` is the configuration key of its path."""

    def __init__(self, path: Path | str | None, reason: str, key: str = "") -> None:
        self.path, self.reason, self.key = path, reason, key
        subject = f"{key}={path}" if key and path is not None else key if path is None else str(path)
        super().__init__(": ".join(part for part in (subject, f"{reason}; change `{key}`" if key else reason) if part))


class RunFolderError(TesseraError, ValueError):
    """A run folder that cannot be used as asked.

    Each of `changes` is a setting with its value in the run and in the configuration, which differ.
    """

    def __init__(self, path: Path | str, reason: str, changes: Sequence[tuple[str, Any, Any]] = ()) -> None:
        self.path, self.reason, self.changes = Path(path), reason, list(changes)
        super().__init__("\n  ".join([f"{path}: {reason}", *(f"{key}: {old} -> {new}" for key, old, new in self.changes)]))


class DiskFull(TesseraError, OSError):  # noqa: N818 (reads as what happened)
    """A file that could not be written for lack of space: bytes that it needs and that are free, and what is intact, in words."""

    def __init__(self, path: Path | str, reason: str, needed: int | None = None, free: int | None = None, intact: str = "") -> None:
        self.path, self.reason, self.needed, self.free, self.intact = Path(path), reason, needed, free, intact
        sizes = [f"it needs {needed:,} bytes" if needed is not None else "", f"{free:,} bytes are free" if free is not None else ""]
        super().__init__("; ".join(part for part in (f"could not write {path} ({reason})", *sizes, intact) if part))

    def __str__(self) -> str:
        return str(self.args[0])


class DamagedFile(TesseraError, ValueError):  # noqa: N818
    """A file of a run or model whose content is not what was written, or that lacks a part."""

    def __init__(self, path: Path | str, reason: str) -> None:
        self.path, self.reason = Path(path), reason
        super().__init__(f"{path}: {reason}")


class NonFinite(TesseraError, ArithmeticError):  # noqa: N818
    """A loss, a gradient or a score that is not finite; of an update, with its number, loss terms and names of its images."""

    def __init__(self, reason: str, update: int | None = None, terms: dict[str, float] | None = None, keys: tuple[str, ...] = ()) -> None:
        self.reason, self.update, self.terms, self.keys = reason, update, terms or {}, keys
        super().__init__(f"update {update}: {reason}" if update is not None else reason)


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
OTHER_FAULTS = (
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EIO,
    errno.ESTALE,
    errno.EMFILE,
    errno.ENFILE,
)


def fault_of(error: OSError) -> str | None:
    """One line about a fault of the system: path, reason and, where the disk is full, free bytes. None for an error that may be a bug."""
    if error.errno not in (*FULL, *REFUSED, *OTHER_FAULTS):
        return None
    path = error.filename or "a file"
    if error.errno not in FULL:
        advice = "; expected a path that this user may read and write" if error.errno in REFUSED else ""
        advice = "; expected a folder, it is a file or a link to nothing" if error.errno in (errno.EEXIST, errno.ENOTDIR) else advice
        return f"{path}: {error.strerror}{advice}"
    folder = next((parent for parent in Path(str(path)).absolute().parents if parent.is_dir()), Path("/"))
    needed = getattr(error, "needed", None)  # set by `tokenizer.files`
    sizes = [f"it needs {needed:,} bytes"] if needed is not None else []
    return "; ".join([f"{path}: {error.strerror}", *sizes, f"{shutil.disk_usage(folder).free:,} bytes are free"])


@contextmanager
def config_errors(place: str) -> Iterator[None]:
    """Turn a ValueError of the library, called for the part at the key `place`, into a ConfigError."""
    try:
        yield
    except TesseraError:
        raise
    except ValueError as error:
        raise ConfigError(place=place, reason=str(error)) from error


def nearest(word: str, known: Iterable[str]) -> str:
    """The most similar known word, of dotted keys one with the same parent if there is any; empty if none is similar."""
    known = list(known)
    parent, _, name = word.rpartition(".")
    siblings = {other.rpartition(".")[2]: other for other in known if other.rpartition(".")[0] == parent}
    matches = [siblings[close] for close in difflib.get_close_matches(name, siblings, 1)]
    if not matches and not (parent and siblings):
        matches = difflib.get_close_matches(word, known, 1) or [other for other in known if other.rpartition(".")[2] == name]
    return matches[0] if matches else ""


def spelled(value: Any) -> str:
    """A value as the command line writes it."""
    if isinstance(value, list | tuple):
        return f"[{','.join(spelled(entry) for entry in value)}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{spelled(entry)}' for key, entry in value.items())}}}"
    return {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)
