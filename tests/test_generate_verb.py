"""From an exported generator and its tokenizer to images, an npz file and a result."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from experiments import generate
from experiments.config.compose import compose
from experiments.config.errors import ConfigError, DataError
from experiments.config.packages import ROOT
from experiments.evaluation.checks import select_classes
from experiments.evaluation.generate_job import GenerateJob
from experiments.evaluation.samples import describe_classes, draw_labels, generate_images, pixels
from experiments.runs.build import build
from experiments.runs.models import digest_of, load_generator, tokenizer_of
from tokenizer import pretrained
from tokenizer.generators.sampling import Guidance, Sampling
from tokenizer.image_tokenizer import ImageTokenizer
from tokenizer.interfaces import TokenSpec

NAMES = ["ant", "bee", "cat"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Path:
    """An exported generator with random weights everywhere, and the tokenizer that it was made with."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("pair")
    config = compose("train", ["scale=smoke", "quantizer=gsq", "groups=2", "codebook_size=16"]).config["task"]["tokenizer"]
    tokenizer: ImageTokenizer = build(config)
    tokens = tokenizer.tokens(16, len(NAMES))
    tokenizer.save_pretrained(folder / "tokenizer", {"image_size": 16})
    digest = digest_of(ImageTokenizer.from_pretrained(folder / "tokenizer"))
    described = {
        "_target_": "tokenizer.interfaces.TokenSpec", "codebook_size": 16, "groups": 2, "num_tokens": 4, "grid": [2, 2], "kind": "raster",
        "num_classes": 3,
    }  # fmt: skip
    assert tokens == TokenSpec(**{key: value for key, value in described.items() if key != "_target_"} | {"grid": (2, 2)})
    config = {
        "_target_": "tokenizer.generators.ar.AutoregressiveGenerator", "tokens": described, "width": 16, "depth": 1, "attention_heads": 2,
        "positions": "learned", "dropout": 0.0, "class_dropout": 0.1,
        "head": {"_target_": "tokenizer.generators.heads.ParallelHeads", "tokens": described, "width": 16, "bits": None},
    }  # fmt: skip
    generator = pretrained.build(config)
    for parameter in generator.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    recorded = {"folder": str(folder / "tokenizer"), "digest": digest, "weights": "ema"}
    about = {"image_size": 16, "weights": "ema", "tokens": {**described, "_target_": None}, "classes": NAMES, "tokenizer": recorded}
    pretrained.save(generator, folder / "generator", about)
    return folder


def generated(pair: Path, output: Path, *words: str) -> dict:
    assert generate.run(compose("generate", [f"model={pair / 'generator'}", f"output={output}", "device=cpu", *words])) == 0
    return json.loads((output / "result.json").read_text())


def refused(pair: Path, *words: str) -> ConfigError | DataError:
    with pytest.raises((ConfigError, DataError)) as caught:
        generate.run(compose("generate", [f"model={pair / 'generator'}", "device=cpu", *words]))
    return caught.value


