"""Claims: their grammar, their verdicts on numbers, and what stays undecidable."""

import pytest

from experiments.config.errors import ConfigError
from experiments.reports.verdicts import decide_measured, decide_published
from experiments.tables.claims import decide, operands, parse
from experiments.tables.reading import read_sweep

A, B = ("a", "val/psnr"), ("b", "val/psnr")
BETTER = "row('a')['val/psnr'] > row('b')['val/psnr']"


def verdict(when=BETTER, means=None, by_seed=None, cards=None, why="not run"):
    means = {A: 20.0, B: 19.0} if means is None else means
    return str(decide_measured(when, means, by_seed or {0: means}, cards or {}, lambda operand: why))


@pytest.mark.parametrize(
    ("when", "outcome"),
    [
        ("row('a')['val/psnr'] > row('b')['val/psnr']", True),
        ("row('a')['val/psnr'] - row('b')['val/psnr'] == 1", True),
        ("1 < row('b')['val/psnr'] < row('a')['val/psnr']", True),
        ("1 < row('a')['val/psnr'] < row('b')['val/psnr']", False),
        ("min(row('a')['val/psnr'], row('b')['val/psnr'], 30) >= 19", True),
        ("max(row('a')['val/psnr'], 30) != 30", False),
        ("abs(row('b')['val/psnr'] - row('a')['val/psnr']) <= 1", True),
        ("not row('a')['val/psnr'] < 0.5 * (row('b')['val/psnr'] + 2)", True),
        ("-row('a')['val/psnr'] / 4 == -5", True),
        ("row('a')['val/psnr'] > 100 or row('b')['val/psnr'] > 18 and 1 < 2", True),
    ],
)
def test_a_predicate_is_arithmetic_and_comparisons(when, outcome):
    parse(when, ["a", "b"], ["val/psnr"])
    assert decide(when, {A: 20.0, B: 19.0}) is outcome


@pytest.mark.parametrize(
    ("when", "token"),
    [
        ("row('a').__class__ == 1", "row('a').__class__"),
        ("().__class__.__bases__[0] > 1", "().__class__"),
        ("__import__('os').system('true') == 0", "__import__('os').system('true')"),
        ("open('file') > 0", "open('file')"),
        ("a > 0", "when=a:"),
        ("[x for x in (1, 2)] == 1", "[x for x in (1, 2)]"),
        ("9 ** 9 ** 9 > 1", "9 ** 9 ** 9"),
        ("1 << 99 > 1", "1 << 99"),
        ("(lambda: 1)() == 1", "(lambda: 1)()"),
        ("'a' * 9 == 1", "'a'"),
        ("True == 1", "True"),
        ("1e999 > 1", "1e309"),
        ("row('a')['val/psnr'] in (1, 2)", "row('a')['val/psnr'] in (1, 2)"),
        ("row('a')['val/psnr']", "row('a')['val/psnr']"),
        ("row('a', 'b')['val/psnr'] > 1", "row('a', 'b')"),
        ("row(*'a')['val/psnr'] > 1", "row(*'a')"),
        ("row('a')[f'val/psnr'] > 1", "row('a')[f'val/psnr']"),
        ("max(row('a')['val/psnr'], key=abs) > 1", "max("),
        ("min(3) > 1", "min(3)"),
        ("abs(3, 4) > 1", "abs(3, 4)"),
        ("max(*row('a')['val/psnr'], 1) > 1", "*row('a')"),
        ("(row('a')['val/psnr'] > 1) > 0", "row('a')['val/psnr'] > 1"),
        ("1 if 2 > 1 else 0", "1 if 2 > 1 else 0"),
        ("(x := 3) > 1", "x := 3"),
        ("row('a')['val/psnr'] >", "cannot be read"),
        ("1 > 0; import os", "cannot be read"),
        ("(" * 400 + "1" + ")" * 400 + " > 0", "cannot be read"),
        ("1 > " + "1" * 5000, "5004 characters"),
        ("", "cannot be read"),
    ],
)
def test_nothing_else_is_read_and_what_is_wrong_is_named(when, token):
    with pytest.raises(ConfigError) as caught:
        parse(when, ["a", "b"], ["val/psnr"])
    assert token in str(caught.value)


