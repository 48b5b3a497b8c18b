"""What a probe found: a line a tokenizer, a table, Markdown, CSV, JSON, and the plane of reconstruction and generation."""

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.evaluation.cards import comparable
from experiments.evaluation.results import not_computed, plain
from experiments.probing.study import Probed
from experiments.runs.folder import write_atomic

WIDTH = 140
DOTS_PER_INCH = 150
WORDS = ("tokenizer", "tokens")
"""Heads of the columns that hold no number."""


@dataclass(frozen=True)
class ReportedNumber:
    """A number of the report.

    Attributes:
        key: its log key.
        label: its head.
        better: higher or lower; empty for numbers that rank nobody.
        percent: a share, shown in percent.
    """

    key: str
    label: str
    better: str = ""
    percent: bool = False


METRICS = (
    ReportedNumber("val/rfid", "rFID", "lower"),
    ReportedNumber("val/psnr", "PSNR", "higher"),
    ReportedNumber("val/codebook_usage", "usage %", percent=True),
    ReportedNumber("probe/nll", "nats / token", "lower"),
    ReportedNumber("probe/bits_per_pixel", "bits / pixel", "lower"),
    ReportedNumber("probe/gfid", "gFID", "lower"),
    ReportedNumber("probe/frechet_digits", "Fréchet digits", "lower"),
    ReportedNumber("probe/class_accuracy", "right class %", "higher", percent=True),
    ReportedNumber("probe/guidance", "scale"),
    ReportedNumber("probe/acc1", "AR top-1 %", "higher", percent=True),
    ReportedNumber("probe/tokenizer_acc1", "tokenizer top-1 %", "higher", percent=True),
)
RECONSTRUCTION = ("val/rfid", "val/psnr")
GENERATION = ("probe/gfid", "probe/frechet_digits", "probe/bits_per_pixel")
"""What the plane shows: the first of each that all tokenizers have, or failing that the first that one has."""


def line(probed: Probed) -> str:
    """One tokenizer in one line."""
    values = probed.results.values
    said = [f"{metric.label} {_shown(metric, values[metric.key])}" for metric in METRICS if metric.key in values]
    return f"{probed.place.name}: {', '.join(said) or 'nothing'}" + (f"; failed: {probed.failed}" if probed.failed else "")


