"""The picture of a report: published numbers hollow and dashed, measured ones filled. Imports matplotlib when it draws."""

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.sweeps.claims import Operand
from experiments.sweeps.formats import head_of
from experiments.sweeps.measured import published_values
from experiments.sweeps.plot_settings import number
from experiments.sweeps.report_table import Report
from experiments.sweeps.sweep_file import Column

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (7.0, 4.5)
"""Inches."""
DOTS_PER_INCH = 150
DOUBLING = ("codebook_size", "latent_dim", "V", "D")
"""Labels whose values double: their axis does too."""

Points = dict[str, list[tuple[float, float]]]
"""By series."""


def draw(report: Report, path: Path) -> None:
    """Write the picture that the sweep file's `plot` asks for.

    Args:
        report: whose numbers are drawn.
        path: of the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    DRAWERS[report.sweep.plot["kind"]](report, axes)
    axes.set_title(f"{report.sweep.title}\n{report.sweep.source}, scale={report.scale}", fontsize=10)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, frameon=False)
    else:
        axes.text(0.5, 0.5, "nothing published and nothing measured", transform=axes.transAxes, ha="center")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    figure.savefig(beside, dpi=DOTS_PER_INCH, format="png")
    beside.replace(path)


def numbers(report: Report, kind: str) -> dict[Operand, float]:
    """The published or the measured numbers, in the unit of the printed cells."""
    published = published_values(report.sweep)
    found = {}
    for row in report.rows:
        for column in report.sweep.columns:
            mean = row.mean(column.key)
            value = published.get((row.row.name, column.key)) if kind == "published" else mean.value if mean else None
            if value is not None:
                found[row.row.name, column.key] = value * column.factor
    return found


def points(report: Report, kind: str) -> Points:
    """The points of a picture of lines, each line in the order of x."""
    plot = report.sweep.plot
    x, series = report.sweep.labels.index(plot["x"]), report.sweep.labels.index(plot["series"])
    values, found = numbers(report, kind), Points()
    for row in report.rows:
        place, value = number(row.row.label[x]), values.get((row.row.name, plot["y"]))
        if place is not None and value is not None:
            found.setdefault(f"{plot['series']} {row.row.label[series]}", []).append((place, value))
    return {name: sorted(line) for name, line in found.items()}


def _column(report: Report, key: str) -> Column:
    return next(column for column in report.sweep.columns if column.key == key)


def _label(report: Report, key: str) -> str:
    return next(head_of(metric) for metric in report.metrics if metric.column.key == key)


def _lines(report: Report, axes: "Axes", dashes: bool = True) -> None:
    """Published points hollow, measured ones filled, a colour a series."""
    drawn = {kind: points(report, kind) for kind in ("published", "measured")}
    colours = {name: f"C{place}" for place, name in enumerate(dict.fromkeys([*drawn["published"], *drawn["measured"]]))}
    for kind, found in drawn.items():
        hollow = kind == "published"
        style = "none" if not dashes else "--" if hollow else "-"
        for name, line in found.items():
            axes.plot(
                *zip(*line, strict=True),
                marker="o",
                color=colours[name],
                linestyle=style,
                markerfacecolor="white" if hollow else colours[name],
                label=f"{name}, {kind}",
            )
    if report.sweep.plot["x"] in DOUBLING:
        axes.set_xscale("log", base=2)
    axes.set_xlabel(report.sweep.plot["x"])
    axes.set_ylabel(_label(report, report.sweep.plot["y"]))


def _law(report: Report, axes: "Axes") -> None:
    """The points, and each fitted law as a line for every width."""
    from experiments.sweeps.law import spaced

    _lines(report, axes, dashes=False)
    for name, (law, of) in report.laws.items():
        if name.startswith("published"):
            continue
        sizes = spaced(min(size for size, _, _ in of), max(size for size, _, _ in of))
        for place, width in enumerate(dict.fromkeys(width for _, width, _ in of)):
            values = [law(size, width) for size in sizes]
            style = "--" if "published" in name else "-"
            axes.plot(sizes, values, style, color=f"C{place}", linewidth=1, label=f"law {name}" if place == 0 else None)


def _scatter(report: Report, axes: "Axes") -> None:
    """A point a row, the row's label beside it."""
    x, y = report.sweep.plot["x"], report.sweep.plot["y"]
    for kind, fill in (("published", "white"), ("measured", "C0")):
        values = numbers(report, kind)
        rows = [row for row in report.rows if (row.row.name, x) in values and (row.row.name, y) in values]
        across, up = [values[row.row.name, x] for row in rows], [values[row.row.name, y] for row in rows]
        if rows:
            axes.plot(across, up, "o", color="C0", markerfacecolor=fill, label=kind)
        for row, place in zip(rows, zip(across, up, strict=True), strict=True):
            axes.annotate(row.row.name, place, xytext=(4, 4), textcoords="offset points", fontsize=7)
    axes.set_xlabel(_label(report, x))
    axes.set_ylabel(_label(report, y))


def _curves(report: Report, axes: "Axes") -> None:
    """The metric over the updates of every run; where a published run ended as a dashed line."""
    key = report.sweep.plot["y"]
    column, published = _column(report, key), numbers(report, "published")
    for place, row in enumerate(report.rows):
        name, colour = row.row.name, f"C{place % 10}"
        for order, run in enumerate(row.done):
            line = [(updates, value * column.factor) for updates, value in curve(run.folder / "metrics.csv", key)]
            if line:
                axes.plot(*zip(*line, strict=True), marker=".", color=colour, label=name if order == 0 else None)
        if (name, key) in published:
            axes.axhline(published[name, key], color=colour, linestyle="--", linewidth=1, label=f"{name}, published end")
    axes.set_xlabel("updates")
    axes.set_ylabel(_label(report, key))


def curve(file: Path, key: str) -> list[tuple[float, float]]:
    """Updates and values of a metric in a run's metrics.csv; empty if it has none."""
    if not file.is_file():
        return []
    with open(file, newline="") as lines:
        return [(float(line["updates"]), float(line[key])) for line in csv.DictReader(lines) if line.get(key)]


DRAWERS: Mapping[str, Callable[[Report, Any], None]] = {"lines": _lines, "scatter": _scatter, "curves": _curves, "law": _law}
