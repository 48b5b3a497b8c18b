"""The contract of every generator in conf/generator with every head in conf/head, at a small size."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.config.compose import CONF
from tests.generators.small_generators import GROUPED, IMAGENET, batch_for, from_files, size_of
from tokenizer.interfaces import Generator
from tokenizer.layers.trunk import recompute_activations

NAMES = sorted(path.stem for path in (CONF / "generator").glob("*.yaml"))
HEADS = sorted(path.stem for path in (CONF / "head").glob("*.yaml"))
SMALL = {"width": 16, "depth": 2, "attention_heads": 2}
PUBLISHED = {"b": 111_085_824, "l": 343_174_144, "xl": 775_028_480, "xxl": 1_411_367_424}  # of LlamaGen with learned positions
every_generator = pytest.mark.parametrize("name", NAMES)
every_head = pytest.mark.parametrize("head", HEADS)


def make(name: str, head: str = HEADS[0]) -> Generator:
    torch.manual_seed(0)
    return from_files(name, head, GROUPED, SMALL).eval()


def trained(name: str, head: str = HEADS[0]) -> Generator:
    """With outputs that are not zero."""
    generator = make(name, head)
    for parameter in generator.parameters():
        if parameter.abs().max() == 0:
            torch.nn.init.normal_(parameter, std=0.3)
    return generator


def greedy(logits: Tensor, sub_token: int) -> Tensor:
    return logits.argmax(-1)


@every_generator
@every_head
def test_shapes_are_those_of_the_vocabulary_and_the_initial_loss_is_uniform(name, head):
    generator = make(name, head)
    batch = batch_for(GROUPED)
    assert math.prod(generator.heads) == GROUPED.codebook_size**GROUPED.groups
    assert generator.null_label == GROUPED.num_classes
    nll = generator.nll(batch)
    assert (nll.shape, nll.dtype) == ((3, 6, len(generator.heads)), torch.float32)
    torch.testing.assert_close(nll.sum(-1), torch.full((3, 6), 8 * math.log(8)), atol=1e-4, rtol=0)
    assert [part.shape for part in generator.logits(batch)] == [(3, 6, size) for size in generator.heads]
    assert generator.features(batch, generator.depth).shape == (3, 6, generator.width)


@every_generator
@every_head
def test_recomputed_activations_give_the_same_gradients(name, head):
    gradients = []
    for recompute in (False, True):
        generator = trained(name, head).train()
        recompute_activations(generator, recompute)
        torch.manual_seed(1)
        gradients.append(torch.autograd.grad(generator.nll(batch_for(GROUPED)).sum(), list(generator.parameters())))
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


@every_generator
@every_head
def test_nll_is_the_cross_entropy_of_the_logits(name, head):
    generator, batch = trained(name, head), batch_for(GROUPED)
    expected = [
        F.cross_entropy(part.movedim(-1, 1), batch.indices[..., number], reduction="none")
        for number, part in enumerate(generator.logits(batch))
    ]
    torch.testing.assert_close(generator.nll(batch), torch.stack(expected, -1), atol=1e-5, rtol=1e-5)


@every_generator
@every_head
def test_the_loss_reaches_every_parameter_that_a_batch_uses(name, head):
    generator, batch = trained(name, head), batch_for(GROUPED)
    generator.nll(batch).mean().backward()
    assert [name for name, parameter in generator.named_parameters() if parameter.grad is None or parameter.grad.abs().max() == 0] == []


@every_generator
@every_head
def test_steps_draw_all_tokens_and_rows_are_independent(name, head):
    generator = trained(name, head)
    labels = torch.tensor([0, 2, 3])
    together, alone = generator.start(labels), generator.start(labels[1:2])
    drawn: list[Tensor] = []
    while sum(part.shape[1] for part in drawn) < GROUPED.num_tokens:
        drawn.append(generator.step(together, greedy))
        torch.testing.assert_close(generator.step(alone, greedy), drawn[-1][1:2], atol=0, rtol=0)
    indices = torch.cat(drawn, 1)
    assert (indices.shape, indices.dtype) == ((3, 6, 8), torch.int64)
    assert indices.min() >= 0
    assert indices.max() < GROUPED.codebook_size
    assert not indices.requires_grad


@every_generator
def test_generating_stores_nothing_on_the_module(name):
    generator = trained(name)
    names = [set(vars(module)) for module in generator.modules()]
    generator.step(generator.start(torch.tensor([0])), greedy)
    assert [set(vars(module)) for module in generator.modules()] == names
    assert list(generator.buffers()) == []


@every_generator
@every_head
def test_reset_parameters_initializes_a_generator_built_on_the_meta_device(name, head):
    expected = make(name, head).state_dict()
    with torch.device("meta"):
        generator = make(name, head)
    generator.to_empty(device="cpu")
    for parameter in generator.parameters():
        torch.nn.init.constant_(parameter, math.nan)
    generator.reset_parameters()
    for key, value in generator.state_dict().items():
        assert value.std().item() == pytest.approx(expected[key].std().item(), rel=0.3), key
        assert value.mean().item() == pytest.approx(expected[key].mean().item(), abs=0.1), key


@every_generator
def test_a_saved_state_gives_the_same_loss(name):
    generator, other, batch = trained(name), make(name), batch_for(GROUPED)
    other.load_state_dict(generator.state_dict())
    assert torch.equal(other.nll(batch), generator.nll(batch))


@pytest.mark.parametrize(("size", "expected"), PUBLISHED.items())
@every_head
def test_a_published_size_has_the_published_number_of_parameters(size, expected, head):
    with torch.device("meta"):
        generator = from_files("ar", head, IMAGENET, size_of(size))
    assert sum(parameter.numel() for parameter in generator.parameters()) == expected
