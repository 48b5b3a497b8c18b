"""Report a published table beside what was measured: `python -m experiments.report gsq/table01_codebook scale=mini`."""

import logging
import sys
from pathlib import Path
from typing import Any

from experiments.config.signatures import CONF
from experiments.reports.formats import comma_separated, latex, markdown
from experiments.reports.measured import runs_folder
from experiments.reports.report import make_report
from experiments.reports.terminal import show_report
from experiments.sweeps.settings import main
from experiments.tables.reading import read_sweep
from tokenizer.files import write_text

log = logging.getLogger("experiments.report")  # __name__ is __main__ here

FILES = {"markdown": ("report.md", markdown), "csv": ("report.csv", comma_separated), "latex": ("report.tex", latex)}
FORMATS = ("terminal", *FILES)


def run(settings: dict[str, Any], words: list[str], config_dir: Path = CONF) -> int:
    """Print the report in the format asked for, and write all of them."""
    sweep = read_sweep(settings["table"], config_dir)
    report = make_report(sweep, settings["scale"], settings["seeds"], words, config_dir)
    folder = Path(settings["output"] or runs_folder(words, config_dir) / "reports" / sweep.name / report.scale)
    texts = {name: (folder / file, layout(report)) for name, (file, layout) in FILES.items()}
    if settings["format"] == "terminal":
        show_report(report)
    else:
        sys.stdout.write(texts[settings["format"]][1])
    for file, text in texts.values():
        write_text(file, text)
    if sweep.plot:
        from experiments.reports.plots import draw

        draw(report, folder / "plot.png")
    log.info("report in %s", folder)
    return 0


if __name__ == "__main__":
    main(
        "report",
        run,
        "Report a published table: printed and measured cells, their difference, and the paper's claims.",
        {"format": FORMATS},
    )