def say(text: str) -> None:
    """A line on standard output, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _shown(metric: ReportedNumber, value: float | None) -> str:
    if value is None:
        return ""
    return f"{100 * value:.1f}" if metric.percent else f"{value:.4g}"


def ranks(probed: Sequence[Probed], metric: ReportedNumber) -> list[int | None]:
    """The place of each tokenizer, equal numbers sharing one; None for all where their cards say that they may not be compared."""
    having = [each for each in probed if metric.key in each.results.values]
    if not metric.better or len(having) < 2 or differences(probed, metric):
        return [None] * len(probed)
    sign = 1 if metric.better == "lower" else -1
    values = [sign * each.results.values[metric.key] for each in having]
    return [
        1 + sum(value < sign * each.results.values[metric.key] for value in values) if metric.key in each.results.values else None
        for each in probed
    ]


def differences(probed: Sequence[Probed], metric: ReportedNumber) -> list[str]:
    """The fields in which the cards of a metric differ, so that the tokenizers are not ranked by it."""
    cards = [each.results.cards[metric.key] for each in probed if metric.key in each.results.cards]
    return sorted({name for card in cards[1:] for name in comparable(cards[0], card)})


def used(probed: Sequence[Probed]) -> list[ReportedNumber]:
    """The metrics that one tokenizer has at least."""
    return [metric for metric in METRICS if any(metric.key in each.results.values for each in probed)]


def heads(probed: Sequence[Probed]) -> list[str]:
    """Of the table."""
    return [*WORDS, *(metric.label for metric in used(probed))]


def rows(probed: Sequence[Probed]) -> list[list[str]]:
    """The cells of the table: name, then every metric, its rank in brackets behind it."""
    table = [[each.place.name, each.tokens] for each in probed]
    for metric in used(probed):
        for row, each, rank in zip(table, probed, ranks(probed, metric), strict=True):
            text = _shown(metric, each.results.values.get(metric.key))
            row.append(f"{text} ({rank})" if rank else text)
    return table


def notes(probed: Sequence[Probed]) -> list[str]:
    """What failed, what was left out, and what may not be compared."""
    found = [f"{each.place.name} failed: {each.failed}" for each in probed if each.failed]
    for metric in used(probed):
        if metric.better and (fields := differences(probed, metric)):
            found.append(f"{metric.label} ranks nobody: the cards differ in {', '.join(fields)}")
    return [*found, *not_computed(entry for each in probed for entry in each.results.skipped.items())]


def show(probed: Sequence[Probed], console: Console | None = None) -> None:
    """Print the table and the notes."""
    console = console or Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    table = Table()
    for place, head in enumerate(heads(probed)):
        table.add_column(head, justify="left" if place < len(WORDS) else "right", no_wrap=place < len(WORDS), overflow="fold")
    for row in rows(probed):
        table.add_row(*map(Text, row))
    console.print(table)
    for note in notes(probed):
        console.print(note, soft_wrap=True, markup=False)


def write(probed: Sequence[Probed], folder: Path, protocol: str) -> None:
    """Write report.md, report.csv, results.json and plane.png."""
    write_atomic(folder / "report.md", markdown(probed, protocol))
    write_atomic(folder / "report.csv", comma_separated(probed))
    content = {each.place.name: _plain(each) for each in probed}
    write_atomic(folder / "results.json", json.dumps({"protocol": protocol, "tokenizers": content}, indent=2, allow_nan=False) + "\n")
    draw_plane(probed, folder / "plane.png")


def _plain(probed: Probed) -> dict[str, Any]:
    results = probed.results
    tries = [asdict(each) for each in probed.tries]
    found: dict[str, Any] = {
        "folder": str(probed.place.folder),
        "tokens": probed.tokens,
        "state": "failed" if probed.failed else "done",
        "failed": probed.failed,
    }
    return {**found, "metrics": results.values, "cards": results.cards, "skipped": plain(results.skipped), "guidance_tries": tries}


def markdown(probed: Sequence[Probed], protocol: str) -> str:
    """The table, the plane, the tries of each guidance search, the notes and what the numbers rest on."""
    lines = ["# Probe", "", f"Protocol {protocol}. Behind a number its rank, where the cards of all tokenizers agree.", ""]
    names = heads(probed)
    lines += [
        _row(names),
        _row(["---"] * len(WORDS) + ["---:"] * (len(names) - len(WORDS))),
        *(_row(row) for row in rows(probed)),
        "",
        "![plane](plane.png)",
    ]
    if any(each.tries for each in probed):
        lines += ["", "## Guidance", "", _row(["tokenizer", "scale", "samples", "score"]), _row(["---"] + ["---:"] * 3)]
        lines += [
            _row([each.place.name, f"{tried.scale:g}", str(tried.n), f"{tried.score:.4g}"]) for each in probed for tried in each.tries
        ]
    if found := notes(probed):
        lines += ["", "## Notes", "", *(f"- {note}" for note in found)]
    lines += ["", "## Cards", ""]
    for metric in used(probed):
        card = next(each.results.cards[metric.key] for each in probed if metric.key in each.results.cards)
        lines.append(f"- {metric.label}: {_said(card)}")
    return "\n".join([*lines, ""])


def _said(card: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in card.items() if value is not None and name != "metric")


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def comma_separated(probed: Sequence[Probed]) -> str:
    """One line a tokenizer, all digits, by log key."""
    keys = list(dict.fromkeys(key for each in probed for key in each.results.values))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["tokenizer", "folder", "tokens", "failed", *keys])
    for each in probed:
        values = [f"{each.results.values[key]:.10g}" if key in each.results.values else "" for key in keys]
        writer.writerow([each.place.name, str(each.place.folder), each.tokens, each.failed, *values])
    return text.getvalue()


def axes_of(probed: Sequence[Probed]) -> tuple[ReportedNumber, ReportedNumber] | None:
    """The two metrics of the plane; None if no tokenizer has one of each."""
    chosen = []
    for keys in (RECONSTRUCTION, GENERATION):
        counts = {key: sum(key in each.results.values for each in probed) for key in keys}
        key = next((key for key in keys if counts[key] and counts[key] == max(counts.values())), None)
        if key is None:
            return None
        chosen.append(next(metric for metric in METRICS if metric.key == key))
    return chosen[0], chosen[1]


def draw_plane(probed: Sequence[Probed], path: Path) -> None:
    """Reconstruction across, generation up, a labelled point a tokenizer; up and to the right is better.

    Axes of numbers that should be low run backwards.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes, metrics = figure.add_subplot(), axes_of(probed)
    if metrics is None:
        figure.text(0.5, 0.5, "nothing to show", ha="center")
    else:
        keys = [metric.key for metric in metrics]
        for number, each in enumerate(probed):
            x, y = (each.results.values.get(key) for key in keys)
            if x is not None and y is not None:
                axes.plot(x, y, "o", color=f"C{number % 10}")
                label = f"{each.place.name}\n{each.tokens}"
                axes.annotate(label, (x, y), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=7)
        across, up = metrics
        axes.set_xlabel(f"{across.label}, {across.better} is better")
        axes.set_ylabel(f"{up.label}, {up.better} is better")
        if across.better == "lower":
            axes.invert_xaxis()
        if up.better == "lower":
            axes.invert_yaxis()
    axes.margins(0.25)
    axes.set_title("Reconstruction and generation: up and to the right is better", fontsize=10)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    figure.savefig(beside, dpi=DOTS_PER_INCH, format="png")
    beside.replace(path)