def test_samples_of_chosen_classes_are_written_with_their_result(pair, tmp_path):
    result = generated(pair, tmp_path, "n=7", "classes=[2,ant]", "guidance=2.0", "batch_size=3", "seed=4")
    with np.load(tmp_path / "samples.npz") as file:
        images, labels = file["arr_0"], file["arr_1"]
    assert (images.dtype, images.shape) == (np.uint8, (7, 16, 16, 3))
    assert (labels.dtype, labels.tolist()) == (np.int64, [2, 0, 2, 0, 2, 0, 2])
    assert result["counts"] == {"ant": 3, "cat": 4}
    assert result["state"] == "done"
    assert result["tokens_per_second"] == pytest.approx(7 * 4 / result["seconds"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grid.png", "result.json", "samples.npz"]
    with Image.open(tmp_path / "grid.png") as sheet:
        assert sheet.width > 4 * 128  # a row a class, four cats
        assert 2 * 128 < sheet.height < 3 * 128
    generator, tokenizer = load_generator(pair / "generator")[0], tokenizer_of(pair / "generator")
    sampling = Sampling(guidance=Guidance(2.0), seed=4)
    batches = generate_images(generator, tokenizer, torch.from_numpy(labels), torch.arange(7), sampling, generator.tokens.layout, CPU, 7)
    ((_, expected),) = batches
    assert np.abs(pixels(expected).astype(int) - images).max() <= 1  # a convolution rounds by the size of its batch


def test_the_same_settings_again_are_reported_and_not_repeated(pair, tmp_path, caplog, monkeypatch):
    generated(pair, tmp_path, "n=2")
    files = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    with caplog.at_level("INFO"):
        generated(pair, tmp_path, "n=2", "batch_size=1")
    assert "holds these samples already" in caplog.text
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files
    generated(pair, tmp_path, "n=2", "rerun=true")
    assert all((tmp_path / name).stat().st_mtime_ns > time for name, time in files.items())
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        assert generate.run(compose("generate", [f"model={pair / 'generator'}", "n=1", "npz=false", f"seed={seed}"])) == 0
    folders = list((tmp_path / "runs" / "generations").glob("*/*/*"))
    assert len(folders) == 2
    assert {path.name for path in folders[0].iterdir()} == {"grid.png", "result.json"}


def test_half_precision_and_all_filters_are_settings(pair, tmp_path):
    plain = generated(pair, tmp_path / "plain", "n=4", "npz=false")
    words = ["precision=bf16", "temperature=0.7", "top_k=8", "top_p=0.9", "guidance=3", "guidance_schedule=step", "first_token=full"]
    assert generated(pair, tmp_path / "other", "n=4", "npz=false", *words)["identity"] != plain["identity"]


def test_a_classifier_evaluates_samples_where_inception_is_absent(pair, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path / "nothing"))
    with caplog.at_level("INFO"):
        result = generated(
            pair, tmp_path / "out", "n=20", "npz=false", "metrics=true", "data=digits", "guidance=1.5", "top_k=9", "workers=0"
        )
    assert 0 <= result["metrics"]["gen/class_accuracy"] <= 1
    card = result["cards"]["gen/class_accuracy"]
    assert (card["guidance"], card["classes"]) == ("1.5, top-k 9", "drawn uniformly from 3")
    assert "not computed: gen/gfid" in caplog.text
    with pytest.raises(FileNotFoundError, match="weights fetch inception"):
        generated(pair, tmp_path / "other", "metrics=true", "n=20")


def test_samples_have_a_distance_by_lite0_where_inception_is_absent(pair, tmp_path, monkeypatch):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path / "nothing"))
    monkeypatch.chdir(tmp_path)
    photos = generated(pair, tmp_path / "first", "n=20", "metrics=true", "workers=0", "data=photos")
    assert photos["metrics"]["gen/frechet_lite0"] > 1
    assert photos["cards"]["gen/frechet_lite0"]["reference"].startswith("photos: ")
    itself = generated(pair, tmp_path / "second", "n=20", "metrics=true", f"reference={tmp_path / 'first' / 'samples.npz'}")
    assert itself["metrics"] == {"gen/frechet_lite0": pytest.approx(0, abs=1e-3)}


@pytest.mark.slow
def test_samples_are_at_no_distance_from_themselves(pair, tmp_path, monkeypatch, random_weights):
    generated(pair, tmp_path / "first", "n=20")
    monkeypatch.chdir(tmp_path)
    result = generated(pair, tmp_path / "second", "n=20", "metrics=true", f"reference={tmp_path / 'first' / 'samples.npz'}")
    assert result["metrics"]["gen/gfid"] == pytest.approx(0, abs=1e-3)
    assert (result["metrics"]["gen/precision"], result["metrics"]["gen/recall"]) == (1, 1)
    assert result["cards"]["gen/gfid"]["n"] == 20


