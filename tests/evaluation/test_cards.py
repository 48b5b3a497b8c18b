"""Cards of numbers."""

import dataclasses
import json

from experiments.evaluation.cards import Card, code_version, comparable, describe_losses


def make_card(**changes):
    fields = {
        "metric": "psnr", "backend": "tessera", "network": None, "weights": None, "resize": None, "transform": "resize 64, center crop 64",
        "image_size": 64, "reference": "photos validation", "n": 32, "aggregate": "total squared error", "dtype": "float32",
        "subject": "ema", "guidance": None, "losses": None, "seed": 0,
    }  # fmt: skip
    return Card(**(fields | changes))


def test_cards_that_differ_in_what_tables_study_and_in_the_code_only_are_comparable():
    one = make_card(seed=0, losses="reconstruction 1", code_version="a", protocol="small 1a2b3c")
    other = make_card(seed=1, losses=None, code_version="b", protocol="gigatok 4d5e6f")
    assert comparable(one, other) == []


def test_every_other_field_makes_two_numbers_incomparable_and_is_named():
    for field in dataclasses.fields(Card):
        if field.name not in ("seed", "code_version", "losses", "protocol"):
            assert comparable(make_card(), make_card(**{field.name: "another"})) == [field.name]


def test_cards_are_compared_as_they_come_back_from_a_file():
    stored = json.loads(json.dumps(make_card().to_dict()))
    assert comparable(stored, make_card()) == []
    assert comparable(stored, make_card(n=33, subject="raw")) == ["n", "subject"]


def test_a_field_that_an_older_card_lacks_makes_it_incomparable():
    older = make_card().to_dict()
    del older["guidance"]
    assert comparable(older, make_card()) == ["guidance"]
    assert comparable(make_card(), older) == ["guidance"]


def test_a_card_without_a_protocol_reads_as_that_of_a_number_of_no_probe():
    older = make_card().to_dict()
    del older["protocol"]
    assert comparable(older, make_card()) == []


def test_the_code_version_is_a_commit_inside_a_checkout_and_never_empty():
    assert code_version()
    assert "\n" not in code_version()


def test_the_losses_of_a_card_state_what_trains_the_model():
    weights = {"reconstruction": 1.0, "perceptual": 0.0, "commitment": 0.25, "adversarial": 0.1, "discriminator": 1.0}
    objective = {"weights": weights, "image": {"perceptual": {"_target_": "a.b.LPIPSLoss"}}, "inner": {}, "adversarial": {"gan": {}}}
    task = {"objective": objective, "discriminator": None}
    assert describe_losses(task) == "reconstruction 1, commitment 0.25; no perceptual loss; no adversarial loss"
    task["discriminator"], weights["perceptual"] = {"_target_": "c.d.PatchDiscriminator"}, 0.5
    losses = "reconstruction 1, perceptual 0.5, commitment 0.25, adversarial 0.1, discriminator 1"
    assert describe_losses(task) == f"{losses}; perceptual by LPIPSLoss; adversarial by PatchDiscriminator"
    del objective["image"]
    assert describe_losses(task) is None
