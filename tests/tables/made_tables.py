"""A sweep file in a small folder of configuration files, of which only the names are looked at."""

from pathlib import Path
from typing import Any

import yaml

from experiments.tables.reading import read_sweep
from experiments.tables.sweep_file import SweepFile

FILE = "conf/sweep/gsq/table09_codebooks.yaml"
TABLE = {
    "title": "Codebooks",
    "source": "arXiv:2412.02632 table 1",
    "base": "gsq/base",
    "labels": ["start"],
    "columns": ["val/rfid", {"key": "val_twice/rfid", "label": "rFID-256", "better": "lower"}],
    "mini": {"codebook_size": 64, "width": 16},
    "paper": {"updates": 100},
    "rows": [
        {
            "name": "one",
            "label": ["uniform"],
            "overrides": {"groups": 2, "width": 8},
            "published": ["2.000", None],
            "paper": {"updates": 7},
        },
        {"name": "two", "label": ["sphere"], "base": "gsq/other", "published": ["1.5", "0.08"], "corrections": {}},
        {"name": "theirs", "label": ["?"], "quoted": True, "published": ["1.6", None]},
    ],
    "evaluations": {"twice": {"image_size_times": 2}},
}


def make_conf(folder: Path) -> Path:
    """The folder with its experiments and its protocol."""
    for name in ("experiment/gsq/base", "experiment/gsq/other", "protocol/small", "sweep/gsq/table09_codebooks"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.yaml").write_text("")
    return folder


def read(conf: Path, content: Any = TABLE) -> SweepFile:
    """Write the table, and read it."""
    (conf / "sweep" / "gsq" / "table09_codebooks.yaml").write_text(yaml.safe_dump(content))
    return read_sweep("gsq/table09_codebooks", conf)
