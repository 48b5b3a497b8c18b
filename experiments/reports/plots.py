"""The figure of a report: published numbers hollow and dashed, measured ones filled. Imports matplotlib when it draws."""

import csv
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.reports.cells import MeasuredColumn
from experiments.reports.formats import head_of
from experiments.reports.law import spaced
from experiments.reports.report import Report
from experiments.tables.claims import Operand
from experiments.tables.fields import number
from experiments.tables.plot import Plot
from tokenizer.files import atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KINDS = ("published", "measured")
WIDTH, HEIGHT, LEGEND_WIDTH = 5.0, 4.0, 2.0  # inches
DOTS_PER_INCH = 150
DOUBLING = ("codebook_size", "latent_dim", "V", "D")  # labels whose values double: their axis is logarithmic

Points = dict[str, list[tuple[float, float]]]  # by series


def draw(report: Report, path: Path) -> None:
    """Write the figure of a report that has a `plot`.

    At another scale than the paper's, published and measured numbers have a panel each, because their settings differ.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    plot = _plot(report)
    kinds = [kind for kind in KINDS if any(key == plot.y for _, key in numbers(report, kind))] or ["published"]
    panels = [kinds] if report.scale == "paper" else [[kind] for kind in kinds]
    figure = Figure(figsize=(WIDTH * len(panels) + LEGEND_WIDTH, HEIGHT), layout="constrained")
    FigureCanvasAgg(figure)
    measured = f"measured at scale={report.scale}" if report.scale else "measured"
    for place, panel in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), place + 1)
        for kind in panel:
            DRAWERS[plot.kind](report, kind, axes)
        axes.set_title(" and ".join("published" if kind == "published" else measured for kind in panel), fontsize=9)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{report.title}\n{report.source}", fontsize=10, x=0.02, horizontalalignment="left")
    if any(axes.has_data() for axes in figure.axes):
        figure.legend(loc="outside right center", fontsize=8, frameon=False)
    else:
        figure.text(0.5, 0.5, "nothing published, nothing measured", ha="center", fontsize=9)
    with atomic(path) as beside:
        figure.savefig(beside, dpi=DOTS_PER_INCH, format="png")


def _plot(report: Report) -> Plot:
    assert report.plot is not None
    return report.plot


def numbers(report: Report, kind: str) -> dict[Operand, float]:
    """The published or the measured numbers, in the unit of the printed cells."""
    values = {}
    for metric in report.metrics:
        for row, cell in zip(report.rows, metric.cells, strict=True):
            measured = cell.measured.value if cell.measured else None
            value = number(cell.corrected or cell.published) if kind == "published" else measured
            if value is not None:
                values[row.row.name, metric.column.key] = value
    return values


def points(report: Report, kind: str) -> Points:
    """The points of a figure of lines, each line in the order of x."""
    plot, lines = _plot(report), Points()
    x, series = report.label_heads.index(plot.x), report.label_heads.index(plot.series)
    values = numbers(report, kind)
    for row, labels in zip(report.rows, report.labels, strict=True):
        place, value, name = number(labels[x]), values.get((row.row.name, plot.y)), labels[series]
        if place is not None and value is not None:
            lines.setdefault(name if number(name) is None else f"{plot.series} {name}", []).append((place, value))
    return {name: sorted(line) for name, line in lines.items()}


def _metric(report: Report, key: str) -> MeasuredColumn:
    return next(metric for metric in report.metrics if metric.column.key == key)


def _colors(report: Report) -> dict[str, str]:
    """A color for each line, the same in all panels."""
    names = dict.fromkeys(name for kind in KINDS for name in points(report, kind))
    return {name: f"C{place % 10}" for place, name in enumerate(names)}


def _lines(report: Report, kind: str, axes: "Axes", joined: bool = True) -> None:
    """Published points hollow and joined by dashes, measured ones filled."""
    hollow, plot = kind == "published", _plot(report)
    style = "none" if not joined else "--" if hollow else "-"
    colors = _colors(report)
    for name, line in points(report, kind).items():
        fill = "white" if hollow else colors[name]
        across, up = zip(*line, strict=True)
        axes.plot(across, up, "o", linestyle=style, color=colors[name], markerfacecolor=fill, label=f"{name}, {kind}")
    if plot.x in DOUBLING:
        axes.set_xscale("log", base=2)
    axes.set_xlabel(plot.x)
    axes.set_ylabel(head_of(_metric(report, plot.y)))


def _law(report: Report, kind: str, axes: "Axes") -> None:
    """The points, and the law fitted to them as a line for every width."""
    _lines(report, kind, axes, joined=False)
    fit = report.laws.get(f"fitted to {kind} points")
    if fit is None:
        return
    law, fitted_points = fit
    sizes = spaced(min(size for size, _, _ in fitted_points), max(size for size, _, _ in fitted_points))
    colors, series = _colors(report), _plot(report).series
    for place, width in enumerate(dict.fromkeys(width for _, width, _ in fitted_points)):
        values, label = [law(size, width) for size in sizes], f"law fitted to {kind}" if place == 0 else None
        color = colors.get(f"{series} {width:g}", "gray")
        axes.plot(sizes, values, "--" if kind == "published" else "-", color=color, linewidth=1, label=label)


def _scatter(report: Report, kind: str, axes: "Axes", oriented: bool = False) -> None:
    """A point a row, the row's name beside it; with `oriented`, up and to the right is better."""
    plot, values, label = _plot(report), numbers(report, kind), kind
    for row in report.rows:
        across, up = (values.get((row.row.name, key)) for key in (plot.x, plot.y))
        if across is not None and up is not None:
            axes.plot(across, up, "o", color="C0", markerfacecolor="white" if kind == "published" else "C0", label=label)
            name = "\n".join(row.row.label) if oriented else row.row.name
            axes.annotate(name, (across, up), (4, 4), textcoords="offset points", fontsize=6)
            label = "_"  # one entry in the legend
    for key, axis, invert in ((plot.x, axes.xaxis, axes.invert_xaxis), (plot.y, axes.yaxis, axes.invert_yaxis)):
        metric = _metric(report, key)
        better = metric.column.better if oriented else "none"
        axis.set_label_text(head_of(metric) + (f", {better} is better" if better != "none" else ""))
        if better == "lower":
            invert()


