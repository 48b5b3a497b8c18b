"""The layouts of a report that are files: Markdown, CSV and LaTeX. The terminal's is in `experiments.reports.terminal`."""

import csv
import io
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from experiments.reports.cells import MISPRINT, Metric
from experiments.reports.report import Report

LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "[": "{[}",  # behind the end of a row it would be an argument
    "<": r"$<$",
    ">": r"$>$",
    "±": r"$\pm$",
    MISPRINT: r"$^\dagger$",
}
LATEX_WIDTH = 125
"""Signs, with gaps, that stand side by side: about 100 fit on a page in the size of footnotes, what is wider is shrunk to the page."""
LATEX_LINES = 45
"""Lines that fit on a page."""
HEAD_LINES = 4
GAP = 2
"""Signs that lie between two columns."""


@dataclass(frozen=True)
class Strip:
    """One printed column: its head, and of each cell the text and whether it is the best."""

    head: str
    cells: list[tuple[str, bool]]


@dataclass(frozen=True)
class Block:
    """The printed columns that stand under one head."""

    head: str
    strips: list[Strip]


def head_of(metric: Metric) -> str:
    """The paper's head, with the unit of the cells."""
    return metric.column.label + (f" ({metric.column.unit})" if metric.column.unit else "")


def blocks(report: Report) -> list[Block]:
    """The table: labels, metrics, and at the end the rows' names and states. What is empty in all rows is left out."""
    labels = [Strip(head, [(row[place], False) for row in report.labels]) for place, head in enumerate(report.label_heads)]
    states = Strip("run", [(state, False) for state in report.states])
    return [Block("", labels), *(_block(report, metric) for metric in report.metrics), Block("", [states])]


def _block(report: Report, metric: Metric) -> Block:
    strips = []
    if metric.has_published or not metric.has_measured:
        strips.append(Strip("published" if report.is_measured else "", [(cell.published_text, False) for cell in metric.cells]))
    if metric.has_measured:
        strips.append(Strip("measured", [(cell.measured_text, cell.best) for cell in metric.cells]))
    if metric.has_difference:
        strips.append(Strip(report.difference_head, [(cell.difference_text, False) for cell in metric.cells]))
    return Block(head_of(metric), strips)


def has_best(report: Report) -> bool:
    """Whether any number is marked as the best of its column."""
    return any(cell.best for metric in report.metrics for cell in metric.cells)


def folded(found: list[Block], width: int, width_of: Callable[[Block], int]) -> list[list[Block]]:
    """Blocks that fit side by side; the labels begin every part, the states end the first."""
    labels, *metrics, states = found
    parts, part = [], [labels]
    left = width - width_of(labels) - width_of(states)
    for block in metrics:
        if width_of(block) > left and len(part) > 1:
            parts.append(part)
            part, left = [labels], width - width_of(labels)
        part.append(block)
        left -= width_of(block)
    parts.append(part)
    parts[0].append(states)
    return parts


def markdown(report: Report) -> str:
    """A whole page, in GitHub's dialect."""
    sweep = report.sweep
    lines = [
        f"# {sweep.title}",
        "",
        f"{sweep.source}; scale={report.scale}; `python -m experiments.sweep {sweep.name} scale={report.scale}`",
    ]
    lines += ["", report.legend + (" Bold: the best measured." if has_best(report) else ""), ""]
    found = blocks(report)
    heads = [f"{block.head} {strip.head}".strip() for block in found for strip in block.strips]
    strips = [strip for block in found for strip in block.strips]
    aligned = ["---:" if block.head else "---" for block in found for _ in block.strips]
    lines += [_line(heads), f"|{'|'.join(aligned)}|"]
    for place in range(len(report.rows)):
        cells = [strip.cells[place] for strip in strips]
        lines.append("| " + " | ".join(f"**{_escaped(text)}**" if best else _escaped(text) for text, best in cells) + " |")
    if sweep.plot:
        lines += ["", "![plot](plot.png)"]
    if report.claims:
        lines += [
            "",
            "## What the paper concludes",
            "",
            _line(["claim", "published cells", "measured", "measured values"]),
            "|---|---|---|---|",
        ]
        lines += [_line([claim.text, claim.published, claim.measured, claim.values]) for claim in report.claims]
    for title, texts in (("Law", report.law_lines), ("What the numbers rest on", report.basis), ("Notes", report.remarks)):
        lines += ["", f"## {title}", "", *(f"- {_escaped(text)}" for text in texts)] if texts else []
    return "\n".join([*lines, ""])


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(map(_escaped, cells))} |"


