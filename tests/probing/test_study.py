"""What a study is named by."""

import torch

from experiments.config.compose import compose
from experiments.probing.study import Study


def study(*words: str) -> Study:
    config = compose("probe", ["tokenizer=nothing", "image_size=32", *words]).config
    return Study(config, "small", "auto", torch.device("cpu"), [])


def test_seeds_share_a_protocol_so_that_their_numbers_compare_but_not_a_report(tmp_path):
    (tmp_path / "reference.npz").write_bytes(b"any")
    plain, again, other = study(), study("workers=0"), study("seed=1")
    assert plain.subject == again.subject == other.subject
    assert plain.name([]) == again.name([]) != other.name([])
    assert study("linear.epochs=3", "linear.warmup_epochs=1").subject != plain.subject
    assert study(f"reference={tmp_path / 'reference.npz'}").name([]) != plain.name([])
