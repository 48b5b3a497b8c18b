"""Weights of other people's networks: a list of the files, checks against their published hashes, downloads. Imports no torch."""

import contextlib
import http.client
import logging
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from rich.table import Table

from experiments.runs.terminal import console, print_line
from tokenizer.weights import FILES, WeightsFile, sha256, weights_folder

log = logging.getLogger(__name__)

BYTES_PER_READ = 1 << 20
TIMEOUT_SECONDS = 30


def list_files() -> int:
    """Print a table of the files."""
    table = Table(box=None, pad_edge=False)
    for title in ("name", "state", "MiB", "purpose", "file"):
        table.add_column(title, justify="right" if title == "MiB" else "left")
    for file in FILES.values():
        state = "present" if file.path.is_file() else "absent"
        table.add_row(file.name, state, str(file.mebibytes or "?"), file.purpose, file.filename)
    print_line(f"folder: {weights_folder()}  (set TESSERA_WEIGHTS for another)")
    console().print(table)
    return 0


def check_files() -> int:
    """Print a line for each file; 1 if one on this machine is wrong."""
    wrong = 0
    for file in FILES.values():
        if not file.path.is_file():
            print_line(f"{file.name}: absent, expected at {file.path}")
        elif not file.sha256_prefix:
            print_line(f"{file.name}: present, its publisher states no SHA-256")
        elif _is_published(file):
            print_line(f"{file.name}: as published, SHA-256 {sha256(file.path)[:12]}")
        else:
            wrong += 1
            remedy = f"`{file.command}` replaces {file.path}"
            print_line(f"{file.name}: {_wrong_hash(file, file.path)}; {remedy}")
    return min(wrong, 1)


def fetch_files(files: list[WeightsFile]) -> int:
    """Download files, but those that are present and right; 1 if one failed."""
    failed = 0
    for file in files:
        if file.path.is_file() and _is_published(file):
            print_line(f"{file.name}: already at {file.path}")
            continue
        if file.module:
            failed = 1
            log.error("%s: not fetched, it is part of %s; run `%s`", file.name, file.source, file.command)
            continue
        try:
            fetch(file)
            print_line(f"{file.name}: fetched to {file.path}")
        except (OSError, ValueError, http.client.HTTPException) as error:
            failed = 1
            log.error("%s: not fetched from %s: %s; copy it to %s by other means", file.name, file.source, error, file.path)
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
            for block in _with_progress(response, file, expected):
                target.write(block)
        received = partial.stat().st_size
        if expected and received != expected:
            raise ValueError(f"the connection ended after {received} of {expected} bytes")
        if not sha256(partial).startswith(file.sha256_prefix):
            raise ValueError(_wrong_hash(file, partial))
        os.replace(partial, file.path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _with_progress(response: IO[bytes], file: WeightsFile, expected: int) -> Iterator[bytes]:
    """The blocks of a download, with a bar on a terminal."""
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), *Progress.get_default_columns()[1:], DownloadColumn(), TransferSpeedColumn())
    terminal = Console(stderr=True)
    with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as progress:
        task = progress.add_task(file.name, total=expected or None)
        while block := response.read(BYTES_PER_READ):
            progress.update(task, advance=len(block))
            yield block


def _is_published(file: WeightsFile) -> bool:
    """Whether the file on this machine has the published SHA-256, or exists where none is stated."""
    return sha256(file.path).startswith(file.sha256_prefix)


def _wrong_hash(file: WeightsFile, path: Path) -> str:
    return f"wrong content, its SHA-256 starts with {sha256(path)[:12]}, not with {file.sha256_prefix}"