@pytest.mark.parametrize(
    ("overrides", "key", "value", "expected"),
    [
        (["classes=[3]"], "classes", 3, "a number from 0 to 2, or a name such as ant, bee, cat"),
        (["classes=cta"], "classes", "cta", "a number from 0 to 2, or a name such as ant, bee, cat"),
        (["classes=[]"], "classes", [], "at least one class, or null to draw them"),
        (["classes=[-1]"], "classes", -1, "a number from 0 to 2, or a name such as ant, bee, cat"),
        (["n=0"], "n", 0, "a number of at least 1"),
        (["n=4", "balanced=true"], "n", 4, "a multiple such as 3 or 6"),
        (["metrics=true", "n=3"], "n", 3, "at least 20"),
        (["tokenizer=nowhere"], "tokenizer", "nowhere", "a file or folder that exists"),
        (
            ["metrics=true", "n=20", "data=indices", "data.file=nothing"],
            "data",
            "indices",
            "images, such as data=image_folder data.root=FOLDER",
        ),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_expected(pair, tmp_path, monkeypatch, overrides, key, value, expected):
    monkeypatch.chdir(tmp_path)
    error = refused(pair, *overrides)
    assert (error.key, error.value, error.expected) == (key, value, expected)
    assert error.nearest == ("cat" if value == "cta" else "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("overrides", "word"),
    [
        (["temperature=0"], "temperature"),
        (["guidance_schedule=triangular"], "guidance_schedule"),
        (["weights=average"], "weights"),
        (["reference=nothing.npz"], "reference"),
        (["reference=nothing.npz", "metrics=true", "n=20"], "reference"),
        (["reference=/dev/zero", "metrics=true", "n=20"], "reference"),
        (["reference=/dev", "metrics=true", "n=20"], "reference"),
        (["metrics=true", "n=20", "workers=-1"], "workers"),
        (["metrics=true", "n=20", "data=digits", "image_size=32"], "image_size"),
        (["weights=raw"], "weights"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(pair, tmp_path, monkeypatch, overrides, word):
    monkeypatch.chdir(tmp_path)
    error = refused(pair, *overrides)
    assert error.key == word or error.reason.startswith(f"{word}=")  # the library's own settings have no keys
    assert list(tmp_path.iterdir()) == []


def test_what_needs_no_torch_is_checked_without_it(pair, tmp_path):
    """A tokenizer that is not there, and metrics without the one network that they need."""
    command = "import sys; from experiments import generate; from experiments.config import compose\n"
    command += "try: generate.run(compose.compose('generate', sys.argv[1:]))\n"
    command += "except Exception as error: print(error, 'torch' in sys.modules)"
    for words, message in {("tokenizer=nowhere",): "tokenizer=nowhere", ("metrics=true", "n=20"): "weights fetch inception"}.items():
        environment = {**os.environ, "TESSERA_WEIGHTS": str(tmp_path)}
        given = [sys.executable, "-c", command, f"model={pair / 'generator'}", *words]
        printed = subprocess.run(given, capture_output=True, text=True, env=environment, cwd=ROOT, check=True).stdout
        assert message in printed
        assert printed.rstrip().endswith("False")


def test_nothing_but_its_own_samples_is_overwritten(pair, tmp_path):
    generated(pair, tmp_path / "samples", "n=1", "npz=false")
    error = refused(pair, "n=2", "npz=false", f"output={tmp_path / 'samples'}")
    assert (error.key, error.reason) == ("output", "it holds other samples")
    assert generated(pair, tmp_path / "samples", "n=2", "npz=false", "rerun=true")["settings"]["n"] == 2
    run = tmp_path / "run"
    run.mkdir()
    (run / "result.json").write_text('{"state": "done"}')
    error = refused(pair, "n=1", f"output={run}", "rerun=true")
    assert (error.key, error.reason) == ("output", "it holds something else, not samples")
    assert [path.name for path in run.iterdir()] == ["result.json"]
    assert refused(pair, "n=1", f"output={run / 'result.json'}").key == "output"


def test_a_folder_that_holds_no_generator_is_refused(pair):
    with pytest.raises(ConfigError) as caught:
        generate.run(compose("generate", [f"model={pair / 'tokenizer'}"]))
    assert (caught.value.key, caught.value.value) == ("model", str(pair / "tokenizer"))


def test_another_tokenizer_is_refused(pair, tmp_path):
    other = ImageTokenizer.from_pretrained(pair / "tokenizer")
    torch.nn.init.normal_(next(other.parameters()))
    other.save_pretrained(tmp_path / "other", {"image_size": 16})
    assert refused(pair, f"tokenizer={tmp_path / 'other'}", f"output={tmp_path / 'out'}").key == "tokenizer"
    assert not (tmp_path / "out").exists()


def test_labels_are_drawn_by_seed_and_number_or_taken_in_turn():
    drawn = draw_labels(3000, None, 3, seed=0)
    assert torch.bincount(drawn).tolist() == pytest.approx([1000] * 3, abs=90)
    assert torch.equal(draw_labels(10, None, 3, seed=0), drawn[:10])
    assert not torch.equal(draw_labels(30, None, 3, seed=1), drawn[:30])
    assert draw_labels(5, [4, 2], 6, seed=0).tolist() == [4, 2, 4, 2, 4]
    assert draw_labels(2, None, 0, seed=0).tolist() == [0, 0]


def test_a_model_exported_without_averages_needs_no_word_about_it(pair, tmp_path):
    shutil.copytree(pair / "generator", tmp_path / "generator")
    file = tmp_path / "generator" / "config.json"
    description = json.loads(file.read_text())
    description["trained_with"]["weights"] = "raw"
    del description["sha256"]
    file.write_text(json.dumps(description))
    words = [f"model={tmp_path / 'generator'}", "device=cpu", "n=1", "npz=false"]
    for more in ([], ["weights=raw"]):
        assert generate.run(compose("generate", [*words, *more, f"output={tmp_path / f'out{len(more)}'}"])) == 0


def test_samples_are_compared_with_the_content_of_a_folder_wherever_it_is(pair, tmp_path):
    """Metrics of a folder that has been moved are there already; those of one with another image are not."""

    def identity(folder: Path, *words: str) -> str:
        words = (f"model={pair / 'generator'}", "n=20", "device=cpu", "data=image_folder", f"data.root={folder}", *words)
        return GenerateJob(compose("generate", [*words]).settings).identity

    for number in range(40):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(np.full((16, 16, 3), number, dtype=np.uint8)).save(tmp_path / "images" / f"{number}.png")
    first = identity(tmp_path / "images", "metrics=true")
    assert identity(tmp_path / "images" / ".", "metrics=true") == first
    shutil.copytree(tmp_path / "images", tmp_path / "copy")
    assert identity(tmp_path / "copy", "metrics=true") == first
    Image.new("RGB", (16, 16)).save(tmp_path / "images" / "40.png")
    assert identity(tmp_path / "images", "metrics=true") != first


@pytest.mark.parametrize(
    ("n", "classes", "num_classes", "expected"),
    [
        (50, None, 10, "drawn uniformly from 10"),
        (50, list(range(10)), 10, "10 of 10 in turn, 5 of each"),
        (7, [2, 0], 10, "2 of 10 in turn, 3 or 4 of each"),
        (7, None, 0, "none"),
    ],
)
def test_a_card_states_how_classes_were_chosen(n, classes, num_classes, expected):
    assert describe_classes(n, classes, num_classes) == expected


def test_there_is_nothing_to_balance_without_classes():
    assert select_classes(None, balanced=True, n=5, count=0, names=[]) is None
    assert select_classes(None, balanced=True, n=6, count=3, names=[]) == [0, 1, 2]


def test_who_takes_samples_keeps_the_gradients_of_its_own(pair):
    generator, tokenizer = load_generator(pair / "generator")[0], tokenizer_of(pair / "generator")
    batches = generate_images(generator, tokenizer, torch.zeros(2).long(), torch.arange(2), Sampling(), generator.tokens.layout, CPU, 1)
    assert [(torch.is_grad_enabled(), images.requires_grad) for _, images in batches] == [(True, False)] * 2
