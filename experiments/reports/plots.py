"""The picture of a report: published numbers hollow and dashed, measured ones filled. Imports matplotlib when it draws."""

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.reports.formats import head_of
from experiments.reports.law import spaced
from experiments.reports.measured import published_values
from experiments.reports.report import Report
from experiments.tables.claims import Operand
from experiments.tables.plot_settings import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KINDS = ("published", "measured")
WIDTH, HEIGHT, LEGEND_WIDTH = 5.0, 4.0, 2.0
"""Inches."""
DOTS_PER_INCH = 150
DOUBLING = ("codebook_size", "latent_dim", "V", "D")
"""Labels whose values double: their axis does too."""

Points = dict[str, list[tuple[float, float]]]
"""By series."""


def draw(report: Report, path: Path) -> None:
    """Write the picture that the sweep file's `plot` asks for.

    At another scale than the paper's, published and measured numbers have a panel each: they are not of one setting.

    Args:
        report: whose numbers are drawn.
        path: of the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    kinds = [kind for kind in KINDS if _has(report, kind)] or ["published"]
    panels = [kinds] if report.scale == "paper" else [[kind] for kind in kinds]
    figure = Figure(figsize=(WIDTH * len(panels) + LEGEND_WIDTH, HEIGHT), layout="constrained")
    FigureCanvasAgg(figure)
    for place, shown in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), place + 1)
        for kind in shown:
            DRAWERS[report.sweep.plot["kind"]](report, kind, axes)
        axes.set_title(
            " and ".join("published" if kind == "published" else f"measured at scale={report.scale}" for kind in shown), fontsize=9
        )
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{report.sweep.title}\n{report.sweep.source}", fontsize=10, x=0.02, horizontalalignment="left")
    if any(axes.has_data() for axes in figure.axes):
        figure.legend(loc="outside right center", fontsize=8, frameon=False)
    else:
        figure.text(0.5, 0.5, "nothing published, nothing measured", ha="center", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    figure.savefig(beside, dpi=DOTS_PER_INCH, format="png")
    beside.replace(path)


def _has(report: Report, kind: str) -> bool:
    """Whether there is anything of a kind to draw."""
    return any(key == report.sweep.plot["y"] for _, key in numbers(report, kind))


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
        place, value, of = number(row.row.label[x]), values.get((row.row.name, plot["y"])), row.row.label[series]
        if place is not None and value is not None:
            found.setdefault(of if number(of) is None else f"{plot['series']} {of}", []).append((place, value))
    return {name: sorted(line) for name, line in found.items()}


def _label(report: Report, key: str) -> str:
    return next(head_of(metric) for metric in report.metrics if metric.column.key == key)


def _colours(report: Report) -> dict[str, str]:
    """A colour for each line, the same in all panels."""
    names = dict.fromkeys(name for kind in KINDS for name in points(report, kind))
    return {name: f"C{place % 10}" for place, name in enumerate(names)}


def _lines(report: Report, kind: str, axes: "Axes", joined: bool = True) -> None:
    """Published points hollow and joined by dashes, measured ones filled."""
    hollow = kind == "published"
    style = "none" if not joined else "--" if hollow else "-"
    colours = _colours(report)
    for name, line in points(report, kind).items():
        fill = "white" if hollow else colours[name]
        across, up = zip(*line, strict=True)
        axes.plot(across, up, "o", linestyle=style, color=colours[name], markerfacecolor=fill, label=f"{name}, {kind}")
    if report.sweep.plot["x"] in DOUBLING:
        axes.set_xscale("log", base=2)
    axes.set_xlabel(report.sweep.plot["x"])
    axes.set_ylabel(_label(report, report.sweep.plot["y"]))


def _law(report: Report, kind: str, axes: "Axes") -> None:
    """The points, and the law fitted to them as a line for every width."""
    _lines(report, kind, axes, joined=False)
    fit = report.laws.get(f"fitted to {kind} points")
    if fit is None:
        return
    law, of = fit
    sizes = spaced(min(size for size, _, _ in of), max(size for size, _, _ in of))
    colours, series = _colours(report), report.sweep.plot["series"]
    for place, width in enumerate(dict.fromkeys(width for _, width, _ in of)):
        values, label = [law(size, width) for size in sizes], f"law fitted to {kind}" if place == 0 else None
        colour = colours.get(f"{series} {width:g}", "grey")
        axes.plot(sizes, values, "--" if kind == "published" else "-", color=colour, linewidth=1, label=label)


def _scatter(report: Report, kind: str, axes: "Axes") -> None:
    """A point a row, the row's name beside it."""
    x, y = report.sweep.plot["x"], report.sweep.plot["y"]
    values = numbers(report, kind)
    found = {row.row.name: (values.get((row.row.name, x)), values.get((row.row.name, y))) for row in report.rows}
    drawn = {name: (across, up) for name, (across, up) in found.items() if across is not None and up is not None}
    if drawn:
        across, up = zip(*drawn.values(), strict=True)
        axes.plot(across, up, "o", color="C0", markerfacecolor="white" if kind == "published" else "C0", label=kind)
    for name, place in drawn.items():
        axes.annotate(name, place, xytext=(4, 4), textcoords="offset points", fontsize=6)
    axes.set_xlabel(_label(report, x))
    axes.set_ylabel(_label(report, y))


def _curves(report: Report, kind: str, axes: "Axes") -> None:
    """The metric over the updates of every run; where a published run ended as a dashed line."""
    key = report.sweep.plot["y"]
    published = numbers(report, "published")
    factor = next(column.factor for column in report.sweep.columns if column.key == key)
    for place, row in enumerate(report.rows):
        name, colour = row.row.name, f"C{place % 10}"
        if kind == "published" and (name, key) in published:
            axes.axhline(published[name, key], color=colour, linestyle="--", linewidth=1, label=f"{name}, published end")
        for order, run in enumerate(row.done if kind == "measured" else []):
            line = [(updates, value * factor) for updates, value in curve(run.folder / "metrics.csv", key)]
            if line:
                axes.plot(*zip(*line, strict=True), marker=".", color=colour, label=name if order == 0 else None)
    axes.set_xlabel("updates")
    axes.set_ylabel(_label(report, key))


def curve(file: Path, key: str) -> list[tuple[float, float]]:
    """Updates and values of a metric in a run's metrics.csv; empty if it has none."""
    if not file.is_file():
        return []
    with open(file, newline="") as lines:
        return [(float(line["updates"]), float(line[key])) for line in csv.DictReader(lines) if line.get(key)]


DRAWERS: Mapping[str, Callable[[Report, str, Any], None]] = {"lines": _lines, "scatter": _scatter, "curves": _curves, "law": _law}
