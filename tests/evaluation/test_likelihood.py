"""Likelihood over batches of which some are empty."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from experiments.evaluation.likelihood import blank_tokens, evaluate_likelihood, likelihood_subject
from experiments.evaluation.results_table import show
from tests.generators.toy_generator import ToyGenerator
from tokenizer.interfaces import TokenBatch, TokenSpec

SOURCE = SimpleNamespace(image_size=32, transform="whole", reference="five images")
SPEC = TokenSpec(codebook_size=5, groups=2, num_tokens=4, grid=(2, 2), num_classes=3)
MERGED = TokenSpec(codebook_size=5, groups=2, num_tokens=3, grid=(2, 4), kind="merged")
CPU = torch.device("cpu")


def tokens(count: int) -> TokenBatch:
    indices = torch.randint(5, (count, 4, 2), generator=torch.Generator().manual_seed(count))
    return TokenBatch(indices, torch.arange(count) % 3, SPEC.layout)


class Watched(ToyGenerator):
    """Records the lengths of its batches; the nats are the indices."""

    def nll(self, batch: TokenBatch) -> torch.Tensor:
        self.lengths.append(len(batch.indices))
        return batch.indices.float() + 1


def evaluated(*batches: TokenBatch) -> tuple[list[int], dict, dict]:
    generator = Watched(SPEC)
    generator.lengths = []
    subjects = [likelihood_subject(prefix, generator, SOURCE, 0, "raw", "digest") for prefix in ("val", "val_raw")]
    evaluation = evaluate_likelihood(subjects, list(batches), lambda batch: batch, CPU)
    return generator.lengths, evaluation.values, evaluation.cards


def test_a_rank_without_images_calls_its_generator_as_often_as_the_others_and_counts_nothing():
    lengths, *results = evaluated(tokens(3), tokens(0))
    assert lengths == [3, 3, 1, 1]
    assert results == [*evaluated(tokens(3))[1:]]
    assert evaluated(tokens(0), tokens(3))[0] == [1, 1, 3, 3]


@pytest.mark.parametrize(("classes", "missing", "counted"), [(3, 2, 4), (3, 6, 0), (3, 0, None), (0, 6, None)])
def test_the_card_of_a_number_that_depends_on_labels_counts_them(classes, missing, counted):
    batches = tokens(3), tokens(3)
    for row in range(missing):
        batches[row // 3].labels[row % 3] = -1
    generator = Watched(replace(SPEC, num_classes=classes))
    generator.lengths = []
    subjects = [likelihood_subject("val", generator, SOURCE, 0, "raw", "digest")]
    for _ in range(2):  # the second evaluation starts from zero
        cards = evaluate_likelihood(subjects, [*batches, tokens(0)], lambda batch: batch, CPU).cards
        assert [(card["n"], card.get("labeled")) for card in cards.values()] == [(6, counted)] * 2


def test_the_table_has_the_number_of_labels(capsys):
    card = {"n": 6, "subject": "raw"}
    show({"metrics": {"val/nll": 1.0, "val/bits_per_pixel": 2.0}, "cards": {"val/nll": {**card, "labeled": 4}, "val/bits_per_pixel": card}})
    rows = [line.split("│")[-2].strip() for line in capsys.readouterr().out.splitlines() if "nll" in line or "bits" in line]
    assert sorted(rows) == ["6", "6, 4 labeled"]


@pytest.mark.parametrize("spec", [SPEC, MERGED])
def test_a_blank_image_has_the_shapes_of_the_data(spec):
    blank = blank_tokens(spec, CPU)
    assert blank.indices.shape == (1, spec.num_tokens, 2)
    assert blank.labels.tolist() == [-1]
    assert (blank.layout.grid, blank.layout.kind) == (spec.grid, spec.kind)
    if spec.kind == "merged":
        assert blank.layout.assignment.tolist() == [[0, 1, 2, 2, 2, 2, 2, 2]]
        assert blank.layout.token_sizes.tolist() == [[1, 1, 6]]
