"""A sweep file: one published table, its rows as runs, its cells as printed, and what the paper concludes from it.

Here is what one holds and how a row becomes the words of a training command; `reading` makes it of `conf/sweep/<paper>/tableNN_slug.yaml`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from experiments.config.errors import ConfigError

SCALES = ("paper", "gpu", "mini", "smoke")
DECIDING = ("paper", "gpu", "mini")
"""Scales whose runs can bear out a claim: two updates at smoke decide nothing."""
COMPLETED = "completed"
"""The evaluation of a run that computes what its training had to skip for want of weights."""
BITS_PER_TOKEN = "val/bits_per_token"
"""Measured for every table: the same vocabulary is not the same rate."""


@dataclass(frozen=True)
class Column:
    """A metric of the table.

    Attributes:
        key: of a result, such as val/rfid; `val_NAME/rfid` is that of the extra evaluation NAME.
        label: as the table's head prints it.
        unit: of the printed cells; "%" for values that results hold in [0, 1], "M" for counts in millions.
        better: lower, higher, or none where neither is.
    """

    key: str
    label: str
    unit: str = ""
    better: str = "none"

    @property
    def factor(self) -> float:
        """What a result's value is multiplied by to stand beside printed cells."""
        return {"%": 100.0, "M": 1e-6}.get(self.unit, 1.0)


KNOWN_COLUMNS = {
    column.key: column
    for column in (
        Column("val/rfid", "rFID", better="lower"),
        Column("val/inception_score", "IS", better="higher"),
        Column("val/lpips", "LPIPS", better="lower"),
        Column("val/psnr", "PSNR", "dB", "higher"),
        Column("val/ssim", "SSIM", better="higher"),
        Column("val/codebook_usage", "usage", "%", "higher"),
        Column("val/perplexity", "PPL", better="higher"),
        Column("model/parameters", "parameters", "M"),
    )
}


@dataclass(frozen=True)
class Correction:
    """What a misprinted cell should say, and how that is known."""

    cell: str
    why: str


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        name: of the row, unique in the file.
        label: the paper's leading cells, which say what the row is.
        base: the experiment that it changes; None for the file's.
        overrides: what the table studies, applied at every scale.
        budgets: by scale, what is changed at that scale only.
        published: the cells as printed, None where the paper has none.
        corrections: of misprinted cells, by column key.
        quoted: a row of somebody else's system, never run.
        note: for the report.
    """

    name: str
    label: list[str]
    base: str | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    budgets: dict[str, dict[str, Any]] = field(default_factory=dict)
    published: list[str | None] = field(default_factory=list)
    corrections: dict[str, Correction] = field(default_factory=dict)
    quoted: bool = False
    note: str = ""


@dataclass(frozen=True)
class Claim:
    """What the paper concludes: `when` is a predicate over rows and metrics, `scales` are those where it can be decided."""

    text: str
    when: str
    scales: tuple[str, ...] = DECIDING


@dataclass(frozen=True)
class SweepFile:
    """One table.

    Attributes:
        name: such as gsq/table01_codebook.
        title: of the table.
        source: where it is printed, such as "arXiv:2412.02632 table 1".
        base: experiment of the rows that name none.
        labels: heads of the rows' leading cells.
        columns: the metrics.
        rows: in the paper's order.
        claims: what the paper concludes.
        notes: on the table as a whole.
        evaluate: extra evaluations of every row: name to factor of the training's image_size.
        plot: how the report draws it, see `experiments.reports.plots`; empty for no picture.
    """

    name: str
    title: str
    source: str
    base: str
    labels: list[str]
    columns: list[Column]
    rows: list[Row]
    claims: list[Claim]
    notes: list[str]
    evaluate: dict[str, int]
    plot: dict[str, Any]
    budgets: dict[str, dict[str, Any]]

    @property
    def runs(self) -> list[Row]:
        """The rows that can be run."""
        return [row for row in self.rows if not row.quoted]

    def base_of(self, row: Row) -> str:
        """The experiment that a row changes."""
        return row.base or self.base

    def place_of(self, row: Row) -> str:
        """Where a row is written, for messages."""
        return f"conf/sweep/{self.name}.yaml, row {self.rows.index(row) + 1} ({row.name})"

    def words(self, row: Row, scale: str, seed: int, extra: Iterable[str] = ()) -> list[str]:
        """The words that train a row: base and scale, the scale's budget, `extra`, then what the table studies.

        Args:
            row: one of `runs`.
            scale: a file of conf/scale.
            seed: of the run.
            extra: words for every row, such as data.root=FOLDER.

        Raises:
            ConfigError: `extra` sets what the row studies, or what it has for itself at this scale.
        """
        extra = list(extra)
        own = {*row.overrides, *row.budgets.get(scale, {}), "experiment", "scale", "sweep", "seed"}
        studied = [word for word in extra if word.partition("=")[0].lstrip("+~") in own]
        if studied:
            raise ConfigError(f"{studied[0]}: row {row.name} of {self.name} sets this itself; leave it out, or run it by experiments.train")
        budget = {**self.budgets.get(scale, {}), **row.budgets.get(scale, {})}
        changes = [f"{key}={spelled(value)}" for key, value in budget.items() if key not in row.overrides]
        overrides = [f"{key}={spelled(value)}" for key, value in row.overrides.items()]
        return [f"experiment={self.base_of(row)}", f"scale={scale}", *changes, *extra, *overrides, f"seed={seed}"]


def spelled(value: Any) -> str:
    """A value of a YAML file as the command line writes it."""
    if isinstance(value, list):
        return f"[{','.join(spelled(entry) for entry in value)}]"
    return {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)
