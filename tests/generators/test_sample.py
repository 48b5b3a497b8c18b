"""From labels to indices, with a generator that is a table and with the autoregressive one."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.generators.cpu_graph import use_cpu_graphs
from tests.generators.toy_generator import ToyGenerator
from tokenizer.generators.ar import AutoregressiveGenerator, Decoding
from tokenizer.generators.heads import DepthTransformer, ParallelHeads
from tokenizer.generators.sample import IndexSampler, generate_indices
from tokenizer.generators.sampling import Guidance, GuidedPick, Sampling, choose, filtered, guided, noise, token_seeds
from tokenizer.interfaces import TokenBatch, TokenSpec

SPEC = TokenSpec(codebook_size=8, groups=2, num_tokens=9, grid=(3, 3), num_classes=3)
LABELS, NUMBERS = torch.tensor([0, 1, 2, 3, 1]), torch.tensor([4, 0, 11, 2, 7])
GUIDED = Sampling(temperature=1.5, guidance=Guidance(2.0, "step", 0.3, "full"), seed=5)


@pytest.fixture
def generator() -> ToyGenerator:
    return ToyGenerator(SPEC).eval()


def one_by_one(generator: ToyGenerator, label: int, number: int, sampling: Sampling) -> list[list[int]]:
    """A sample computed in numpy."""
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
    assert generate_indices(generator, LABELS, sampling, NUMBERS).tolist() == expected


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_sample_is_the_same_in_any_batch(generator, size):
    sampler = IndexSampler(generator, GUIDED)
    parts = [sampler(*part) for part in zip(LABELS.split(size), NUMBERS.split(size), strict=True)]
    assert torch.equal(torch.cat(parts), generate_indices(generator, LABELS, GUIDED, NUMBERS))


@pytest.mark.parametrize("schedule", ["constant", "step", "linear", "cosine"])
def test_a_scale_of_one_is_no_guidance_and_computes_no_rows_of_the_null_class(generator, schedule):
    plain = generate_indices(generator, LABELS, Sampling(seed=2), NUMBERS)
    none = generate_indices(generator, LABELS, Sampling(seed=2, guidance=Guidance(1.0, schedule, first_token="full")), NUMBERS)
    assert torch.equal(plain, none)
    assert generator.rows_started == [5, 5]
    assert not torch.equal(plain, generate_indices(generator, LABELS, Sampling(seed=2, guidance=Guidance(4.0)), NUMBERS))
    assert generator.rows_started == [5, 5, 10]


def test_seeds_and_sample_numbers_give_other_samples(generator):
    labels = torch.zeros(6, dtype=torch.int64)
    first = generate_indices(generator, labels, Sampling())
    assert len({tuple(row) for row in first.flatten(1).tolist()}) == 6
    assert not torch.equal(first, generate_indices(generator, labels, Sampling(seed=1)))
    assert torch.equal(first, generate_indices(generator, labels, Sampling(), torch.arange(6)))
    assert torch.equal(first[2:], generate_indices(generator, labels[2:], Sampling(), torch.arange(2, 6)))


def test_each_step_is_reported_and_the_mode_of_the_generator_is_restored(generator):
    seen: list[int] = []
    generator.train()
    indices = IndexSampler(generator, Sampling())(LABELS, NUMBERS, seen.append)
    assert seen == [1] * 9
    assert generator.training
    assert torch.nn.Embedding(8, 2)(indices).sum().requires_grad  # no inference tensor


@pytest.mark.parametrize(("labels", "named"), [([0, 4], "label 4, expected 0 to 2, or 3"), ([-1, 0], "label -1"), ([], "not empty")])
def test_labels_out_of_range_are_refused(generator, labels, named):
    labels = torch.tensor(labels, dtype=torch.int64)
    with pytest.raises(ValueError, match=named):
        generate_indices(generator, labels, Sampling())


@pytest.mark.parametrize("label", [1, -1])
def test_a_label_for_a_generator_without_classes_is_refused(label):
    generator = ToyGenerator(replace(SPEC, num_classes=0)).eval()
    with pytest.raises(ValueError, match=f"^label {label}, expected 0, since the generator has no classes$"):
        generate_indices(generator, torch.tensor([0, label]), Sampling())
    assert generate_indices(generator, torch.tensor([0, 0]), Sampling()).shape == (2, 9, 2)


@pytest.mark.parametrize(
    ("numbers", "named"),
    [
        (torch.tensor([0, -1]), "sample number -1, expected .* at least 0"),
        (torch.tensor([0.0, 0.5]), "float32, expected 2 integers"),
        (torch.tensor([True, False]), "bool, expected 2 integers"),
        (torch.tensor([0, 1, 2]), r"\(3,\) of torch.int64, expected 2 integers"),
    ],
)
def test_sample_numbers_that_are_no_numbers_from_zero_are_refused(generator, numbers, named):
    with pytest.raises(ValueError, match=named):
        generate_indices(generator, torch.tensor([0, 1]), Sampling(), numbers)


@pytest.mark.parametrize("labels", [torch.tensor([[0], [1]]), torch.tensor([0.5, 1.0]), torch.tensor([True, False])])
def test_labels_that_are_no_row_of_integers_are_refused(generator, labels):
    with pytest.raises(ValueError, match=r"expected integers \(B,\)"):
        generate_indices(generator, labels, Sampling())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_an_error(generator, value):
    generator.table.data[1, 4, 1, 3] = value
    assert generate_indices(generator, torch.tensor([0]), Sampling()).shape == (1, 9, 2)
    with pytest.raises(ValueError, match="not finite"):
        generate_indices(generator, LABELS, Sampling(), NUMBERS)


def real(kind: str) -> AutoregressiveGenerator:
    """With random weights everywhere, also in the outputs, which are initialized with zeros."""
    codebook_size, groups, bits = (64, 1, (2, 4)) if kind == "bits" else (16, 2, None)
    tokens = TokenSpec(codebook_size, groups, num_tokens=9, grid=(3, 3), num_classes=3)
    head = ParallelHeads(tokens, 16) if kind == "parallel" else DepthTransformer(tokens, 16, 2, depth=1, bits=bits)
    positions = "rotary" if kind == "bits" else "learned"
    generator = AutoregressiveGenerator(tokens, 16, 2, 2, positions, head, dropout=0.1, class_dropout=0.1)
    random = torch.Generator().manual_seed(0)
    for parameter in generator.parameters():
        torch.nn.init.normal_(parameter, std=0.4, generator=random)
    return generator


@pytest.mark.parametrize("kind", ["parallel", "depth", "bits"])
def test_samples_of_the_real_generator_are_the_same_in_any_batch_and_follow_its_logits(kind):
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


def contents(value: Any, path: str) -> dict[str, Any]:
    """All tensors and numbers of an object and of its attributes, by path."""
    if isinstance(value, torch.Tensor) or not hasattr(value, "__dict__"):
        return {path: value}
    return {key: part for name, attribute in vars(value).items() for key, part in contents(attribute, f"{path}.{name}").items()}


def is_same(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def decoded(generator: AutoregressiveGenerator, labels: torch.Tensor, numbers: torch.Tensor, tokens: int) -> SimpleNamespace:
    """State and pick of a guided batch after some tokens."""
    rows = torch.cat([labels, torch.full_like(labels, generator.null_label)])
    seeds = token_seeds(GUIDED.seed, numbers.tolist(), 9, len(generator.heads))
    batch = SimpleNamespace(state=generator.start(rows), pick=GuidedPick(GUIDED, seeds, torch.tensor(GUIDED.guidance.scales(9)).double()))
    for _ in range(tokens):
        make_step(generator, batch)
    return batch


def make_step(generator: AutoregressiveGenerator, batch: SimpleNamespace) -> torch.Tensor:
    indices = generator.step(batch.state, batch.pick)
    batch.pick.position += 1
    return indices


@pytest.mark.parametrize("kind", ["parallel", "depth", "bits"])
def test_loading_a_state_copies_in_place_all_that_differs_between_batches(kind):
    generator = real(kind).eval()
    target, source = decoded(generator, LABELS, NUMBERS, 5), decoded(generator, LABELS.flip(0), NUMBERS + 1, 2)
    source.pick.all_finite.logical_not_()
    before, expected = contents(target, "batch"), contents(source, "batch")
    constant = {path for path in expected if is_same(before[path], expected[path]) and ".pick.sampling." not in path}
    in_cache = {f"batch.state.cache.{name}" for name in ("shape", "dtype", "bucket")}
    assert constant == {"batch.state.rotation", "batch.pick.scales", *in_cache}
    target.state.load_(source.state)
    target.pick.load_(source.pick)
    after = contents(target, "batch")
    different = [path for path in expected if not is_same(after[path], expected[path])]
    assert different == ["batch.state.cache.keys", "batch.state.cache.values"]  # in positions that are not filled
    assert all(torch.equal(after[path][:, :, :, :2], expected[path][:, :, :, :2]) for path in different)
    assert [path for path in expected if isinstance(after[path], torch.Tensor) and after[path] is not before[path]] == []
    assert all(torch.equal(make_step(generator, target), make_step(generator, source)) for _ in range(7))


@pytest.mark.parametrize("bucket", [1, 4])
@pytest.mark.parametrize("kind", ["parallel", "depth", "bits"])
def test_replayed_steps_give_the_samples_of_eager_steps(kind, bucket, monkeypatch):
    """With graphs of the CPU; the tests marked gpu do the same with those of CUDA."""
    use_cpu_graphs(monkeypatch)
    generator = real(kind)
    start = generator.start

    def start_with_bucket(labels: torch.Tensor) -> Decoding:
        state = start(labels)
        state.cache.bucket = bucket
        return state

    monkeypatch.setattr(generator, "start", start_with_bucket)
    graph, eager = (IndexSampler(generator, GUIDED, mode) for mode in ("graph", "eager"))
    for batch, graphs in enumerate([2, 3, 3, 2] if bucket == 4 else [0, 9, 9, 0]):  # three batches of one size, then a smaller one
        labels, numbers = LABELS.roll(batch)[batch // 3 :], NUMBERS[batch // 3 :] + batch
        assert torch.equal(graph(labels, numbers), eager(labels, numbers))
        assert len(graph.graphs.graphs) == graphs


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["parallel", "depth", "bits"])
def test_cuda_graphs_of_the_real_generator_give_its_samples(kind):
    generator = real(kind).cuda()
    graph, eager = (IndexSampler(generator, GUIDED, mode) for mode in ("graph", "eager"))
    for batch in range(3):
        assert torch.equal(graph(LABELS.cuda(), NUMBERS + batch), eager(LABELS.cuda(), NUMBERS + batch))


@pytest.mark.gpu
def test_cuda_graphs_give_the_same_samples_in_every_batch(generator):
    """Three batches of one size, then another size: recording, replaying from the first token, recording new graphs."""
    generator.cuda()
    graph, eager = (IndexSampler(generator, GUIDED, mode) for mode in ("graph", "eager"))
    for batch in range(4):
        labels, numbers = LABELS[: 5 - batch // 3].cuda(), NUMBERS[: 5 - batch // 3] + batch
        assert torch.equal(graph(labels, numbers), eager(labels, numbers))


def test_steps_are_eager_under_autocast_and_a_graph_is_refused(generator, monkeypatch):
    """A graph would use copies of the weights that autocast frees."""
    use_cpu_graphs(monkeypatch)
    automatic = IndexSampler(generator, GUIDED, "auto")
    with torch.autocast("cpu", torch.bfloat16):
        automatic(LABELS, NUMBERS)
        with pytest.raises(ValueError, match="mode=graph under autocast"):
            IndexSampler(generator, GUIDED, "graph")(LABELS, NUMBERS)
    assert automatic.graphs is None


def test_auto_records_graphs_on_a_gpu_unless_autocast_is_on(generator, monkeypatch):
    sampler, state = IndexSampler(generator, GUIDED), SimpleNamespace(load_=None)
    pick: Any = SimpleNamespace(seeds=SimpleNamespace(device=torch.device("cuda")))
    assert sampler._recordable(state, pick)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: device == "cuda")
    assert not sampler._recordable(state, pick)


def test_graphs_are_recorded_again_after_logits_that_are_not_finite(monkeypatch):
    use_cpu_graphs(monkeypatch)
    generator = real("parallel")
    graph, eager = (IndexSampler(generator, GUIDED, mode) for mode in ("graph", "eager"))
    weight = generator.head.output.weight.data
    correct = weight.clone()
    weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        graph(LABELS, NUMBERS)
    assert graph.graphs is None
    weight.copy_(correct)
    assert torch.equal(graph(LABELS, NUMBERS), eager(LABELS, NUMBERS))


def test_labels_are_read_on_the_host_twice_a_batch_and_tokens_never(monkeypatch):
    generator, read = real("parallel"), []
    to_list = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda tensor: (read.append(tuple(tensor.shape)), to_list(tensor))[1])
    IndexSampler(generator, GUIDED, "eager")(LABELS, NUMBERS)
    assert sorted(read) == [(2,), (2,), (5,)]  # two checks of the range of labels, and the sample numbers
