from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from tests.generators.small_generators import CASES, GROUPED, LARGE, PLAIN, make_head
from tokenizer.generators import heads
from tokenizer.generators.heads import SubTokenHead

every_case = pytest.mark.parametrize("case", CASES)


def make(case: str) -> SubTokenHead:
    tokens, kind, bits = CASES[case]
    torch.manual_seed(0)
    head = make_head(kind, tokens, bits).eval()
    torch.nn.init.normal_(head.output.weight, std=0.5)
    return head


def drawn(head: SubTokenHead, rows: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    indices = torch.randint(head.tokens.codebook_size, (rows, head.tokens.groups), generator=generator)
    return torch.randn(rows, head.width, generator=generator), head.split(indices)


def test_an_index_is_split_into_its_most_significant_bits_and_the_rest():
    head = make_head("parallel", LARGE, [6, 12])
    assert head.sizes == (64, 4096)
    indices = torch.tensor([[0], [5], [(37 << 12) | 9], [2**18 - 1]])
    assert head.split(indices).tolist() == [[0, 0], [0, 5], [37, 9], [63, 4095]]
    assert torch.equal(head.join(head.split(indices)), indices)


@every_case
def test_joining_undoes_splitting(case):
    head = make(case)
    indices = torch.randint(head.tokens.codebook_size, (2, 3, head.tokens.groups), generator=torch.Generator().manual_seed(0))
    sub_tokens = head.split(indices)
    assert sub_tokens.shape == (2, 3, len(head.sizes))
    assert all(sub_tokens[..., s].max() < size for s, size in enumerate(head.sizes))
    assert torch.equal(head.join(sub_tokens), indices)


@pytest.mark.parametrize("bits", [[6, 11], [18, 0], [-1, 19], []])
def test_bits_that_are_not_those_of_an_index_are_refused(bits):
    with pytest.raises(ValueError, match=r"codebook_size=262144; change head\.bits"):
        make_head("parallel", LARGE, bits)


def test_bits_of_a_codebook_that_is_no_power_of_two_are_refused():
    with pytest.raises(ValueError, match="codebook_size=11"):
        make_head("depth", PLAIN, [1, 2])


def test_the_embedding_of_a_token_is_the_sum_of_its_parts():
    head = make("bits of groups in depth")
    table = head.embedding.weight
    torch.testing.assert_close(head.embed(torch.tensor([1, 3, 0, 2])), table[1] + table[2 + 3] + table[6 + 0] + table[8 + 2])


@every_case
def test_nll_is_the_cross_entropy_of_the_logits_in_value_and_gradient_and_no_large_logits_exist(case, monkeypatch):
    head = make(case)
    hidden, sub_tokens = drawn(head)
    hidden.requires_grad_()
    weights = torch.randn(sub_tokens.shape, generator=torch.Generator().manual_seed(2))
    plain = [F.cross_entropy(part, sub_tokens[:, s], reduction="none") for s, part in enumerate(head.logits(hidden, sub_tokens))]
    expected = torch.stack(plain, -1)
    inputs = [hidden, *head.parameters()]
    gradients = torch.autograd.grad((expected * weights).sum(), inputs, allow_unused=True)

    monkeypatch.setattr(heads, "MAX_LOGITS", 2 * max(head.sizes))
    with LargestTensor(head.sizes) as largest:
        nll = head.nll(hidden, sub_tokens)
        chunked = torch.autograd.grad((nll * weights).sum(), inputs, allow_unused=True)
    assert 0 < largest.elements <= heads.MAX_LOGITS < len(hidden) * max(head.sizes)
    assert nll.dtype == torch.float32
    torch.testing.assert_close(nll, expected, atol=1e-5, rtol=1e-5)
    for one, other in zip(gradients, chunked, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


class LargestTensor(TorchDispatchMode):
    """Size of the largest logits that a matrix product returned in this context."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.sizes = sizes
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if "mm" in str(func) and isinstance(out, torch.Tensor) and out.ndim == 2 and out.shape[1] in self.sizes:
            self.elements = max(self.elements, out.numel())
        return out


def test_nll_is_computed_in_full_precision_under_autocast():
    head = make("plain")
    hidden, sub_tokens = drawn(head)
    with torch.autocast("cpu", torch.bfloat16):
        nll = head.nll(hidden, sub_tokens)
        rounded = F.linear(hidden, head.output.weight)
    assert (nll.dtype, rounded.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(nll[:, 0], F.cross_entropy(rounded.double(), sub_tokens[:, 0], reduction="none").float())


@pytest.mark.parametrize("case", [case for case in CASES if "depth" in case])
def test_a_depth_head_predicts_each_sub_token_from_those_before_it(case):
    head = make(case)
    hidden, sub_tokens = drawn(head)
    before = head.logits(hidden, sub_tokens)
    for changed in range(len(head.sizes)):
        other = sub_tokens.clone()
        other[:, changed] = (other[:, changed] + 1) % head.sizes[changed]
        for number, (one, two) in enumerate(zip(before, head.logits(hidden, other), strict=True)):
            assert torch.equal(one, two) == (number <= changed)


def test_a_depth_head_processes_a_bounded_number_of_tokens_at_a_time(monkeypatch):
    """A batch of 256 images of 256 tokens is one sequence more than attention on a GPU accepts."""
    head = make("groups in depth")
    hidden, sub_tokens = drawn(head)
    whole = head.logits(hidden, sub_tokens)
    rows = []
    head.blocks[0].register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    monkeypatch.setattr(heads, "MAX_ROWS", 2)
    torch.testing.assert_close(head.logits(hidden, sub_tokens), whole, atol=1e-5, rtol=1e-5)
    assert rows == [2, 2, 1]


def test_parallel_heads_are_independent_of_the_sub_tokens():
    head = make("groups in parallel")
    hidden, sub_tokens = drawn(head)
    assert torch.equal(torch.cat(head.logits(hidden, sub_tokens), -1), torch.cat(head.logits(hidden, sub_tokens.flip(0)), -1))


@every_case
def test_sampling_computes_the_logits_given_the_previous_choices(case):
    head = make(case)
    hidden, sub_tokens = drawn(head, rows=6)
    seen = []

    def pick(logits: torch.Tensor, sub_token: int) -> torch.Tensor:
        seen.append(logits)
        return sub_tokens[:, sub_token].view(3, 2)

    with torch.no_grad():
        assert torch.equal(head.sample(hidden.view(3, 2, -1), pick), sub_tokens.view(3, 2, -1))
        for logits, expected in zip(seen, head.logits(hidden, sub_tokens), strict=True):
            torch.testing.assert_close(logits.flatten(0, 1), expected, atol=1e-5, rtol=1e-5)


def test_a_token_of_one_sub_token_needs_no_layers():
    assert [name for name, _ in make("plain with a depth head").named_parameters()] == ["embedding.weight", "output.weight"]
    assert len(make_head("depth", GROUPED).blocks) == 2


def test_a_depth_head_without_layers_is_refused():
    with pytest.raises(ValueError, match=r"head\.depth=0"):
        heads.DepthTransformer(GROUPED, 16, attention_heads=2, depth=0)


@pytest.mark.parametrize("kind", [heads.ParallelHeads, partial(heads.DepthTransformer, attention_heads=2)])
def test_bits_from_low_puts_the_least_significant_bits_first(kind):
    head = kind(LARGE, 16, bits=[6, 12], bits_from="low")
    indices = torch.tensor([[0], [5], [(37 << 6) | 9], [2**18 - 1]])
    assert head.sizes == (64, 4096)
    assert head.split(indices).tolist() == [[0, 0], [5, 0], [9, 37], [63, 4095]]
    assert torch.equal(head.join(head.split(indices)), indices)


@pytest.mark.parametrize(("bits", "bits_from", "named"), [(None, "low", "bits_from=low: no effect"), ([6, 12], "left", "bits_from=left")])
def test_an_order_of_bits_without_effect_or_meaning_is_refused(bits, bits_from, named):
    with pytest.raises(ValueError, match=named):
        heads.ParallelHeads(LARGE, 16, bits, bits_from)
