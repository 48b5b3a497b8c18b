"""From labels to indices with a generator that is a table."""

import numpy as np
import pytest
import torch

from tests.generators.toy_generator import ToyGenerator
from tokenizer.generators.generate import IndexSampler, generate_indices
from tokenizer.generators.sampling import Guidance, Sampling, uniforms
from tokenizer.interfaces import TokenSpec

SPEC = TokenSpec(codebook_size=8, groups=2, num_tokens=9, grid=(3, 3), num_classes=3)
LABELS, NUMBERS = torch.tensor([0, 1, 2, 3, 1]), torch.tensor([4, 0, 11, 2, 7])
GUIDED = Sampling(temperature=1.5, guidance=Guidance(2.0, "step", 0.3, "full"), seed=5)


@pytest.fixture
def generator() -> ToyGenerator:
    return ToyGenerator(SPEC).eval()


def one_by_one(generator: ToyGenerator, label: int, number: int, sampling: Sampling) -> list[list[int]]:
    """A sample by hand, in numpy."""
    table, before = (parameter.detach().double().numpy() for parameter in (generator.table, generator.before))
    stream = uniforms(sampling.seed, number, SPEC.num_tokens * SPEC.groups).reshape(SPEC.num_tokens, SPEC.groups)
    last, sample = 0, []
    for token in range(SPEC.num_tokens):
        scale = sampling.guidance.scale_at(token, SPEC.num_tokens)
        sample.append([])
        for group in range(SPEC.groups):
            conditional, unconditional = (table[row, token, group] + before[last] for row in (label, SPEC.num_classes))
            logits = unconditional + scale * (conditional - unconditional)
            weights = np.exp(logits / sampling.temperature)
            last = int(np.searchsorted(np.cumsum(weights) / weights.sum(), stream[token, group], side="right"))
            sample[-1].append(last)
    return sample


@pytest.mark.parametrize("sampling", [Sampling(seed=1), GUIDED], ids=["plain", "guided"])
def test_samples_equal_those_of_a_plain_loop(generator, sampling):
    expected = [one_by_one(generator, *pair, sampling) for pair in zip(LABELS.tolist(), NUMBERS.tolist(), strict=True)]
    assert generate_indices(generator, LABELS, NUMBERS, sampling).tolist() == expected


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_sample_is_the_same_in_any_batch(generator, size):
    sampler = IndexSampler(generator, GUIDED)
    parts = [sampler(*part) for part in zip(LABELS.split(size), NUMBERS.split(size), strict=True)]
    assert torch.equal(torch.cat(parts), generate_indices(generator, LABELS, NUMBERS, GUIDED))


@pytest.mark.parametrize("schedule", ["constant", "step", "linear", "cosine"])
def test_guidance_of_one_is_no_guidance_and_computes_no_row_of_the_null_class(generator, schedule):
    plain = generate_indices(generator, LABELS, NUMBERS, Sampling(seed=2))
    none = generate_indices(generator, LABELS, NUMBERS, Sampling(seed=2, guidance=Guidance(1.0, schedule, first_token="full")))
    assert torch.equal(plain, none)
    assert generator.rows_started == [5, 5]
    assert not torch.equal(plain, generate_indices(generator, LABELS, NUMBERS, Sampling(seed=2, guidance=Guidance(4.0))))
    assert generator.rows_started == [5, 5, 10]


def test_seeds_and_sample_numbers_give_other_samples(generator):
    labels = torch.zeros(6, dtype=torch.int64)
    first = generate_indices(generator, labels, torch.arange(6), Sampling())
    assert len({tuple(row) for row in first.flatten(1).tolist()}) == 6
    assert not torch.equal(first, generate_indices(generator, labels, torch.arange(6), Sampling(seed=1)))
    assert torch.equal(first[2:], generate_indices(generator, labels[2:], torch.arange(2, 6), Sampling()))


def test_each_step_is_reported_and_the_mode_of_the_generator_is_kept(generator):
    seen: list[int] = []
    generator.train()
    indices = IndexSampler(generator, Sampling())(LABELS, NUMBERS, seen.append)
    assert seen == [1] * 9
    assert generator.training
    assert torch.nn.Embedding(8, 2)(indices).sum().requires_grad  # indices made without autograd may be trained on


@pytest.mark.parametrize(("labels", "named"), [([0, 4], "label 4: expected 0 to 2, or 3"), ([-1, 0], "label -1"), ([], "one at least")])
def test_labels_out_of_range_are_refused(generator, labels, named):
    labels = torch.tensor(labels, dtype=torch.int64)
    with pytest.raises(ValueError, match=named):
        generate_indices(generator, labels, torch.arange(len(labels)), Sampling())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_no_sample(generator, value):
    generator.table.data[1, 4, 1, 3] = value
    assert generate_indices(generator, torch.tensor([0]), torch.tensor([0]), Sampling()).shape == (1, 9, 2)
    with pytest.raises(ValueError, match="not finite"):
        generate_indices(generator, LABELS, NUMBERS, Sampling())


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["graph", "compiled"])
def test_a_recorded_step_gives_the_same_samples_in_every_batch(generator, mode):
    """Three batches of one size, then another size: recording, replaying from the first token on, recording anew."""
    generator.cuda()
    recorded, eager = (IndexSampler(generator, GUIDED, kind) for kind in (mode, "eager"))
    for batch in range(4):
        labels, numbers = LABELS[: 5 - batch // 3].cuda(), NUMBERS[: 5 - batch // 3] + batch
        assert torch.equal(recorded(labels, numbers), eager(labels, numbers))
