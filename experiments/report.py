"""Report a published table beside what was measured: `python -m experiments.report gsq/table01_codebook scale=mini`."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.config.checks import check_output
from experiments.config.compose import Composition, main
from tokenizer.files import write_text

if TYPE_CHECKING:
    from experiments.config.settings import ReportSettings

log = logging.getLogger("experiments.report")  # __name__ is __main__ here


def run(composition: Composition) -> int:
    """Print the report in the chosen format, and write all of them."""
    from experiments.reports.formats import comma_separated, latex, markdown
    from experiments.reports.measured import runs_folder
    from experiments.reports.report import make_report
    from experiments.reports.terminal import show_report
    from experiments.tables.reading import read_sweep

    settings: ReportSettings = composition.settings
    overrides, folders = list(composition.others), composition.draft.folders
    if settings.output:
        check_output(Path(settings.output), is_file=False)
    sweep = read_sweep(settings.table, folders.main, folders.added)
    report = make_report(sweep, settings.scale, settings.seeds, overrides, folders.main)
    folder = Path(settings.output or runs_folder(overrides, folders.main) / "reports" / sweep.name / report.scale)
    texts = {
        "markdown": ("report.md", markdown(report)),
        "csv": ("report.csv", comma_separated(report)),
        "latex": ("report.tex", latex(report)),
    }
    if settings.format == "terminal":
        show_report(report)
    else:
        sys.stdout.write(texts[settings.format][1])
    for file, text in texts.values():
        write_text(folder / file, text)
    if sweep.plot:
        from experiments.reports.plots import draw

        draw(report, folder / "plot.png")
    log.info("report in %s", folder)
    return 0


if __name__ == "__main__":
    main("report", run, "Report a published table: printed and measured cells, their difference, and the paper's claims.")
