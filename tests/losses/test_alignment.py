"""Semantic regularization: its value, what it trains, and what it refuses."""

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from experiments import export
from experiments.config.compose import compose
from experiments.config.errors import ConfigError
from experiments.runs.build import build
from experiments.runs.checkpoints import STATE, load_checkpoint
from experiments.runs.folder import RunFolder
from experiments.training.loop import build_task, train
from experiments.training.tokenizer_task import TokenizerTask
from tokenizer.interfaces import TokenizerOutput, TokenLayout, TrainingPass
from tokenizer.losses.alignment import SemanticRegularizationLoss
from tokenizer.weights import MissingWeightsError

GRID = (2, 3)
HYBRID = ("backbone=hybrid_1d", "transformer@encoder_size=mini_s", "transformer@decoder_size=mini_s", "multipliers=[1,1,1]")


def images(seed: int = 0) -> Tensor:
    return torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def passed(features: Tensor, pixels: Tensor) -> TrainingPass:
    """A pass of a decoder whose block 3 has these features."""
    decoder, encoder = SimpleNamespace(features={"block3": features}), SimpleNamespace(layout=TokenLayout(GRID))
    return TrainingPass(pixels, TokenizerOutput(encoder, SimpleNamespace(), decoder), 1)


@pytest.fixture
def loss(tmp_path, monkeypatch) -> SemanticRegularizationLoss:
    """The loss of the network of the package, with a projector that changes nothing."""
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path))
    made = SemanticRegularizationLoss("lite0", 3, "bicubic")
    made.projector = nn.Identity()
    return made


def small_task(*words: str) -> TokenizerTask:
    config = compose("train", ["scale=smoke", "codebook_size=64", "loss.weights.alignment=0.5", *words]).config
    task = build_task(config, build(config["data"], "data"))
    assert isinstance(task, TokenizerTask)
    return task


def test_the_loss_is_minus_one_if_the_features_are_those_of_the_teacher_up_to_scale(loss):
    target = loss.teacher.network.tokens(images() / 2 + 0.5, GRID)
    assert target.shape == (2, 6, 112)
    scales = torch.rand(2, 6, 1, generator=torch.Generator().manual_seed(1)) * 5 + 0.1
    assert loss(None, passed(scales * target, images())).item() == pytest.approx(-1, abs=1e-6)
    assert loss(None, passed(-scales * target, images())).item() == pytest.approx(1, abs=1e-6)
    assert loss(None, passed(scales * target, images(5))).item() > -0.99


def test_the_loss_is_the_mean_cosine_of_every_cell(loss):
    features = torch.randn(2, 6, 112, generator=torch.Generator().manual_seed(2))
    target = loss.teacher.network.tokens(images() / 2 + 0.5, GRID)
    cosines = [
        float(one @ other / (one.norm() * other.norm())) for one, other in zip(features.flatten(0, 1), target.flatten(0, 1), strict=True)
    ]
    assert loss(None, passed(features, images())).item() == pytest.approx(-sum(cosines) / len(cosines), abs=1e-5)


def test_a_map_is_read_like_the_tokens_of_its_cells(loss):
    features = torch.randn(2, 6, 112, generator=torch.Generator().manual_seed(3))
    as_map = features.transpose(1, 2).unflatten(2, GRID)
    assert loss(None, passed(as_map, images())).item() == loss(None, passed(features, images())).item()


def test_the_features_get_a_gradient_and_the_teacher_gets_none(loss):
    features = torch.randn(2, 6, 112, generator=torch.Generator().manual_seed(4)).requires_grad_()
    pixels = images().requires_grad_()
    loss(None, passed(features, pixels)).backward()
    assert (features.grad.abs().sum(2) > 0).all()
    assert pixels.grad is None
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in loss.teacher.network.parameters())
    assert not any("teacher" in name for name in (*loss.state_dict(), *dict(loss.named_parameters())))


def test_the_loss_is_in_fp32_under_autocast(loss):
    features = torch.randn(2, 6, 112, generator=torch.Generator().manual_seed(2))
    expected = loss(None, passed(features, images()))
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(None, passed(features.bfloat16(), images()))
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected.item(), abs=0.01)


