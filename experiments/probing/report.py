"""The report of a probe: one line per tokenizer, and an unpublished table in the formats of `experiments.reports`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from experiments.probing.results import ProbeResult
from experiments.reports.cards import card_lines
from experiments.reports.cells import MeasuredColumn, make_column
from experiments.reports.formats import PLOT, comma_separated, markdown
from experiments.reports.measured import MeasuredRow, Run
from experiments.reports.plots import draw
from experiments.reports.remarks import run_remarks
from experiments.reports.report import Report, TextTable
from experiments.tables.columns import Column, known_columns
from experiments.tables.plot import Plot
from experiments.tables.sweep_file import Row
from tokenizer.files import write_text

DIGITS = 4
RECONSTRUCTIONS = ("rfid", "frechet_lite0", "psnr", "codebook_usage")
GENERATIONS = (
    "nll", "bits_per_pixel", "gfid", "frechet_lite0", "frechet_digits", "class_accuracy", "guidance", "acc1", "tokenizer_acc1",
)  # fmt: skip
COLUMNS = [known_columns()[key] for key in (*(f"val/{name}" for name in RECONSTRUCTIONS), *(f"probe/{name}" for name in GENERATIONS))]
# Axes of the figure: the first of each that most tokenizers have.
RECONSTRUCTION = ("val/rfid", "val/psnr")
GENERATION = ("probe/gfid", "probe/frechet_digits", "probe/bits_per_pixel")


def make_report(results: Sequence[ProbeResult], protocol: str, seed: int) -> Report:
    """An unpublished table with a row for each tokenizer.

    Args:
        results: numbers of the tokenizers.
        protocol: name and digest of the protocol.
        seed: run seed.
    """
    rows = [_row(result, seed) for result in results]
    used = [column for column in COLUMNS if any(column.key in result.results.values for result in results)]
    skipped = dict.fromkeys(key for result in results for key in result.results.skipped)
    absent = [column for column in _columns(skipped) if column not in used]
    metrics = [_column(column, rows) for column in used]
    trials = [
        [result.location.name, f"{trial.scale:g}", str(trial.n), f"{trial.score:.4g}"] for result in results for trial in result.trials
    ]
    return Report(
        title="Probe",
        source=f"protocol {protocol}",
        command="",
        legend="Reconstruction and generation of tokenizers by the same protocol.",
        label_heads=["tokenizer", "tokens"],
        labels=[row.row.label for row in rows],
        rows=rows,
        metrics=metrics,
        remarks=run_remarks(rows, [*metrics, *(_column(column, rows) for column in absent)]),
        basis=card_lines(rows, used),
        tables=[TextTable("Guidance", ["tokenizer", "scale", "samples", "score"], trials)] if trials else [],
        plot=plane(results),
    )


def write(results: Sequence[ProbeResult], report: Report, folder: Path) -> None:
    """Write report.md, report.csv with all numbers, and the figure."""
    write_text(folder / "report.md", markdown(report))
    write_text(folder / "report.csv", comma_separated(_with_all_numbers(results, report)))
    if report.plot:
        draw(report, folder / PLOT)


def line(result: ProbeResult) -> str:
    """One tokenizer in one line."""
    values = result.results.values
    known = [column for column in COLUMNS if column.key in values]
    numbers = [f"{column.label} {values[column.key] * column.factor:.4g} {column.unit}".rstrip() for column in known]
    return f"{result.location.name}: {', '.join(numbers) or 'nothing'}" + (f"; failed: {result.failed}" if result.failed else "")


def plane(results: Sequence[ProbeResult]) -> Plot | None:
    """Generation over reconstruction; None if no tokenizer has a number of each."""
    chosen = []
    for keys in (RECONSTRUCTION, GENERATION):
        counts = {key: sum(key in result.results.values for result in results) for key in keys}
        chosen += [key for key in keys if counts[key] and counts[key] == max(counts.values())][:1]
    return Plot(kind="plane", x=chosen[0], y=chosen[1]) if len(chosen) == 2 else None


def _row(result: ProbeResult, seed: int) -> MeasuredRow:
    name, results, state = result.location.name, result.results, "failed" if result.failed else "done"
    reasons = {name: skipped.reason for name, skipped in results.skipped.items()}
    run = Run(seed, result.location.folder, state, results.values, results.cards, reasons, result.failed)
    return MeasuredRow(Row(name=name, label=[name, result.tokens]), [run])


def _columns(keys: Sequence[str] | dict[str, None]) -> list[Column]:
    """The columns of log keys, under the key itself where it has no label."""
    known = {column.key: column for column in COLUMNS}
    return [known.get(key) or Column(key=key, label=key) for key in keys]


def _column(column: Column, rows: list[MeasuredRow]) -> MeasuredColumn:
    return make_column(column, [""] * len(rows), rows, DIGITS, same_rate=False)  # tokenizers of different rates are what is compared


def _with_all_numbers(results: Sequence[ProbeResult], report: Report) -> Report:
    """The table with the numbers that have no column, the folder and the reason of a failure."""
    keys = dict.fromkeys(key for result in results for key in result.results.values)
    return replace(
        report,
        label_heads=["tokenizer", "folder", "tokens", "failed"],
        labels=[[result.location.name, str(result.location.folder), result.tokens, result.failed] for result in results],
        metrics=[_column(column, report.rows) for column in _columns(keys)],
    )
