"""Files of somebody else: what they name is checked before it is imported, what they measure before it is allocated."""

import json
import sys

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import nn

from experiments.config.compose import compose
from experiments.config.errors import ConfigError, TesseraError
from experiments.config.origins import check_origins
from experiments.probing.candidates import _training_data
from experiments.runs.checkpoints import STATE, save_checkpoint
from experiments.runs.models import load_tokenizer
from experiments.tables.fields import check_settings
from tests.test_pretrained import by_hand
from tokenizer import fitting, pretrained

COMMAND = "experiments.config.command_line.run_process"


def run_folder(folder, tokenizer=None, data=None):
    """A run of the tokenizer made by hand, with another description."""
    model = by_hand()
    weights = dict(model.state_dict())
    own = {"updates": 2, "batches": 2, "seconds": 0.1, "average": weights}
    state = {f"tokenizer.{name}": value for name, value in weights.items()}
    checkpoint = {"state_dict": state, "optimizer_states": [], "lr_schedulers": [], "loops": {}, STATE: own}
    save_checkpoint(checkpoint, folder / "checkpoints" / "updates_00000002.ckpt")
    config = {"image_size": 16, "task": {"tokenizer": {**model.config(), **(tokenizer or {})}}, "data": data or {}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def export_folder(folder, change):
    """An export with another description, as an earlier version wrote it: without checksums."""
    by_hand().save_pretrained(folder)
    content = json.loads((folder / "config.json").read_text())
    change(content)
    for name in [name for name in content if "sha256" in name]:
        del content[name]
    (folder / "config.json").write_text(json.dumps(content))
    return folder


def test_a_run_folder_is_loaded_with_its_average_weights(tmp_path):
    model, _ = load_tokenizer(run_folder(tmp_path))
    assert fitting.digest_of_tensors(model.state_dict()) == fitting.digest_of_tensors(by_hand().state_dict())


@pytest.mark.parametrize(
    "target", [COMMAND, "tokenizer.pretrained.save", "os.system", "tokenizer.weights.weights_folder", "torch.nn.Identity", 5, "", ".."]
)
def test_a_run_folder_builds_modules_and_nothing_else(target, tmp_path):
    proof = tmp_path / "proof"
    folder = run_folder(tmp_path / "run", {"encoder": {"_target_": target, "command": ["touch", str(proof)]}})
    with pytest.raises(ConfigError) as caught:
        load_tokenizer(folder)
    assert (caught.value.key, caught.value.value) == ("tokenizer", str(folder))
    assert not proof.exists()


def test_nothing_is_imported_before_every_target_is_checked(monkeypatch):
    monkeypatch.delitem(sys.modules, "tokenizer.importers", raising=False)
    config = {"_target_": "tokenizer.importers.Some", "part": {"_target_": "subprocess.Popen"}}
    with pytest.raises(ValueError, match=r"subprocess\.Popen is outside tokenizer"):
        pretrained.require_modules(config, ("tokenizer",))
    assert "tokenizer.importers" not in sys.modules


def test_the_data_that_a_run_folder_records_is_one_of_ours(tmp_path):
    folder = run_folder(tmp_path, data={"_target_": COMMAND, "command": ["true"]})
    with pytest.raises(ConfigError) as caught:
        _training_data(folder, seed=0)
    assert caught.value.value == str(folder)


@pytest.mark.parametrize("target", [COMMAND, "experiments.runs.folder.RunFolder", "tokenizer.pretrained.save", "os.system", 5])
def test_a_configuration_builds_what_our_files_name_and_classes_of_the_library(target):
    check_origins(
        {"a": {"_target_": "experiments.training.trainer.trainer"}, "b": [{"_target_": "tokenizer.quantizers.vq.VectorQuantizer"}]}
    )
    with pytest.raises(ConfigError) as caught:
        check_origins({"b": [{"_target_": target}]}, "task")
    assert (caught.value.key, caught.value.value) == ("task.b.0._target_", target)


def test_plugins_are_named_on_the_command_line_alone(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "theirs.yaml").write_text("# @package _global_\nplugins: [subprocess]\n")
    with pytest.raises(ConfigError) as caught:
        compose("train", [f"--config-dir={tmp_path}", "experiment=theirs"])
    assert (caught.value.key, caught.value.value) == ("plugins", ["subprocess"])
    with pytest.raises(ConfigError) as caught:
        check_settings({"plugins": ["subprocess"]})
    assert caught.value.key == "plugins"


def set_argument(part, name, value):
    def change(content):
        content["model"][part][name] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        set_argument("quantizer", "codebook_size", 10**9),
        set_argument("quantizer", "codebook_size", 10**19),
        set_argument("encoder", "width", 2 * 10**8),
        set_argument("encoder", "layers", 10**4),
        set_argument("encoder", "multipliers", [1] * 10**5),
        set_argument("encoder", "multipliers", [1] * 4096),
        set_argument("decoder", "layers", 10**9),
        set_argument("quantizer", "codebook_size", "16"),
        set_argument("quantizer", "no_such", 1),
        set_argument("encoder", "_target_", 5),
        lambda content: content.pop("model"),
        lambda content: content.update(model=[content["model"]]),
        lambda content: content["model"].pop("decoder"),
        lambda content: content["model"].update(decoder=[]),
    ],
)
def test_a_description_that_does_not_fit_its_weights_is_refused_before_anything_is_allocated(change, tmp_path):
    folder = export_folder(tmp_path, change)
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z"):
        pretrained.load(folder)
    with pytest.raises(TesseraError):
        load_tokenizer(folder)


def test_a_size_is_refused_with_both_numbers():
    sizes = {"weight": torch.empty(2, 3)}
    with pytest.raises(ValueError, match=r"weight has the shape \[2, 3\], expected \[1000000000000, 3\]"):
        fitting.build_for(sizes, lambda: nn.Linear(3, 10**12, bias=False))
    with pytest.raises(ValueError, match=r"more than 506 modules .* 1 tensors"):
        fitting.build_for(sizes, lambda: nn.ModuleList(nn.Linear(1, 1) for _ in range(10**9)))


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.uint8, torch.float8_e4m3fn])
def test_weights_of_another_kind_of_number_are_refused(dtype, tmp_path):
    folder = export_folder(tmp_path, lambda content: None)
    weights = load_file(folder / "model.safetensors")
    name = next(iter(weights))
    save_file({**weights, name: weights[name].to(dtype)}, folder / "model.safetensors")
    with pytest.raises(ValueError, match=name):
        pretrained.load(folder)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(number, tmp_path):
    folder = export_folder(tmp_path, lambda content: None)
    weights = load_file(folder / "model.safetensors")
    name = next(iter(weights))
    weights[name].flatten()[0] = number
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ValueError, match=f"{name} has 1 numbers that are not finite"):
        pretrained.load(folder)


def test_an_export_of_an_earlier_version_is_loaded_with_a_warning(tmp_path, caplog):
    pretrained.load(export_folder(tmp_path, lambda content: None))
    assert any("no checksum" in message for message in caplog.messages)


def test_a_run_folder_in_place_of_an_export_gives_the_command_that_makes_one(tmp_path):
    folder = run_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"`python -m experiments.export run={folder}`"):
        pretrained.load(folder)
