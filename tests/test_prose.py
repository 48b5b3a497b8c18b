"""Words that the prose of the project avoids, each with the standard term; American spelling. Checked over all tracked text files."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
AVOIDED = {
    r"house|drawer": "project, package",
    r"players?|game": "optimizers, adversarial losses",
    r"judge[ds]?|judging|judge?ments?": "evaluate (a model), check (a configuration), decide (a claim)",
    r"says?|said|tells?|told|speaks?": "describe, log, message",
    r"anew": "again, re-initialize",
    r"goes on|go on|going on|went on": "continue, resume",
    r"lies|lie|lay": "is in, is stored under",
    r"twins?|entrants?": "duplicate, candidate",
    r"pictures?": "image, figure, photograph",
    r"punish\w*": "penalize",
    r"by heart|for the eye|for people|without a word|last words": "memorizes, preview, human-readable, silently, last line",
    r"set the sizes|keep the settings|take over": "leave the docstring out",
    r"(?:colour|favour|behaviour|neighbour|honour)\w*": "-or",
    r"\w*(?:normalis|initialis|recognis|regularis|optimis|generalis|summaris|serialis|organis|realis|utili[s]|minimis|maximis)\w*": "-iz-",
    r"grey|centre[ds]?|licence|metres?|whilst|towards|modelling|labelled|labelling|cancelled|travelled": "American spelling",
}
ALLOWED = {  # names that are contracts or belong to others, and the files that hold the words themselves
    "tests/test_prose.py": set(AVOIDED),
}
NAMES = re.compile(r"table11_regularisation|cuts_per_picture|load_digits|LICENSE")  # contracts: file names, configuration keys


def tracked_files() -> list[Path]:
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    names = [name for name in listing.stdout.splitlines() if not name.endswith(".png") and name not in ("LICENSE", ".ci/constraints.txt")]
    return [ROOT / name for name in names]


@pytest.mark.parametrize("pattern", AVOIDED, ids=lambda pattern: pattern.split("|")[0])
def test_prose_uses_standard_terms(pattern):
    # An underscore separates words as a space does, so that identifiers are checked too.
    word = re.compile(rf"(?<![A-Za-z])(?:{pattern})(?![A-Za-z])", re.IGNORECASE)
    hits = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]}"
        for path in tracked_files()
        if pattern not in ALLOWED.get(str(path.relative_to(ROOT)), set())
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for match in [word.search(NAMES.sub("", line))]
        if match
    ]
    assert hits == [], f"use instead: {AVOIDED[pattern]}"
