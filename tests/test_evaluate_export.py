"""Evaluate a finished run on other images, export it to two plain files, and load the export."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from experiments import evaluate, export
from experiments.config.compose import compose, main
from experiments.config.errors import ConfigError
from experiments.config.packages import ROOT
from experiments.runs.folder import RunFolder
from experiments.runs.models import load_tokenizer
from experiments.training.loop import train
from tokenizer.image_tokenizer import ImageTokenizer

LINEAR = {"_target_": "tokenizer.layers.conv.ScaledConv2d", "in_channels": 1, "out_channels": 1, "kernel_size": 1}
PLAIN = ("val/psnr", "val/ssim", "val/codebook_usage", "val/perplexity", "val_raw/psnr")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> RunFolder:
    """Two updates with averaging that leaves the averaged weights far from the trained ones."""
    words = ["scale=smoke", "learning_rate=0.01", "schedule=constant", f"runs_folder={tmp_path_factory.mktemp('runs')}"]
    config = compose("train", words).config
    assert train(config, words, "test") == 0
    (path,) = (Path(config["runs_folder"]) / "test").iterdir()
    return RunFolder(path)


@pytest.fixture(scope="module")
def exported(finished) -> Path:
    assert export.run(compose("export", [f"run={finished.path}"])) == 0
    return finished.path / "export"


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(3, 3, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1


def evaluated(output: Path, *words: str) -> dict:
    assert evaluate.run(compose("evaluate", [f"output={output}", "workers=0", *words])) == 0
    return json.loads((output / "result.json").read_text())


def test_evaluating_a_run_on_its_own_data_repeats_its_numbers(finished, tmp_path):
    """To the same bits with training's batches; others round differently, and a latent between two codes may fall to the other."""
    result = evaluated(tmp_path, f"model={finished.path}", "batch_size=4")
    trained = {key: value for key, value in finished.result["metrics"].items() if key.startswith("val")}
    assert {*PLAIN} <= set(trained)
    assert result["metrics"] == trained
    assert trained["val/psnr"] != pytest.approx(trained["val_raw/psnr"], rel=1e-3)
    assert {card["subject"] for key, card in result["cards"].items() if key.startswith("val/")} == {"ema"}
    assert {card["subject"] for key, card in result["cards"].items() if key.startswith("val_raw/")} == {"raw"}
    assert result["cards"]["val/psnr"] == finished.result["cards"]["val/psnr"]


def test_evaluating_an_export_repeats_the_averaged_numbers_of_its_run(finished, exported, tmp_path):
    metrics = evaluated(tmp_path, f"model={exported}", "batch_size=4")["metrics"]
    assert metrics == {key: value for key, value in finished.result["metrics"].items() if key.startswith("val/")}


def test_a_run_without_a_tokenizer_and_data_without_images_are_one_message(finished, tmp_path):
    (tmp_path / "config.yaml").write_text("image_size: 16\ntask: {generator: {}}\n")
    with pytest.raises(ConfigError, match="it holds a generator"):
        evaluate.run(compose("evaluate", [f"model={tmp_path}", "data=photos", "workers=0"]))
    with pytest.raises(ConfigError, match="data=indices: expected images"):
        evaluate.run(compose("evaluate", [f"model={finished.path}", "data=indices", "data.file=nothing"]))


