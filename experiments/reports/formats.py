"""The layouts of a report that are files: Markdown, CSV and LaTeX. The terminal's is in `experiments.reports.terminal`."""

import csv
import io
import re
from dataclasses import dataclass

from experiments.reports.cells import MISPRINT, MeasuredColumn
from experiments.reports.report import Report, TextTable

PLOT = "plot.png"
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


@dataclass(frozen=True)
class Strip:
    """One printed column: its head, and of each cell the text and whether it is the best."""

    head: str
    cells: list[tuple[str, bool]]


@dataclass(frozen=True)
class Block:
    """The printed columns under one head."""

    head: str
    strips: list[Strip]


def head_of(metric: MeasuredColumn) -> str:
    """The paper's head, with the unit of the cells."""
    return metric.column.label + (f" ({metric.column.unit})" if metric.column.unit else "")


def blocks(report: Report) -> list[Block]:
    """The table: labels, metrics, and the rows' names and states. What is empty in all rows is left out."""
    labels = [Strip(head, [(row[place], False) for row in report.labels]) for place, head in enumerate(report.label_heads)]
    states = Strip("run", [(state, False) for state in report.states])
    return [Block("", labels), *(_block(report, metric) for metric in report.metrics), Block("", [states])]


def _block(report: Report, metric: MeasuredColumn) -> Block:
    strips, both = [], report.is_measured and report.is_published
    if metric.has_published or not metric.has_measured:
        strips.append(Strip("published" if both else "", [(cell.published_text, False) for cell in metric.cells]))
    if metric.has_measured:
        strips.append(Strip("measured" if both else "", [(cell.measured_text, cell.best) for cell in metric.cells]))
    if metric.has_difference:
        strips.append(Strip(report.difference_head, [(cell.difference_text, False) for cell in metric.cells]))
    return Block(head_of(metric), strips)


def markdown(report: Report) -> str:
    """A whole page, in GitHub's dialect."""
    lines = [f"# {report.title}", "", report.source + (f"; `{report.command}`" if report.command else "")]
    lines += ["", report.legend + (" Bold: the best measured." if report.has_best else ""), ""]
    all_blocks = blocks(report)
    strips = [strip for block in all_blocks for strip in block.strips]
    lines.append(_line([f"{block.head} {strip.head}".strip() for block in all_blocks for strip in block.strips]))
    lines.append("|" + "|".join("---:" if block.head else "---" for block in all_blocks for _ in block.strips) + "|")
    for place in range(len(report.rows)):
        cells = [strip.cells[place] for strip in strips]
        lines.append("| " + " | ".join(f"**{_escaped(text)}**" if best else _escaped(text) for text, best in cells) + " |")
    if report.plot:
        lines += ["", f"![plot]({PLOT})"]
    for table in report.tables:
        lines += ["", f"## {table.title}", "", *_text_table(table)]
    for title, texts in report.sections:
        lines += ["", f"## {title}", "", *(f"- {_escaped(text)}" for text in texts)]
    return "\n".join([*lines, ""])


def _text_table(table: TextTable) -> list[str]:
    return [_line(table.heads), "|" + "---|" * len(table.heads), *map(_line, table.rows)]


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
        printed = ["published"] if report.is_published else []
        printed += ["corrected"] if any(cell.corrected is not None for cell in metric.cells) else []
        heads += [f"{head} {name}" for name in (*printed, "measured", "spread", "seeds")]
        heads += [f"{head} {report.difference_head}"] if report.is_published else []
        for row, cell in zip(rows, metric.cells, strict=True):
            row += [cell.published, cell.corrected or cell.published][: len(printed)]
            mean = cell.measured
            row += ["", "", ""] if mean is None else [_plain(mean.value), _plain(mean.spread), str(mean.seeds)]
            row += [_plain(cell.difference)] if report.is_published else []
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([heads, *rows])
    return text.getvalue()


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.10g}"


def latex(report: Report) -> str:
    """One table as wide as the page at most, for booktabs and graphicx, and what is needed to read it."""
    all_blocks = blocks(report)
    strips = [strip for block in all_blocks for strip in block.strips]
    columns = "".join("r" if block.head else "l" for block in all_blocks for _ in block.strips)
    lines = [r"% needs \usepackage{booktabs,graphicx}", r"\begin{table}", r"\centering\footnotesize\setlength{\tabcolsep}{3pt}"]
    lines += [rf"\caption{{{_tex(report.title)} ({_tex(report.source)}).}}"]
    lines += [r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%", rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    lines += [*_latex_heads(all_blocks), r"\midrule"]
    for at in range(len(report.rows)):
        cells = [strip.cells[at] for strip in strips]
        lines.append(" & ".join(rf"\textbf{{{_tex(text)}}}" if best else _tex(text) for text, best in cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", "}", r"\end{table}"]
    remarks = [report.legend + (" Bold: the best measured." if report.has_best else ""), *report.remarks]
    lines += [r"\begingroup\footnotesize", *(rf"\noindent {_tex(remark)}\par" for remark in remarks), r"\endgroup"]
    return "\n".join([*lines, ""])


def _latex_heads(all_blocks: list[Block]) -> list[str]:
    """One line of heads; two, with the metrics over their columns, where a metric has several."""
    if all(len(block.strips) == 1 for block in all_blocks if block.head):
        return [" & ".join(_tex(block.head or strip.head) for block in all_blocks for strip in block.strips) + r" \\"]
    groups, rules, place = [], "", 1
    for block in all_blocks:
        count = len(block.strips)
        groups += [rf"\multicolumn{{{count}}}{{c}}{{{_tex(block.head)}}}"] if block.head else [""] * count
        rules += rf"\cmidrule(lr){{{place}-{place + count - 1}}}" if block.head else ""
        place += count
    heads = [_tex(strip.head) for block in all_blocks for strip in block.strips]
    return [" & ".join(groups) + r" \\", rules, " & ".join(heads) + r" \\"]


def _tex(text: str) -> str:
    return re.sub(r"^-(?=\d)|(?<= )-(?= )", "$-$", "".join(LATEX.get(sign, sign) for sign in text))
