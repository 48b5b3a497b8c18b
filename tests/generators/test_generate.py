"""From labels to indices with a generator that is a table."""

import numpy as np
import pytest
import torch

from tests.generators.toy_generator import ToyGenerator, ToyState
from tokenizer.generators.ar import AutoregressiveGenerator
from tokenizer.generators.generate import GuidedPick, IndexSampler, RecordedSteps, Steps, generate_indices
from tokenizer.generators.heads import DepthTransformer, ParallelHeads
from tokenizer.generators.sampling import Guidance, Sampling, choose, filtered, guided, noise, token_seeds
from tokenizer.interfaces import TokenBatch, TokenSpec

SPEC = TokenSpec(codebook_size=8, groups=2, num_tokens=9, grid=(3, 3), num_classes=3)
LABELS, NUMBERS = torch.tensor([0, 1, 2, 3, 1]), torch.tensor([4, 0, 11, 2, 7])
GUIDED = Sampling(temperature=1.5, guidance=Guidance(2.0, "step", 0.3, "full"), seed=5)


@pytest.fixture
def generator() -> ToyGenerator:
    return ToyGenerator(SPEC).eval()


def one_by_one(generator: ToyGenerator, label: int, number: int, sampling: Sampling) -> list[list[int]]:
    """A sample by hand, in numpy."""
    table, before = (parameter.detach().double().numpy() for parameter in (generator.table, generator.before))
    numbers = noise(token_seeds(sampling.seed, [number], SPEC.num_tokens, SPEC.groups)[0], SPEC.codebook_size).numpy()
    last, sample = 0, []
    for token in range(SPEC.num_tokens):
        scale = sampling.guidance.scale_at(token, SPEC.num_tokens)
        sample.append([])
        for group in range(SPEC.groups):
            conditional, unconditional = (table[row, token, group] + before[last] for row in (label, SPEC.num_classes))
            logits = unconditional + scale * (conditional - unconditional)
            # The first of K exponential clocks to ring, with the probabilities as rates.
            last = int((-np.log(numbers[token, group]) / np.exp(logits / sampling.temperature)).argmin())
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


def test_another_batch_can_go_on_in_the_tensors_of_the_first(generator):
    """As recorded steps need it."""

    def begun(labels: torch.Tensor, numbers: torch.Tensor) -> tuple[ToyState, GuidedPick]:
        return generator.start(labels), GuidedPick(GUIDED, token_seeds(0, numbers.tolist(), 9, 2), None)

    first, other = RecordedSteps(generator, *begun(LABELS, NUMBERS)), Steps(generator, *begun(LABELS.flip(0), NUMBERS + 1))
    tensors = [first.state.labels, first.state.last, first.state.position, first.pick.seeds, first.pick.position]
    first()
    first.restart(*begun(LABELS.flip(0), NUMBERS + 1))
    now = [first.state.labels, first.state.last, first.state.position, first.pick.seeds, first.pick.position]
    assert all(one is another for one, another in zip(tensors, now, strict=True))
    assert first.state.count == 0
    assert all(torch.equal(Steps.__call__(first), other()) for _ in range(9))


def real(kind: str) -> AutoregressiveGenerator:
    """Random weights everywhere, also in the outputs, which begin at zero."""
    codebook_size, groups, bits = (64, 1, (2, 4)) if kind == "bits" else (16, 2, None)
    tokens = TokenSpec(codebook_size, groups, num_tokens=9, grid=(3, 3), num_classes=3)
    head = ParallelHeads(tokens, 16) if kind == "parallel" else DepthTransformer(tokens, 16, 2, depth=1, bits=bits)
    positions = "rotary" if kind == "bits" else "learned"
    made = AutoregressiveGenerator(tokens, 16, 2, 2, positions, head, dropout=0.1, class_dropout=0.1)
    random = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.4, generator=random)
    return made


@pytest.mark.parametrize("kind", ["parallel", "depth", "bits"])
def test_the_samples_of_the_real_generator_are_the_same_in_any_batch_and_those_of_its_logits(kind):
    generator = real(kind)
    sampler = IndexSampler(generator, GUIDED)
    whole = sampler(LABELS, NUMBERS)
    for size in (1, 3):
        parts = [sampler(*part) for part in zip(LABELS.split(size), NUMBERS.split(size), strict=True)]
        assert torch.equal(torch.cat(parts), whole)
    spec, sub_tokens = generator.tokens, generator.head.split(whole)
    with torch.no_grad():
        null = torch.full_like(LABELS, generator.null_label)
        full = [generator.eval().logits(TokenBatch(whole, labels, spec.layout)) for labels in (LABELS, null)]
    seeds = token_seeds(GUIDED.seed, NUMBERS.tolist(), 9, len(generator.heads))
    scales = torch.tensor(GUIDED.guidance.scales(9), dtype=torch.float64)[:, None]
    for place in range(len(generator.heads)):
        logits = filtered(guided(full[0][place], full[1][place], scales), GUIDED)
        assert torch.equal(choose(logits, seeds[:, :, place]), sub_tokens[:, :, place])


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["parallel", "depth", "bits"])
def test_recorded_steps_of_the_real_generator_give_its_samples(kind):
    generator = real(kind).cuda()
    recorded, eager = (IndexSampler(generator, GUIDED, mode) for mode in ("graph", "eager"))
    for batch in range(3):
        assert torch.equal(recorded(LABELS.cuda(), NUMBERS + batch), eager(LABELS.cuda(), NUMBERS + batch))


@pytest.mark.gpu
def test_recorded_steps_give_the_same_samples_in_every_batch(generator):
    """Three batches of one size, then another size: recording, replaying from the first token on, recording anew."""
    generator.cuda()
    recorded, eager = (IndexSampler(generator, GUIDED, mode) for mode in ("graph", "eager"))
    for batch in range(4):
        labels, numbers = LABELS[: 5 - batch // 3].cuda(), NUMBERS[: 5 - batch // 3] + batch
        assert torch.equal(recorded(labels, numbers), eager(labels, numbers))