def test_one_image_can_be_evaluated(finished, tmp_path, capsys):
    """Results are stored in the run folder: under the same path for the same command, under a different one for a different image."""
    paths = [tmp_path / "cat.png", tmp_path / "dog.png"]
    for shade, path in enumerate(paths):
        Image.linear_gradient("L").resize((50, 40)).convert("RGB").point(lambda value, shade=shade: value // (shade + 1)).save(path)
    for path in (*paths, paths[0]):
        words = [f"model={finished.path}", "data=image_folder", f"data.root={path}", "image_size=32", "workers=0"]
        assert evaluate.run(compose("evaluate", words)) == 0
    assert "psnr" in capsys.readouterr().out
    folders = sorted((finished.path / "evaluations").iterdir())
    assert len(folders) == 2
    for folder in folders:
        assert sorted(path.name for path in folder.iterdir()) == ["images.png", "result.json"]
        result = json.loads((folder / "result.json").read_text())
        assert {card["n"] for key, card in result["cards"].items() if key.endswith("/psnr")} == {1}
        with Image.open(folder / "images.png") as sheet:
            assert sheet.width >= 128  # one image, enlarged


def test_the_table_of_a_flat_folder_counts_all_its_readable_images(finished, tmp_path):
    for number in range(12):
        Image.new("RGB", (40, 40), (20 * number, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "broken.png").write_text("text")
    words = [f"model={finished.path}", "data=image_folder", f"data.root={tmp_path}"]
    result = evaluated(tmp_path / "all", *words)
    assert {card["n"] for card in result["cards"].values()} == {12}
    assert result["unreadable"] == ["broken.png"]
    assert "all images" in result["cards"]["val/psnr"]["reference"]
    held_out = evaluated(tmp_path / "held_out", *words, "evaluated=held_out")
    assert held_out["cards"]["val/psnr"]["n"] < 12
    assert "held-out share 0.05" in held_out["cards"]["val/psnr"]["reference"]


def test_a_model_trained_further_is_evaluated_in_a_folder_of_its_own_and_a_repeated_run_forgets_all(finished, tmp_path):
    shutil.copytree(finished.path.parent, tmp_path / "test", ignore=shutil.ignore_patterns("evaluations"))
    folder = tmp_path / "test" / finished.path.name
    config = finished.config | {"runs_folder": str(tmp_path), "checkpoint_every": 1}
    words = [f"model={folder}", "data=digits", "image_size=32", "batch_size=512", "workers=0"]
    for _ in range(2):
        assert evaluate.run(compose("evaluate", words)) == 0
    (first,) = (folder / "evaluations").glob("*/result.json")
    checkpoint = max((folder / "checkpoints").iterdir())
    checkpoint.rename(checkpoint.with_name("updates_00000003.ckpt"))
    with zipfile.ZipFile(checkpoint.with_name("updates_00000003.ckpt"), "a") as file:
        file.comment = b"other bytes"
    assert evaluate.run(compose("evaluate", words)) == 0
    results = [json.loads(path.read_text()) for path in (folder / "evaluations").glob("*/result.json")]
    assert len({result["model"]["weights"] for result in results}) == len(results) == 2
    assert first.is_file()
    assert train(config | {"rerun": True}, [], "test") == 0
    assert not (folder / "evaluations").exists()


def test_exports_beside_each_other_are_evaluated_in_folders_of_their_own(exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        shutil.copytree(exported, tmp_path / "models" / name)
        assert evaluate.run(compose("evaluate", [f"model=models/{name}", "workers=0", "data=digits"])) == 0
    results = list((tmp_path / "runs" / "evaluations").rglob("result.json"))
    assert len(results) == 2


def test_an_export_needs_no_lightning_and_gives_the_same_bits(finished, exported, images, tmp_path):
    torch.save(images, tmp_path / "images.pt")
    code = (
        "import sys\n"
        "for name in ('lightning', 'hydra', 'omegaconf', 'wandb', 'experiments'): sys.modules[name] = None\n"
        "import torch\n"
        "from tokenizer.image_tokenizer import ImageTokenizer\n"
        "torch.set_num_threads(1)\n"
        f"model = ImageTokenizer.from_pretrained({str(exported)!r})\n"
        "with torch.no_grad():\n"
        f"    quantized, layout = model.encode(torch.load({str(tmp_path / 'images.pt')!r}))\n"
        f"    torch.save((quantized.indices, model.decode_indices(quantized.indices, layout)), {str(tmp_path / 'out.pt')!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    indices, reconstruction = torch.load(tmp_path / "out.pt")
    with torch.no_grad():
        expected = load_tokenizer(finished.path, "ema")[0](images)
    assert indices.shape == (3, 4 * 6, 16)
    assert torch.equal(indices, expected.quantizer.indices)
    assert torch.equal(reconstruction, expected.decoder.reconstruction)


def test_the_description_of_an_export_names_its_training_configuration(finished, exported):
    about = json.loads((exported / "config.json").read_text())
    tokens = {"codebook_size": 1024, "groups": 16, "num_tokens": 16, "grid": [4, 4], "kind": "raster", "num_classes": 0, "kept": []}
    made = {"image_size": 32, "run": finished.path.name, "weights": "ema"}
    assert about["trained_with"] == {**made, "tokens": tokens, "classes": None}
    assert about["model"] == finished.config["task"]["tokenizer"]


def test_trained_weights_can_be_exported_instead(finished, exported, tmp_path):
    assert export.run(compose("export", [f"run={finished.path}", "weights=raw", f"output={tmp_path}"])) == 0
    raw, ema = load_file(tmp_path / "model.safetensors"), load_file(exported / "model.safetensors")
    trained = load_tokenizer(finished.path, "raw")[0].state_dict()
    assert all(torch.equal(raw[name], value) for name, value in trained.items())
    assert not torch.equal(raw["encoder.stem.weight"], ema["encoder.stem.weight"])
    cards = evaluated(tmp_path / "evaluated", f"model={tmp_path}", "batch_size=4")["cards"]
    assert {card["subject"] for card in cards.values()} == {"raw"}
    assert json.loads((tmp_path / "config.json").read_text())["trained_with"]["weights"] == "raw"


@pytest.mark.parametrize(
    ("target", "arguments"),
    [
        ("os.system", {"command": "touch {marker}"}),
        ("tokenizer.pretrained.os.system", {"command": "touch {marker}"}),
        ("tokenizer.pretrained.save_file", {"tensors": {}, "filename": "{marker}"}),
        ("tokenizer.pretrained.save", {"module": LINEAR, "folder": "{marker}"}),
        ("tokenizer.files.write_text", {"path": "{marker}", "text": ""}),
    ],
)
def test_a_description_that_leads_outside_the_library_is_refused(target, arguments, exported, tmp_path):
    marker = tmp_path / "marker"
    shutil.copytree(exported, tmp_path / "export")
    file = tmp_path / "export" / "config.json"
    config = json.loads(file.read_text())
    arguments = {key: value.format(marker=marker) if isinstance(value, str) else value for key, value in arguments.items()}
    config["model"]["quantizer"] = {"_target_": target, **arguments}
    del config["sha256"]
    file.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"_target_ {target}"):
        ImageTokenizer.from_pretrained(tmp_path / "export")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("missing", "named"), [("model.safetensors", "has no model.safetensors"), ("config.json", "it has no config.yaml and no config.json")]
)
def test_an_export_that_lacks_a_file_is_one_message(missing, named, exported, tmp_path, monkeypatch, capsys):
    shutil.copytree(exported, tmp_path / "export")
    (tmp_path / "export" / missing).unlink()
    monkeypatch.setattr(sys, "argv", ["evaluate", f"model={tmp_path / 'export'}"])
    with pytest.raises(SystemExit):
        main("evaluate", evaluate.run, "")
    text = capsys.readouterr().err
    assert text.startswith("error: ")
    assert text.count("\n") == 1
    assert named in text
    assert str(tmp_path / "export") in text


def test_a_damaged_export_is_one_message(exported, tmp_path, monkeypatch, capsys):
    shutil.copytree(exported, tmp_path / "export")
    weights = tmp_path / "export" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    monkeypatch.setattr(sys, "argv", ["evaluate", f"model={tmp_path / 'export'}"])
    with pytest.raises(SystemExit):
        main("evaluate", evaluate.run, "")
    text = capsys.readouterr().err
    assert str(weights) in text
    assert text.count("\n") == 1


def test_weights_of_another_tokenizer_are_one_message(exported, tmp_path, monkeypatch, capsys):
    shutil.copytree(exported, tmp_path / "export")
    file = tmp_path / "export" / "config.json"
    config = json.loads(file.read_text())
    config["model"]["quantizer"]["codebook_size"] = 512
    del config["sha256"]
    file.write_text(json.dumps(config))
    monkeypatch.setattr(sys, "argv", ["evaluate", f"model={tmp_path / 'export'}"])
    with pytest.raises(SystemExit):
        main("evaluate", evaluate.run, "")
    text = capsys.readouterr().err
    assert f"{tmp_path / 'export' / 'model.safetensors'} does not fit config.json" in text
    assert text.count("\n") == 1
    assert "quantizer.codebook" in text


def test_a_verb_run_as_a_module_logs_its_output_path(finished, tmp_path):
    command = [sys.executable, "-m", "experiments.export", f"run={finished.path}", f"output={tmp_path / 'plain'}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert f"wrote {tmp_path / 'plain'}" in done.stderr
