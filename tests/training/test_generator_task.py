"""The generator's training step outside a trainer."""

import logging
import math
from types import SimpleNamespace

import pytest
import torch

from experiments.config.compose import compose
from experiments.config.errors import NonFinite
from experiments.tokens.cached import CachedTokens
from experiments.training.generator_task import GeneratorTask
from experiments.training.loop import make_task as task_of
from tests.tokens.made_caches import ABOUT, write_arrays, write_cache
from tests.training.made_models import GENERATOR, write_tokens
from tokenizer.interfaces import TokenBatch, TokenLayout


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_tokens(tmp_path_factory.mktemp("tokens") / "c.safetensors")


def make_task(file, *words: str) -> GeneratorTask:
    """A task outside a trainer, with the few things that it asks of one."""
    torch.manual_seed(0)
    task = task_of(compose("train", [*GENERATOR, f"data.file={file}", "generator.dropout=0", *words]).config)
    task.allocate(torch.device("cpu"))
    optimizer = task.configure_optimizers()
    wrapped = SimpleNamespace(optimizer=optimizer, step=optimizer.step, zero_grad=optimizer.zero_grad, param_groups=optimizer.param_groups)
    task._optimizers = lambda: [wrapped]
    task.manual_backward = lambda loss: loss.backward()
    task._trainer = SimpleNamespace(log_every_n_steps=10**6, world_size=1, loggers=[], global_rank=0)
    task._fabric = None
    return task


def batch(seed: int, count: int = 8) -> TokenBatch:
    random = torch.Generator().manual_seed(seed)
    indices, labels = torch.randint(16, (count, 4, 2), generator=random), torch.randint(3, (count,), generator=random)
    return TokenBatch(indices, labels, TokenLayout((2, 2)), [f"row {seed}.{i}" for i in range(count)])


def halves(whole: TokenBatch) -> list[TokenBatch]:
    count = len(whole.labels) // 2
    return [TokenBatch(whole.indices[part], whole.labels[part], whole.layout) for part in (slice(count), slice(count, None))]


def test_the_loss_is_the_sum_over_sub_tokens_of_the_mean_over_tokens(file):
    task = make_task(file)
    seen = []
    task.step = lambda terms: seen.append(float(terms["nll"])) or ([torch.zeros(())], torch.zeros(()))
    task.training_step(batch(0), 0)
    assert seen == pytest.approx([2 * math.log(16)], abs=1e-4)  # the head begins at zero


def test_parts_of_a_batch_make_the_same_step_as_the_whole(file):
    words = ["generator.class_dropout=0"]
    whole, parts = make_task(file, *words), make_task(file, "accumulate=2", *words)
    for update in range(3):
        whole.training_step(batch(update), update)
        for number, half in enumerate(halves(batch(update))):
            assert parts.updates == update
            parts.training_step(half, 2 * update + number)
    assert (whole.updates, parts.updates, parts.batches) == (3, 3, 6)
    for (name, a), b in zip(whole.state_dict().items(), parts.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4, msg=name)


def test_a_step_that_is_not_finite_changes_nothing(file):
    task = make_task(file)
    task.training_step(batch(0), 0)
    before = {name: value.clone() for name, value in task.state_dict().items()}
    nll = task.generator.nll
    task.generator.nll = lambda tokens: nll(tokens) * float("nan")
    task.training_step(batch(1), 1)
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())
    with pytest.raises(NonFinite, match=r"update 2: .*nll=nan.*row 1\.0"):
        task.finite.verify()


def test_groups_are_blocks_before_the_rest_and_only_tensors_of_two_dimensions_decay(file):
    task = make_task(file, "optimizer.weight_decay=0.3", "learning_rate=1.0e-3")
    groups = task.configure_optimizers().param_groups
    assert [group["weight_decay"] for group in groups] == [0.3, 0, 0.3, 0]
    assert [{p.ndim for p in group["params"]} for group in groups] == [{2}, {1}, {2}, {1}]
    assert set(groups[0]["params"] + groups[1]["params"]) == set(task.generator.blocks.parameters())
    assert set(groups[2]["params"] + groups[3]["params"]) == set(task.generator.parameters()) - set(task.generator.blocks.parameters())
    assert task.optimizer_settings[0].betas == (0.9, 0.95)


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_averaged_weights_are_kept_if_they_are_asked_for(file, decay):
    task = make_task(file, f"ema_decay={decay}", "learning_rate=0.1", "schedule=constant")
    task.training_step(batch(0), 0)
    first = next(task.generator.parameters())
    assert (task.average is None) == (decay == 0)
    assert (task.averaged is task.generator) == (decay == 0)
    assert torch.equal(next(task.averaged.parameters()), first) == (decay == 0)
    assert set(task.state_dict()) == {f"generator.{name}" for name in task.generator.state_dict()}


def test_class_dropout_is_a_function_of_seed_and_batch(file):
    twice = [make_task(file, "generator.class_dropout=0.5") for _ in range(2)]
    for number, task in enumerate(twice):
        torch.manual_seed(number)
        task.training_step(batch(0), 0)
    for (name, a), b in zip(twice[0].state_dict().items(), twice[1].state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_images_without_a_label_are_counted_at_the_start(file, tmp_path, caplog):
    arrays = write_cache(tmp_path / "whole")
    arrays["train/labels"][1:3] = -1
    write_arrays(tmp_path / "some", arrays, ABOUT)
    for name, expected in (("whole", []), ("some", [(2, 5, "train")])):
        task = make_task(file)
        task.source = CachedTokens(str(tmp_path / name), seed=0)
        caplog.clear()
        task.summarize()
        assert [record.args for record in caplog.records if record.levelno == logging.WARNING] == expected
