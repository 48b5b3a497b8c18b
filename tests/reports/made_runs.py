"""Run folders as training leaves them, made by hand for the rows of a table."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from experiments.config.compose import Composition, compose
from experiments.config.packages import CONF
from experiments.runs.folder import RunFolder
from experiments.tables.sweep_file import Row, SweepFile

Model = TypeVar("Model", bound=BaseModel)
CARD = {
    "backend": "tessera",
    "image_size": 32,
    "n": 516,
    "reference": "photos: astronaut, china",
    "transform": "squares",
    "subject": "ema",
    "losses": "reconstruction 1; no perceptual loss",
    "seed": 0,
    "code_version": "abc",
}


@functools.cache
def composed(verb: str, words: tuple[str, ...], config_dir: Path) -> Composition:
    """Composing a row takes a sixth of a second; the tests of a file share it."""
    return compose(verb, list(words), config_dir)


def share_compositions(monkeypatch: Any) -> None:
    """Let reports compose each row once a process."""
    monkeypatch.setattr("experiments.reports.measured.compose", lambda verb, words, folder: composed(verb, tuple(words), folder))


def replace(model: Model, **changes: Any) -> Model:
    """A table, row or column with other values, which are not checked."""
    return model.model_copy(update=changes)


def write_run(
    sweep: SweepFile,
    row: Row,
    metrics: Mapping[str, float],
    seed: int = 0,
    state: str = "done",
    card: Mapping[str, Any] | None = None,
    **more: Any,
) -> RunFolder:
    """A run of a row at scale=mini, below runs/ of the working folder.

    Args:
        sweep: the table.
        row: of it.
        metrics: of the result, each gets a card.
        seed: of the run.
        state: of the result.
        card: what differs from CARD.
        more: of the result, such as skipped or error.
    """
    config = composed("train", tuple(sweep.training_overrides(row, "mini", seed)), CONF).config
    folder = RunFolder(Path("runs", row.base or sweep.base, f"{row.name}-{seed}"))
    folder.start(config, [], {"data": "0123"})
    cards = {key: {**CARD, "metric": key, "seed": seed, **(card or {})} for key in metrics}
    folder.write_result(state, metrics, cards, **more)
    return folder
