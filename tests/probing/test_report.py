"""The report of a probe: bests only where cards agree, a figure, and every number and reason."""

import csv
import io
import json
from pathlib import Path

from PIL import Image

from experiments.evaluation.guidance import Trial
from experiments.evaluation.results import Results, Skipped
from experiments.probing.candidates import TokenizerLocation
from experiments.probing.report import line, make_report, plane, write
from experiments.probing.results import ProbeResult, read_result
from experiments.reports.formats import markdown


def probed(name, tokenizer="", failed="", skipped=None, **values):
    """A tokenizer with numbers; `bits` and `acc` and so on are short for log keys."""
    keys = {"bits": "probe/bits_per_pixel", "acc": "probe/acc1", "nll": "probe/nll", "psnr": "val/psnr", "gfid": "probe/gfid"}
    keys["rate"] = "val/bits_per_token"
    numbers = {keys[key]: value for key, value in values.items()}
    cards = {key: {"n": 10, "weights": tokenizer if key == "probe/nll" else None, "seed": len(name)} for key in numbers}
    location = TokenizerLocation(Path("runs") / name, name, {})
    return ProbeResult(location, "16 x 1 of 256", Results(numbers, cards, skipped or {}), failed=failed)


def report(*results):
    return make_report(results, "small abc", 0)


def bests(made, label):
    """Whether each cell of a column is marked."""
    (metric,) = (metric for metric in made.metrics if metric.column.label == label)
    return [cell.best for cell in metric.cells]


def test_low_and_high_numbers_are_best_at_their_better_end_whatever_the_rate():
    made = report(probed("a", bits=0.3, acc=0.5, rate=4.0), probed("b", bits=0.1, acc=0.9, rate=8.0), probed("c", bits=0.1, acc=0.7))
    assert bests(made, "bits / pixel") == [False, True, True]
    assert bests(made, "AR top-1") == [False, True, False]


def test_numbers_whose_cards_differ_have_no_best_and_the_notes_name_the_fields():
    made = report(probed("a", "first", nll=3.0, bits=0.3), probed("b", "second", nll=2.0, bits=0.1))
    assert bests(made, "nats / token") == [False, False]
    assert bests(made, "bits / pixel") == [False, True]
    assert made.remarks == ["No best is marked under nats / token: cards differ in weights"]
    assert any("weights differs: first (a); second (b)" in detail for detail in made.basis)


def test_one_number_alone_is_no_best():
    made = report(probed("a", bits=0.3), probed("b", psnr=20.0), probed("c", bits=0.2))
    assert bests(made, "bits / pixel") == [False, False, True]
    assert bests(made, "PSNR") == [False, False, False]


def test_a_failed_tokenizer_is_named_and_has_its_numbers():
    failed = probed("a", failed="out of memory", psnr=20.0)
    assert line(failed) == "a: PSNR 20 dB; failed: out of memory"
    made = report(failed)
    assert "a, seed 0, failed: out of memory (runs/a)" in made.remarks
    assert "| a | 16 x 1 of 256 | 20 | a: failed |" in markdown(made)


def test_every_skipped_metric_has_its_reason():
    skipped = dict.fromkeys(("probe/gfid", "val/rfid", "probe/inception_score"), Skipped("no weights", "inception"))
    made = report(probed("a", skipped=skipped, psnr=20.0), probed("b", psnr=21.0, gfid=3.0))
    assert "Not measured: gFID (a), rFID (a), probe/inception_score (a). no weights" in made.remarks


def test_the_plane_prefers_numbers_that_all_tokenizers_have():
    both = [probed("a", psnr=20.0, gfid=3.0, bits=0.3), probed("b", psnr=21.0, gfid=4.0, bits=0.2)]
    assert (plane(both).x, plane(both).y) == ("val/psnr", "probe/gfid")
    some = [*both, probed("c", psnr=22.0, bits=0.1)]
    assert (plane(some).x, plane(some).y) == ("val/psnr", "probe/bits_per_pixel")
    assert plane([probed("a", acc=0.5)]) is None


def test_the_files_of_a_report_have_every_number_and_every_trial(tmp_path):
    results = [probed("a", bits=0.25, psnr=20.0, rate=4.0), probed("b|c", bits=0.125, psnr=19.0, failed="why")]
    results[0].trials = [Trial(2.0, 30, 1.5), Trial(2.0, 100, 1.25)]
    write(results, report(*results), tmp_path)
    table = list(csv.DictReader(io.StringIO((tmp_path / "report.csv").read_text())))
    assert [row["bits / pixel measured"] for row in table] == ["0.25", "0.125"]
    assert [row["val/bits_per_token measured"] for row in table] == ["4", ""]
    assert [row["failed"] for row in table] == ["", "why"]
    assert [row["folder"] for row in table] == ["runs/a", "runs/b|c"]
    assert not [head for head in table[0] if "published" in head or "difference" in head]
    text = (tmp_path / "report.md").read_text()
    assert "| tokenizer | tokens | PSNR (dB) | bits / pixel | run |" in text
    assert "| a | 16 x 1 of 256 | **20** | 0.2500 | a: done |" in text
    assert "| a | 2 | 30 | 1.5 |" in text
    assert "b\\|c" in text
    with Image.open(tmp_path / "plot.png") as image:
        assert len(image.convert("RGB").getcolors(1 << 20)) > 10


def test_the_results_of_a_tokenizer_come_back_from_their_file_with_the_protocol_on_the_cards_of_the_probe(tmp_path):
    result = probed("a", bits=0.25, psnr=20.0, failed="why", skipped={"probe/gfid": Skipped("no weights", "inception")})
    result.trials = [Trial(2.0, 30, 1.5), Trial(2.0, 100, 1.25)]
    result.write(tmp_path / "result.json", "small abc", 7.5, {"folder": "runs/a", "weights": "123"})
    stored = json.loads((tmp_path / "result.json").read_text())
    assert (stored["state"], stored["error"], stored["protocol"], stored["seconds"]) == ("failed", "why", "small abc", 7.5)
    assert stored["guidance_trials"][1] == {"scale": 2.0, "n": 100, "score": 1.25}
    found = read_result(tmp_path / "result.json", result.location)
    assert found.results.cards.pop("probe/bits_per_pixel")["protocol"] == "small abc"
    assert "protocol" not in found.results.cards["val/psnr"]
    del result.results.cards["probe/bits_per_pixel"]
    assert found == result


def test_axes_of_the_plane_point_to_the_better_end(monkeypatch, tmp_path):
    axes = {}

    def remember(figure, path, **_):
        (drawn,) = figure.axes
        axes.update(x=drawn.xaxis_inverted(), y=drawn.yaxis_inverted(), label=drawn.get_ylabel(), points=len(drawn.lines))
        Path(path).touch()

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", remember)
    results = [probed("a", bits=0.25, psnr=20.0), probed("b", bits=0.125, psnr=19.0)]
    write(results, report(*results), tmp_path)
    assert axes == {"x": False, "y": True, "label": "bits / pixel, lower is better", "points": 2}


def test_a_report_without_numbers_is_one_too(tmp_path):
    failed = probed("a", failed="why")
    write([failed], report(failed), tmp_path)
    assert "a, seed 0, failed: why (runs/a)" in (tmp_path / "report.md").read_text()
    assert not (tmp_path / "plot.png").exists()


def test_a_seed_is_named_where_it_is_not_the_first():
    made = make_report([probed("a", psnr=20.0)], "small abc", 3)
    assert made.states == ["a: done: seed 3"]