def _escaped(text: str) -> str:
    return re.sub(r"([\\|*<`])", r"\\\1", " ".join(text.split()))


def comma_separated(report: Report) -> str:
    """One line a row: numbers in the unit of the printed cells, measured ones with all their digits; misprints corrected in a column."""
    heads = [*report.label_heads, "name", "state"]
    rows = [[*labels, row.row.name, row.state] for labels, row in zip(report.labels, report.rows, strict=True)]
    for metric in report.metrics:
        head = head_of(metric)
        misprinted = any(cell.corrected is not None for cell in metric.cells)
        heads += [f"{head} published", *([f"{head} corrected"] if misprinted else [])]
        heads += [f"{head} {name}" for name in ("measured", "spread", "seeds", report.difference_head)]
        for row, cell in zip(rows, metric.cells, strict=True):
            row += [cell.published, *([cell.corrected or cell.published] if misprinted else [])]
            mean = cell.measured
            row += ["", "", "", ""] if mean is None else [_plain(mean.value), _plain(mean.spread), str(mean.seeds), _plain(cell.difference)]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([heads, *rows])
    return text.getvalue()


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.10g}"


def latex(report: Report) -> str:
    """Tables that fit on a page, for booktabs and graphicx, and behind them what is needed to read them."""
    heads = {report.difference_head: "difference" if report.scale == "paper" else f"{report.scale} - paper"}
    found = [
        replace(block, strips=[replace(strip, head=heads.get(strip.head, strip.head)) for strip in block.strips])
        for block in blocks(report)
    ]
    parts = folded(found, LATEX_WIDTH, _latex_width)
    together = max(1, LATEX_LINES // (len(report.rows) + HEAD_LINES))
    pages = [parts[first : first + together] for first in range(0, len(parts), together)]
    lines = [r"% needs \usepackage{booktabs,graphicx}"]
    for number, page in enumerate(pages, 1):
        which = f", part {number} of {len(pages)}" if len(pages) > 1 else ""
        lines += [r"\begin{table}", r"\centering\footnotesize\setlength{\tabcolsep}{3pt}"]
        lines += [rf"\caption{{{_tex(report.sweep.title)} ({_tex(report.sweep.source)}){which}.}}"]
        for part in page:
            lines += [r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%", *_tabular(part, report), r"}\par\medskip"]
        lines += [r"\end{table}"]
    notes = [report.legend + (" Bold: the best measured." if has_best(report) else ""), *report.remarks]
    lines += [r"\begingroup\footnotesize", *(rf"\noindent {_tex(note)}\par" for note in notes), r"\endgroup"]
    return "\n".join([*lines, ""])


def _latex_width(block: Block) -> int:
    strips = sum(max(len(text) for text in (strip.head, *(text for text, _ in strip.cells))) + GAP for strip in block.strips)
    return max(strips, len(block.head) + GAP)


def _tabular(part: list[Block], report: Report) -> list[str]:
    strips = [strip for block in part for strip in block.strips]
    columns = "".join("r" if block.head else "l" for block in part for _ in block.strips)
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", *_latex_heads(part, report.is_measured), r"\midrule"]
    for at in range(len(report.rows)):
        cells = [strip.cells[at] for strip in strips]
        lines.append(" & ".join(rf"\textbf{{{_tex(text)}}}" if best else _tex(text) for text, best in cells) + r" \\")
    return [*lines, r"\bottomrule", r"\end{tabular}"]


def _latex_heads(found: list[Block], measured: bool) -> list[str]:
    """One line of heads; two, with the metrics over what they hold, where something is measured."""
    if not measured:
        return [" & ".join(_tex(block.head or strip.head) for block in found for strip in block.strips) + r" \\"]
    groups, rules, place = [], "", 1
    for block in found:
        count = len(block.strips)
        groups += [rf"\multicolumn{{{count}}}{{c}}{{{_tex(block.head)}}}"] if block.head else [""] * count
        rules += rf"\cmidrule(lr){{{place}-{place + count - 1}}}" if block.head else ""
        place += count
    heads = [_tex(strip.head) for block in found for strip in block.strips]
    return [" & ".join(groups) + r" \\", rules, " & ".join(heads) + r" \\"]


def _tex(text: str) -> str:
    return re.sub(r"^-(?=\d)|(?<= )-(?= )", "$-$", "".join(LATEX.get(sign, sign) for sign in text))
