"""What a run folder and an export record of their model, and the errors of folders that are neither."""

import hashlib
import json
import subprocess
import sys

import pytest
import yaml

from experiments.config.errors import ConfigError
from experiments.config.packages import ROOT
from experiments.runs.model_folder import ModelFolder

TOKENS = {"codebook_size": 64, "groups": 2}
RECORD = {"folder": "runs/a", "digest": "abc", "weights": "ema"}


def made(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def run_of(folder, part="tokenizer", **environment):
    config = yaml.safe_dump({"image_size": 32, "task": {part: {}}})
    files = {"config.yaml": config, "environment.json": {"tokens": TOKENS, "classes": None, "cores": 2, **environment}}
    return made(folder, {**files, "checkpoints/updates_00000002.ckpt": "2", "checkpoints/updates_00000010.ckpt": "10"})


def export_of(folder, **trained_with):
    return made(folder, {"config.json": {"trained_with": {"image_size": 16, **trained_with}, "model": {}}, "model.safetensors": "export"})


def refused(folder, part="tokenizer") -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        ModelFolder(folder, "init_from").require(part)
    assert (caught.value.key, caught.value.value) == ("init_from", str(folder))
    return caught.value


def test_a_run_and_an_export_record_the_same_things(tmp_path):
    run, export = ModelFolder(run_of(tmp_path / "run")), ModelFolder(export_of(tmp_path / "export", weights="raw", tokens=TOKENS))
    assert (run.is_run, run.is_export, run.part, run.weights) == (True, False, "tokenizer", None)
    assert (export.is_run, export.is_export, export.part, export.weights) == (False, True, "tokenizer", "raw")
    assert run.trained_with == {"image_size": 32, "run": "run", "tokens": TOKENS, "classes": None}
    assert (run.setting("image_size"), export.setting("image_size")) == (32, 16)
    assert run.tokens == export.tokens == TOKENS
    for folder in (run, export):
        folder.require("tokenizer")


def test_a_generator_names_its_tokenizer(tmp_path):
    run, export = run_of(tmp_path / "run", "generator", tokenizer=RECORD), export_of(tmp_path / "export", tokenizer=RECORD)
    for folder in (run, export):
        assert ModelFolder(folder).part == "generator"
        assert ModelFolder(folder).tokenizer == RECORD
        assert "generator" in refused(folder).reason


def test_weights_are_known_by_what_they_are_and_not_by_where(tmp_path):
    def digest(text):
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    assert ModelFolder(run_of(tmp_path / "a")).weights_digest() == digest("10") == ModelFolder(run_of(tmp_path / "b")).weights_digest()
    assert ModelFolder(export_of(tmp_path / "c")).weights_digest() == digest("export")


def test_a_folder_without_a_model_is_refused_with_its_key(tmp_path):
    refused(tmp_path / "nowhere")
    refused(made(tmp_path / "photos", {"a.png": ""}))
    assert "no tokenizer and no generator" in refused(made(tmp_path / "neither", {"config.yaml": "task: {}"})).reason
    assert "checkpoint" in refused(made(tmp_path / "young", {"config.yaml": "task: {tokenizer: {}}"})).reason
    assert "model.safetensors" in refused(made(tmp_path / "torn", {"config.json": "{}"})).reason


@pytest.mark.parametrize(
    ("name", "text"),
    [("config.json", "not: [json"), ("config.json", "[]"), ("config.yaml", ""), ("config.yaml", "a: [b"), ("config.json", "[" * 99999)],
)
def test_a_damaged_file_is_named(tmp_path, name, text):
    assert name in refused(made(tmp_path, {name: text})).reason


def test_an_export_holds_no_other_weights_than_its_own(tmp_path):
    export_of(tmp_path / "export", weights="ema")
    ModelFolder(tmp_path / "export").require_weights("ema")
    with pytest.raises(ConfigError) as caught:
        ModelFolder(tmp_path / "export").require_weights("raw")
    assert (caught.value.key, caught.value.value) == ("weights", "raw")
    ModelFolder(run_of(tmp_path / "run")).require_weights("raw")


def test_a_setting_that_is_not_recorded_is_named(tmp_path):
    with pytest.raises(ConfigError, match="`seed`"):
        ModelFolder(run_of(tmp_path)).setting("seed")


def test_reading_a_folder_imports_no_torch():
    code = "import sys, experiments.runs.model_folder; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
