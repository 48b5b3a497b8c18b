"""Allocation of models that were built on the meta device, and gradients of several processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from experiments.config.compose import CONF, compose
from experiments.config.packages import ROOT
from experiments.runs.build import build
from experiments.training import sharding
from experiments.training.optimizers import AdamW
from experiments.training.schedules import Constant
from experiments.training.sharding import clip_gradients, materialize, total_norm
from tests.generators.small_generators import GROUPED, PLAIN, from_files
from tests.training.small_task import batch, make_task
from tokenizer.image_tokenizer import ImageTokenizer
from tokenizer.interfaces import TokenBatch
from tokenizer.layers.llama import LlamaBlock
from tokenizer.layers.trunk import Trunk

SIZE = {"width": 16, "depth": 2, "attention_heads": 2}


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@pytest.fixture
def undefined_is_nan(monkeypatch):
    """Memory without defined values is filled with NaN, or with the smallest integer."""

    def to_empty(module, *, device, recurse=True):
        def fill(tensor):
            value = torch.empty_like(tensor, device=device)
            return value.fill_(torch.nan if value.is_floating_point() else torch.iinfo(value.dtype).min)

        return module._apply(fill, recurse=recurse)

    monkeypatch.setattr(nn.Module, "to_empty", to_empty)


def allocated(model: nn.Module, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    materialize(model, torch.device("cpu"), None)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        assert not tensor.is_meta, name
        assert torch.isfinite(tensor).all(), name
        assert tensor.is_floating_point() or (tensor > torch.iinfo(tensor.dtype).min).all(), name
    return model


def tokenizer_of(*words: str) -> ImageTokenizer:
    config = compose("train", ["scale=smoke", *words]).config["task"]["tokenizer"]
    with torch.device("meta"):
        return build(config)


@pytest.mark.parametrize("word", [f"{group}={name}" for group in ("quantizer", "backbone") for name in names(group)])
def test_every_tensor_of_every_tokenizer_gets_its_initial_value(word, undefined_is_nan):
    model, again = allocated(tokenizer_of(word)), allocated(tokenizer_of(word))
    for (name, value), other in zip(model.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(value, other), name
    side = 2 * model.encoder.downsample
    assert torch.isfinite(model.eval()(torch.zeros(1, 3, side, side)).decoder.reconstruction).all()


@pytest.mark.parametrize("head", names("head"))
@pytest.mark.parametrize("generator", names("generator"))
def test_every_tensor_of_every_generator_gets_its_initial_value(generator, head, undefined_is_nan):
    tokens = PLAIN if head == "depth" else GROUPED
    with torch.device("meta"):
        model = from_files(generator, head, tokens, SIZE)
    allocated(model)
    indices = torch.zeros(2, tokens.num_tokens, tokens.groups, dtype=torch.int64)
    assert torch.isfinite(model.nll(TokenBatch(indices, torch.zeros(2, dtype=torch.int64), tokens.layout))).all()


def test_initial_values_outside_of_blocks_do_not_depend_on_the_number_of_blocks():
    """They are drawn first, so that blocks can be allocated one at a time."""
    models = []
    for depth in (1, 3):
        with torch.device("meta"):
            models.append(from_files("ar", "parallel", PLAIN, {**SIZE, "depth": depth}))
        allocated(models[-1])
    short, long = (model.state_dict() for model in models)
    for name, value in short.items():
        assert torch.equal(value, long[name]), name


def test_groups_of_an_optimizer_hold_every_parameter_once():
    with torch.device("meta"):
        model = from_files("ar", "depth", PLAIN, SIZE)
    groups = AdamW(1e-3, (0.9, 0.99), 0.1, 1e-8, None, Constant(0)).groups(model)
    assert [len(group["params"]) > 0 for group in groups] == [True, True]
    assert sorted(id(p) for group in groups for p in group["params"]) == sorted(id(p) for p in model.parameters())
    in_blocks = {p for trunk in (model.blocks, model.head.blocks) for p in trunk.parameters()}
    assert set(groups[0]["params"]) == in_blocks


def test_norm_and_clipping_are_torchs():
    parameters = [nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.randn(5))]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    ours = [p.grad.clone() for p in parameters]
    norm = total_norm(ours)
    clip_gradients(ours, 0.5, norm)
    assert torch.equal(torch.nn.utils.clip_grad_norm_(parameters, 0.5), norm)
    assert all(torch.equal(mine, p.grad) for mine, p in zip(ours, parameters, strict=True))


def test_gradients_are_averaged_once_per_update_of_each_optimizer(monkeypatch):
    """Also where a batch is computed in parts; a real process group would divide by the number of its processes."""
    reduced = []
    monkeypatch.setattr(sharding, "is_distributed", lambda: True)
    monkeypatch.setattr(sharding, "world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda flat: reduced.append(len(flat)))
    monkeypatch.setattr(torch.distributed, "broadcast", lambda tensor, src: None)
    task = make_task("accumulate=2", "discriminator_start=1")
    for part in range(4):
        task.training_step(batch(part), part)
    tokenizer, discriminator = (sum(p.numel() for p in model.parameters()) for model in (task.tokenizer, task.discriminator))
    assert reduced == [tokenizer, tokenizer, discriminator]


def test_a_bucket_is_averaged_when_it_is_full(monkeypatch):
    sizes = []
    monkeypatch.setattr(sharding, "BUCKET", 10)
    monkeypatch.setattr(sharding, "is_distributed", lambda: True)
    monkeypatch.setattr(sharding, "world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda flat: sizes.append(len(flat)))
    parameters = [nn.Parameter(torch.zeros(size)) for size in (4, 6, 30, 2, 3)]
    for parameter in parameters[:-1]:
        parameter.grad = torch.ones_like(parameter)
    sharding.average_gradients(parameters)
    assert sizes == [10, 30, 2]
    assert all((parameter.grad == 0.5).all() for parameter in parameters[:-1])
    assert parameters[-1].grad is None


def test_a_model_of_three_billion_parameters_is_built_without_memory():
    with torch.device("meta"):
        trunk = Trunk([LlamaBlock(2304, 18, 0.0) for _ in range(46)])
    assert sum(parameter.numel() for parameter in trunk.parameters()) > 2.9e9
    assert all(parameter.is_meta for parameter in trunk.parameters())


PEAK = '''
import sys
from pathlib import Path

import torch
from torch.distributed.device_mesh import init_device_mesh

from experiments.training.sharding import materialize
from tokenizer.layers.llama import LlamaBlock
from tokenizer.layers.trunk import Trunk


def memory(name):
    """A line of /proc/self/status in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])


