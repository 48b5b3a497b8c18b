"""List, check and fetch the weights of other people's networks: `python -m experiments.weights list|check|fetch NAME`."""

import argparse
import contextlib
import http.client
import os
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from typing import IO

from rich.console import Console
from rich.table import Table

from tokenizer.weights import FILES, WeightsFile, sha256, weights_folder

BYTES_PER_READ = 1 << 20
TIMEOUT_SECONDS = 30


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the three actions.

    Returns:
        The process's exit code: 1 if a present file is wrong, a fetch failed or a name is unknown.
    """
    parser = argparse.ArgumentParser(prog="python -m experiments.weights", description="Weights of other people's networks.")
    actions = parser.add_subparsers(dest="action")
    actions.add_parser("list", help="which files there are and which of them lie on this machine (default)")
    actions.add_parser("check", help="compare the files on this machine with their published SHA-256")
    fetch_parser = actions.add_parser("fetch", help="download a file to the weights folder")
    fetch_parser.add_argument("name", help=f"{', '.join(FILES)}, or all")
    options = parser.parse_args(arguments)
    if options.action == "check":
        return check_files()
    if options.action == "fetch":
        return fetch_files(options.name)
    return list_files()


def list_files() -> int:
    """Print a table of the files."""
    table = Table(box=None, pad_edge=False)
    for title in ("name", "state", "MiB", "purpose", "file"):
        table.add_column(title, justify="right" if title == "MiB" else "left")
    for file in FILES.values():
        state = "present" if file.path.is_file() else "absent"
        table.add_row(file.name, state, str(file.mebibytes or "?"), file.purpose, file.filename)
    say(f"folder: {weights_folder()}  (set TESSERA_WEIGHTS for another)")
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    return 0


def check_files() -> int:
    """Print a line for each file; 1 if one that is present is wrong."""
    wrong = 0
    for file in FILES.values():
        if not file.path.is_file():
            say(f"{file.name}: absent, expected at {file.path}")
        elif not file.sha256_prefix:
            say(f"{file.name}: present, its publisher states no SHA-256")
        elif is_published(file):
            say(f"{file.name}: as published, SHA-256 {sha256(file.path)[:12]}")
        else:
            wrong += 1
            remedy = f"`python -m experiments.weights fetch {file.name}` replaces {file.path}"
            say(f"{file.name}: {wrong_hash(file, sha256(file.path))}; {remedy}")
    return min(wrong, 1)


def fetch_files(name: str) -> int:
    """Fetch one file or all, leaving those that are present and right; 1 if one failed."""
    if name != "all" and name not in FILES:
        complain(f"no weights are known as {name!r}; known: {', '.join(FILES)}, or all")
        return 1
    failed = 0
    for file in FILES.values() if name == "all" else [FILES[name]]:
        if file.path.is_file() and is_published(file):
            say(f"{file.name}: already at {file.path}")
            continue
        try:
            fetch(file)
            say(f"{file.name}: fetched to {file.path}")
        except (OSError, ValueError, http.client.HTTPException) as error:
            failed = 1
            complain(f"{file.name}: not fetched from {file.source}: {error}; copy it to {file.path} by other means")
    return failed


def fetch(file: WeightsFile) -> None:
    """Download a file beside its place, verify it and rename it; on any failure nothing is left behind.

    Raises:
        OSError: no connection, an answer other than the file, or a folder that cannot be written.
        ValueError: the file is cut short or its SHA-256 is another.
    """
    file.path.parent.mkdir(parents=True, exist_ok=True)
    partial = file.path.with_name(f"{file.filename}.{os.getpid()}.part")
    try:
        with urllib.request.urlopen(file.source, timeout=TIMEOUT_SECONDS) as response, partial.open("wb") as target:
            expected = int(response.headers.get("Content-Length") or 0)
            for block in with_progress(response, file, expected):
                target.write(block)
        received = partial.stat().st_size
        if expected and received != expected:
            raise ValueError(f"the connection ended after {received} of {expected} bytes")
        digest = sha256(partial)
        if not digest.startswith(file.sha256_prefix):
            raise ValueError(wrong_hash(file, digest))
        os.replace(partial, file.path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def with_progress(response: IO[bytes], file: WeightsFile, expected: int) -> Iterator[bytes]:
    """The blocks of a download, with a bar on a terminal."""
    from rich.progress import DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), *Progress.get_default_columns()[1:], DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(file.name, total=expected or None)
        while block := response.read(BYTES_PER_READ):
            progress.update(task, advance=len(block))
            yield block


def is_published(file: WeightsFile) -> bool:
    """Whether the file on this machine has the published SHA-256, or is there at all where none is stated."""
    return sha256(file.path).startswith(file.sha256_prefix)


def wrong_hash(file: WeightsFile, digest: str) -> str:
    """The message for a file that is not the published one."""
    return f"wrong content, its SHA-256 starts with {digest[:12]}, not with {file.sha256_prefix}"


def say(line: str) -> None:
    """Print one line, however long."""
    Console(soft_wrap=True, highlight=False, markup=False).print(line)


def complain(line: str) -> None:
    """Print one line to the error stream."""
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(line)


if __name__ == "__main__":
    sys.exit(main())