def test_an_unknown_row_or_metric_is_named_with_the_nearest():
    for when, nearest in (("row('spher')['val/psnr'] > 1", "sphere"), ("row('sphere')['val/pnsr'] > 1", "val/psnr")):
        with pytest.raises(ConfigError) as caught:
            parse(when, ["uniform", "sphere"], ["val/psnr", "val/rfid"])
        assert (caught.value.key, caught.value.value, caught.value.nearest) == ("when", when.removesuffix(" > 1"), nearest)


def test_a_wrong_claim_is_found_when_its_file_is_read(tmp_path):
    from experiments.config.packages import CONF

    (tmp_path / "sweep/gsq").mkdir(parents=True)
    (tmp_path / "experiment").symlink_to(CONF / "experiment")
    text = (CONF / "sweep/gsq/table01_codebook.yaml").read_text()
    (tmp_path / "sweep/gsq/table01_codebook.yaml").write_text(text.replace("row('sphere')['val/codebook_usage']", "row('sphere').usage"))
    with pytest.raises(ConfigError) as caught:
        read_sweep("gsq/table01_codebook", tmp_path)
    assert caught.value.place == "conf/sweep/gsq/table01_codebook.yaml, claim 2"
    assert caught.value.value == "row('sphere').usage"


def test_operands_come_once_and_in_their_order():
    assert operands(f"{BETTER} or row('a')['val/ssim'] > 0 or {BETTER}") == [A, B, ("a", "val/ssim")]


def test_what_decides_a_claim_alone_decides_it_and_only_what_is_needed_must_be_there():
    assert decide(f"row('c')['val/rfid'] > 1 or {BETTER}", {A: 20.0, B: 19.0}) is True
    assert decide(f"row('c')['val/rfid'] > 1 and {BETTER}", {A: 18.0, B: 19.0}) is False
    assert decide(f"row('c')['val/rfid'] > 1 and {BETTER}", {A: 20.0, B: 19.0}) is None
    assert decide("not row('c')['val/rfid'] > 1", {}) is None


def test_a_division_by_zero_decides_nothing():
    assert verdict("row('a')['val/psnr'] / row('b')['val/psnr'] > 1", {A: 1.0, B: 0.0}) == "undecidable: division by zero"


def test_verdicts_on_one_seed():
    assert verdict() == "holds"
    assert verdict(means={A: 18.0, B: 19.0}) == "fails"


def test_a_missing_number_is_named_with_its_reason():
    assert verdict(means={A: 20.0}, why="weights absent") == "undecidable: val/psnr of row b is missing: weights absent"
    assert verdict(means={}, why="not run") == "undecidable: val/psnr of rows a, b is missing: not run"


def test_numbers_whose_cards_differ_are_not_compared():
    cards = {A: [{"n": 516, "seed": 0}], B: [{"n": 500, "seed": 1}]}
    assert verdict(cards=cards) == "undecidable: cards differ: n of val/psnr (a: 516, b: 500)"
    cards[B][0]["n"] = 516
    assert verdict(cards=cards) == "holds"


def test_cards_of_different_metrics_may_differ():
    when = "row('a')['val/psnr'] > 1 and row('b')['val/ssim'] > 0"
    other = ("b", "val/ssim")
    assert verdict(when, {A: 2.0, other: 0.5}, cards={A: [{"n": 516}], other: [{"n": 500}]}) == "holds"


def test_several_seeds_are_decided_by_their_means_and_counted():
    agreeing = {seed: {A: 20.0 + seed, B: 19.0} for seed in range(3)}
    assert verdict(by_seed=agreeing) == "holds, 3 of 3 seeds"
    assert verdict(by_seed={**agreeing, 1: {A: 18.0, B: 19.0}}) == "holds, on the means; the seeds disagree: holds in 2 of 3 seeds"
    assert verdict(means={A: 1.0, B: 2.0}, by_seed={0: {A: 1.0, B: 2.0}, 1: {A: 1.0, B: 2.0}}) == "fails, holds in 0 of 2 seeds"
    assert verdict(by_seed={0: {A: 20.0, B: 19.0}, 1: {A: 20.0}}) == "holds"


def test_published_cells_are_decided_by_the_same_predicate():
    assert str(decide_published(BETTER, {A: 20.0, B: 19.0})) == "holds"
    assert str(decide_published(BETTER, {A: 19.0, B: 19.0})) == "fails"
    assert str(decide_published(BETTER, {A: 19.0})) == "undecidable: not published: b val/psnr"
