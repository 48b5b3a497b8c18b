"""The report of a probe: ranks only where cards agree, a picture, and nothing left unsaid."""

import csv
import io
import json
from pathlib import Path

from PIL import Image

from experiments.evaluation.guidance import Try
from experiments.evaluation.results import Results
from experiments.probing.candidates import Place
from experiments.probing.report import METRICS, axes_of, line, markdown, notes, ranks, write
from experiments.probing.study import Probed

BY_KEY = {metric.key: metric for metric in METRICS}
BITS, ACCURACY, NLL, PSNR = (BY_KEY[f"{key}"] for key in ("probe/bits_per_pixel", "probe/acc1", "probe/nll", "val/psnr"))


def made(name, tokenizer="", failed="", **values):
    """A tokenizer with numbers; `bits` and `acc` and so on stand for log keys."""
    keys = {"bits": "probe/bits_per_pixel", "acc": "probe/acc1", "nll": "probe/nll", "psnr": "val/psnr", "gfid": "probe/gfid"}
    found = {keys[key]: value for key, value in values.items()}
    cards = {key: {"n": 10, "weights": tokenizer if key == "probe/nll" else None, "seed": len(name)} for key in found}
    return Probed(Place(Path("runs") / name, name, {}), "16 x 1 of 256", Results(found, cards), failed=failed)


def test_low_and_high_numbers_rank_from_their_better_end_and_equal_ones_share_a_place():
    probed = [made("a", bits=0.3, acc=0.5), made("b", bits=0.1, acc=0.9), made("c", bits=0.3, acc=0.7)]
    assert ranks(probed, BITS) == [2, 1, 2]
    assert ranks(probed, ACCURACY) == [3, 1, 2]


def test_numbers_whose_cards_differ_rank_nobody_and_the_notes_say_in_what():
    probed = [made("a", "first", nll=3.0, bits=0.3), made("b", "second", nll=2.0, bits=0.1)]
    assert ranks(probed, NLL) == [None, None]
    assert ranks(probed, BITS) == [2, 1]
    assert notes(probed) == ["nats / token ranks nobody: the cards differ in weights"]


def test_a_tokenizer_that_lacks_a_number_has_no_rank_and_one_alone_neither():
    probed = [made("a", bits=0.3), made("b", psnr=20.0), made("c", bits=0.2)]
    assert ranks(probed, BITS) == [2, None, 1]
    assert ranks(probed, PSNR) == [None, None, None]


def test_a_failed_tokenizer_is_named_in_its_line_and_in_the_notes():
    probed = made("a", failed="out of memory", psnr=20.0)
    assert line(probed) == "a: PSNR 20; failed: out of memory"
    assert notes([probed]) == ["a failed: out of memory"]


def test_the_plane_prefers_numbers_that_all_tokenizers_have():
    both = [made("a", psnr=20.0, gfid=3.0, bits=0.3), made("b", psnr=21.0, gfid=4.0, bits=0.2)]
    assert [metric.key for metric in axes_of(both)] == ["val/psnr", "probe/gfid"]
    some = [*both, made("c", psnr=22.0, bits=0.1)]
    assert [metric.key for metric in axes_of(some)] == ["val/psnr", "probe/bits_per_pixel"]
    assert axes_of([made("a", acc=0.5)]) is None


def test_the_files_of_a_report_hold_every_number_and_every_try(tmp_path):
    probed = [made("a", bits=0.25, psnr=20.0), made("b|c", bits=0.125, psnr=19.0, failed="why")]
    probed[0].tries = [Try(2.0, 30, 1.5), Try(2.0, 100, 1.25)]
    write(probed, tmp_path, "small abc")
    table = list(csv.DictReader(io.StringIO((tmp_path / "report.csv").read_text())))
    assert [row["probe/bits_per_pixel"] for row in table] == ["0.25", "0.125"]
    assert [row["failed"] for row in table] == ["", "why"]
    text = (tmp_path / "report.md").read_text()
    assert "| a | 16 x 1 of 256 | 20 (1) | 0.25 (2) |" in text
    assert "| a | 2 | 30 | 1.5 |" in text
    assert "b\\|c" in text
    kept = json.loads((tmp_path / "results.json").read_text())
    assert kept["tokenizers"]["a"]["guidance_tries"][1] == {"scale": 2.0, "n": 100, "score": 1.25}
    assert kept["tokenizers"]["b|c"]["state"] == "failed"
    with Image.open(tmp_path / "plane.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 10


def test_a_report_without_numbers_is_one_too(tmp_path):
    write([made("a", failed="why")], tmp_path, "small abc")
    assert "a failed: why" in markdown([made("a", failed="why")], "small abc")
    assert (tmp_path / "plane.png").is_file()