def _curves(report: Report, kind: str, axes: "Axes") -> None:
    """The metric over the updates of every run; the end of a published run as a dashed line."""
    key = _plot(report).y
    published, metric = numbers(report, "published"), _metric(report, key)
    for place, row in enumerate(report.rows):
        name, color = row.row.name, f"C{place % 10}"
        if kind == "published" and (name, key) in published:
            axes.axhline(published[name, key], color=color, linestyle="--", linewidth=1, label=f"{name}, published end")
        for order, run in enumerate(row.measured if kind == "measured" else []):
            line = [(updates, value * metric.column.factor) for updates, value in curve(run.folder / "metrics.csv", key)]
            if line:
                axes.plot(*zip(*line, strict=True), marker=".", color=color, label=name if order == 0 else None)
    axes.set_xlabel("updates")
    axes.set_ylabel(head_of(metric))


def curve(file: Path, key: str) -> list[tuple[float, float]]:
    """Updates and values of a metric in a run's metrics.csv; empty if it has none."""
    if not file.is_file():
        return []
    with open(file, newline="") as lines:
        return [(float(line["updates"]), float(line[key])) for line in csv.DictReader(lines) if line.get(key)]


DRAWERS: Mapping[str, Callable[[Report, str, Any], None]] = {
    "lines": _lines,
    "scatter": _scatter,
    "plane": partial(_scatter, oriented=True),
    "curves": _curves,
    "law": _law,
}