@pytest.mark.parametrize(
    ("words", "layer", "grid", "width"),
    [(("backbone=conv",), 2, (4, 4), 32), ((*HYBRID, "patch_size=1"), 1, (8, 8), 64)],
    ids=["map", "tokens"],
)
def test_the_teacher_has_the_cells_of_the_decoder_and_the_projector_its_width(words, layer, grid, width):
    task = small_task(*words, f"loss.inner.alignment.layer={layer}")
    alignment = task.objective.inner["alignment"]
    sizes = [tuple(each.weight.shape) for each in alignment.projector if isinstance(each, nn.Linear)]
    assert sizes == [(4 * width, width), (4 * width, 4 * width), (112, 4 * width)]
    assert any(each is alignment.projector[0].weight for group in task.configure_optimizers()[0].param_groups for each in group["params"])
    task.allocate(torch.device("cpu"))
    grids, tokens = [], alignment.teacher.network.tokens
    alignment.teacher.network.tokens = lambda pixels, cells: grids.append(cells) or tokens(pixels, cells)
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    output = task.tokenizer(pixels, taps=task.objective.taps)
    terms = task.objective.inner_terms(task.tokenizer, TrainingPass(pixels, output, 1))
    terms["alignment"].backward()
    assert grids == [grid]
    assert -1 <= terms["alignment"].item() <= 1
    assert all(each.grad.abs().sum() > 0 for each in alignment.projector.parameters())
    assert any(each.grad is not None and each.grad.abs().sum() > 0 for each in task.tokenizer.encoder.parameters())


@pytest.mark.parametrize(("layer", "expected"), [(3, "1 to 2"), (99, "1 to 2")])
def test_a_block_that_does_not_exist_is_refused(layer, expected):
    with pytest.raises(ConfigError) as caught:
        small_task("backbone=conv", f"loss.inner.alignment.layer={layer}")
    assert caught.value.key == "loss.weights.alignment"
    assert f"taps={layer}, expected a block of the decoder, {expected}" in caught.value.reason


def test_a_layer_below_one_and_an_unknown_teacher_are_refused():
    for setting, expected in (("layer=0", "at least 1"), ("network=vgg16", "lite0"), ("resize=nearest", "bicubic")):
        with pytest.raises(ConfigError, match=expected) as caught:
            small_task("backbone=conv", f"loss.inner.alignment.{setting}")
        assert caught.value.key.endswith(f"alignment.{setting.partition('=')[0]}")


def test_a_block_of_another_resolution_than_the_tokens_is_refused():
    with pytest.raises(ConfigError) as caught:
        small_task("backbone=conv", "patch_size=4", "loss.inner.alignment.layer=3")
    assert "block 3 of the decoder has 8 x 8 cells, expected 4 x 4" in caught.value.reason


def test_an_absent_teacher_is_named_with_the_option_that_does_without(tmp_path, monkeypatch):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path))
    with pytest.raises(MissingWeightsError, match=r"fetch clip_dfn`.*loss\.weights\.alignment=0 does without it") as caught:
        small_task("backbone=conv", "loss.inner.alignment.network=clip_dfn")
    assert caught.value.name == "clip_dfn"


@pytest.mark.slow
def test_checkpoints_have_the_projector_and_neither_averages_nor_exports_nor_checkpoints_have_the_teacher(tmp_path):
    words = ["scale=smoke", "codebook_size=64", "data.cuts_per_picture=1", "discriminator=none", *HYBRID, "patch_size=1"]
    words += ["loss.weights.alignment=0.5", "loss.inner.alignment.layer=2", f"runs_folder={tmp_path / 'runs'}"]
    assert train(compose("train", words).config, words, "test") == 0
    (path,) = (tmp_path / "runs" / "test").iterdir()
    state = load_checkpoint(RunFolder(path).checkpoint_files[-1])
    projector = [f"objective.inner.alignment.projector.{layer}.{kind}" for layer in (0, 2, 4) for kind in ("weight", "bias")]
    assert [name for name in state["state_dict"] if name.startswith("objective.")] == projector
    assert state[STATE]["average"].keys() == {name.removeprefix("tokenizer.") for name in state["state_dict"]} - set(projector)
    moments = [tuple(each["exp_avg"].shape) for each in state["optimizer_states"][0]["state"].values()]
    assert moments[-6:] == [(256, 64), (256,), (256, 256), (256,), (112, 256), (112,)]
    assert export.run(compose("export", [f"run={path}"])) == 0
    assert load_file(path / "export" / "model.safetensors").keys() == state[STATE]["average"].keys()