def trunk(width, depth):
    with torch.device("meta"):
        model = torch.nn.Module()
        model.blocks = Trunk([LlamaBlock(width, 8, 0.0) for _ in range(depth)])
        model.reset_parameters = model.blocks.reset_parameters
    return model


rank, file = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", init_method="file://" + file, rank=rank, world_size=2)
mesh = init_device_mesh("cpu", (2,))
materialize(trunk(64, 2), torch.device("cpu"), mesh)  # loads what is loaded once
model = trunk(1024, 16)
Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
before = memory("VmRSS")
materialize(model, torch.device("cpu"), mesh)
share = sum(parameter.to_local().nbytes for parameter in model.parameters())
block = sum(parameter.nbytes for parameter in model.blocks[0].parameters())
print(share, block, memory("VmHWM") - before)
torch.distributed.barrier()
torch.distributed.destroy_process_group()
'''


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs the peak memory that Linux counts")
def test_peak_memory_of_two_processes_is_their_share_and_one_block(tmp_path):
    # Without a fixed threshold, the C library keeps freed memory of the sizes that were freed before.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": str(2**16)}
    commands = [[sys.executable, "-c", PEAK, str(rank), str(tmp_path / "rendezvous")] for rank in (0, 1)]
    processes = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for command in commands]
    for process in processes:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        share, block, peak = map(int, output.split())
        assert share == 8 * block
        assert share <= peak <= share + 1.1 * block, (peak - share) / block
