"""Images are tokenized to a cache with the indices of each view, and decoded from it."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from experiments import tokenize
from experiments.config.compose import compose
from experiments.config.errors import ConfigError, DataError, DiskFull
from experiments.config.packages import ROOT
from experiments.data.source import Draw
from experiments.data.transforms import normalize
from experiments.runs.build import build
from experiments.runs.model_folder import ModelFolder
from experiments.runs.models import digest_of
from experiments.tokens.cache import CacheWriter, TokenCache, read_header
from experiments.tokens.writing import output_file
from tests.tokens.made_caches import ABOUT

OVERRIDES = ["workers=0", "data=image_folder", "batch_size=3"]


def made_tokenizer(folder: Path, seed: int, weights: str = "ema"):
    """An untrained tokenizer of 8 pixels a token, exported."""
    config = compose("train", ["scale=smoke", "data=digits", "quantizer=gsq", "groups=2", "codebook_size=300"]).config
    torch.manual_seed(seed)
    model = build(config["task"]["tokenizer"]).eval()
    model.save_pretrained(folder, {"image_size": 32, "weights": weights})
    return model


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizers") / "export"
    return folder, made_tokenizer(folder, seed=0)


@pytest.fixture(scope="module")
def image_root(tmp_path_factory):
    """Root with four readable training images of two classes, two evaluation images, and a damaged file in each split."""
    root = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for name in ("train/ant/0", "train/ant/1", "train/bee/2", "train/bee/3", "val/ant/0", "val/bee/1"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(random.integers(256, size=(6, 8, 3)).astype(np.uint8))
        small.resize((64, 48), Image.Resampling.BICUBIC).save(root / f"{name}.png")
    (root / "train" / "bee" / "2a.png").write_text("text")
    (root / "val" / "ant" / "0a.png").write_text("text")
    return root


@pytest.fixture
def command(exported, image_root, tmp_path):
    """Function that tokenizes the images and returns the cache."""

    def run(*overrides: str, name: str = "cache.safetensors") -> TokenCache:
        all_overrides = [*OVERRIDES, f"tokenizer={exported[0]}", f"data.root={image_root}", f"output={tmp_path / name}", *overrides]
        assert tokenize.run(compose("tokenize", all_overrides)) == 0
        return TokenCache(tmp_path / name)

    return run


def source_of(image_root, *overrides: str):
    all_overrides = [*OVERRIDES, f"data.root={image_root}", "tokenizer=unused", "image_size=32", *overrides]
    return build(compose("tokenize", all_overrides).config["data"])


def indices_of(model, images):
    with torch.no_grad():
        return model.encode(normalize(images))[0].indices.numpy()


def test_a_cache_has_the_indices_of_every_view(command, exported, image_root, capsys):
    """Random crops in two passes, and their mirror images; the damaged file of each split is left out."""
    random_crops = ["data.crop=random", "data.train_crop_share=0.7"]
    cache = command(*random_crops, "passes=2", "flip=true")
    source, model = source_of(image_root, *random_crops), exported[1]
    assert cache.array("train/indices").shape == (4, 4, 16, 2)
    assert cache.array("train/indices").dtype == np.uint16
    for row, index in enumerate((0, 1, 2, 4)):
        views = [source.train[Draw(number, index)].image for number in range(2)]
        views += [view.flip(-1) for view in views]
        assert not torch.equal(views[0], views[1])
        np.testing.assert_array_equal(cache.array("train/indices")[row], indices_of(model, torch.stack(views)))
    readable = torch.stack([source.val[index].image for index in (0, 2)])
    np.testing.assert_array_equal(cache.array("val/indices")[:, 0], indices_of(model, readable))
    assert cache.array("train/labels").tolist() == [0, 0, 1, 1]
    assert cache.header.about["splits"]["train"]["left_out"] == ["train/bee/2a.png"]
    assert cache.array("val/labels").tolist() == [0, 1]
    printed = capsys.readouterr().out
    assert "train: 1 left out, could not be read: train/bee/2a.png" in printed
    assert "val: 1 left out, could not be read: val/ant/0a.png" in printed
    assert "2 classes, train + val: ant 2 + 1, bee 2 + 1" in printed


def test_the_header_has_the_fields_that_a_generator_needs(command, exported, image_root):
    about = command().header.about
    folder, model = exported
    assert about["tokens"] == {"codebook_size": 300, "groups": 2, "num_tokens": 16, "grid": [4, 4], "kind": "raster", "num_classes": 2}
    assert about["tokenizer"] == {"folder": str(folder), "digest": digest_of(model), "weights": "ema"}
    assert about["classes"] == ["ant", "bee"]
    assert about["data"]["fingerprint"] == source_of(image_root).fingerprint()
    assert "root" not in about["data"]["config"]
    assert about["splits"]["val"]["left_out"] == ["val/ant/0a.png"]


def test_usage_is_the_share_of_codes_that_some_view_has(command):
    cache = command()
    used = len(np.unique(cache.array("train/indices")))  # in either group, as everywhere
    assert cache.header.about["splits"]["train"]["codebook_usage"] == pytest.approx(used / 300)


def test_ten_crops_leave_out_what_cannot_be_read(command):
    cache = command("crops=ten_crop", "ten_crop_shares=[1.1,1.05]")
    assert cache.array("train/indices").shape == (4, 20, 16, 2)
    assert cache.array("train/labels").tolist() == [0, 0, 1, 1]
    assert cache.header.about["splits"]["train"]["left_out"] == ["train/bee/2a.png"]
    assert cache.header.about["views"] == {"crops": "ten_crop", "shares": [1.1, 1.05]}


def test_the_same_command_again_is_reported_and_another_one_keeps_off_the_file(command, tmp_path, caplog):
    path = command().header.path
    written = path.stat().st_mtime_ns
    with caplog.at_level("INFO", "experiments"):
        command()
    assert "is done; rerun=true repeats it" in caplog.text
    assert path.stat().st_mtime_ns == written
    with pytest.raises(ConfigError, match="it is a cache of another views"):
        command("flip=true")
    command("flip=true", "rerun=true")
    assert read_header(path).about["views"]["flip"] is True
    (tmp_path / "photo.png").write_text("mine")
    with pytest.raises(DataError) as caught:
        command(name="photo.png")
    assert (caught.value.path, caught.value.key) == (tmp_path / "photo.png", "output")


def test_a_cache_is_stored_in_the_run_folder_or_next_to_other_results_of_an_export(tmp_path):
    for name, file, place in (("run", "config.yaml", tmp_path / "run" / "tokens"), ("export", "config.json", Path("runs/tokens"))):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("{}")
        path = output_file(None, ModelFolder(tmp_path / name), ABOUT)
        assert path.is_relative_to(place)
        assert path != output_file(None, ModelFolder(tmp_path / name), {**ABOUT, "precision": "bf16"})


def test_inspecting_decodes_all_views_of_an_image(command, exported, tmp_path, capsys):
    cache = command("flip=true")
    config = compose("tokenize", [f"inspect={cache.header.path}", "sample=3", f"output={tmp_path / 'sample.png'}"])
    assert tokenize.run(config) == 0
    printed = capsys.readouterr().out
    assert "train/indices" in printed
    assert "4 x 2 x 16 x 2" in printed
    with torch.no_grad():
        indices = torch.from_numpy(cache.array("train/indices")[3].astype(np.int64))
        decoded = exported[1].decode_indices(indices, exported[1].tokens(32).layout).clamp(-1, 1)
    preview = np.array(Image.open(tmp_path / "sample.png"))
    assert preview.shape[1] == 2 * (4 * 32 + 2) + 2  # two views, enlarged four times, in frames of two pixels
    last = (decoded[1, :, -1, -1].numpy() + 1) * 127.5
    np.testing.assert_allclose(preview[-3, -3], last, atol=1)


def test_a_header_is_printed_without_torch_where_the_tokenizer_is_gone(command, exported, tmp_path):
    folder = tmp_path / "moved"
    shutil.copytree(exported[0], folder)
    path = command(f"tokenizer={folder}").header.path
    shutil.rmtree(folder)
    code = (
        "import sys; from experiments.config.compose import compose; from experiments.tokenize import run\n"
        f"assert run(compose('tokenize', ['inspect={path}'])) == 0\n"
        "assert 'torch' not in sys.modules"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert '"fingerprint"' in process.stdout
    assert f"the tokenizer {folder} does not exist" in process.stderr


def test_a_cache_is_decoded_by_no_other_tokenizer(command, tmp_path):
    path = command().header.path
    made_tokenizer(tmp_path / "other", seed=1)
    with pytest.raises(ConfigError, match="digest") as caught:
        tokenize.run(compose("tokenize", [f"inspect={path}", f"tokenizer={tmp_path / 'other'}"]))
    assert (caught.value.key, caught.value.value) == ("tokenizer", str(tmp_path / "other"))
    with pytest.raises(ConfigError, match=r"sample=4: expected .* 0 \.\. 3"):
        tokenize.run(compose("tokenize", [f"inspect={path}", "sample=4"]))


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["crops=ten_crop", "data=digits"], "crops"),
        (["crops=ten_crop", "data=image_folder", "data.root={image_root}", "flip=true"], "crops"),
        (["crops=ten_crop", "data=image_folder", "data.root={image_root}", "ten_crop_shares=[0.9]"], "ten_crop_shares.0"),
        (["crops=five_crop"], "crops"),
        (["passes=0"], "passes"),
        (["output={image_root}"], "output"),
        (["output={cache}/inner.safetensors"], "output"),
        (["seed=-1"], "seed"),
        (["weights=raw"], "weights"),
        (["data=image_folder", "data.root=/nowhere"], "data.root"),
        (["tokenizer=null"], "tokenizer"),
        (["tokenizer=null", "image_size=32"], "tokenizer"),
        (["tokenizer=null", "inspect=/nowhere"], "inspect"),
        (["data=indices", "data.file={cache}"], "data"),
    ],
)
def test_what_cannot_be_tokenized_is_one_error_with_its_key(exported, image_root, tmp_path, overrides, key):
    rows = {f"{split}/{name}": row for split in ("train", "val") for name, row in (("indices", ("U8", (1, 4, 2))), ("labels", ("I32", ())))}
    with CacheWriter(tmp_path / "cache", rows) as writer:
        writer.finish(ABOUT)
    all_overrides = [override.format(image_root=image_root, cache=tmp_path / "cache") for override in overrides]
    with pytest.raises((ConfigError, DataError)) as caught:
        tokenize.run(compose("tokenize", [f"tokenizer={exported[0]}", "workers=0", *all_overrides]))
    assert caught.value.key == key


def test_an_image_size_that_does_not_suit_the_tokenizer_is_refused(exported):
    with pytest.raises(ConfigError, match="image_size=36") as caught:
        tokenize.run(compose("tokenize", [f"tokenizer={exported[0]}", "workers=0", "data=digits", "image_size=36"]))
    assert caught.value.place == "tokenizer"


def test_only_a_cache_is_overwritten(command, tmp_path):
    path = tmp_path / "cache.safetensors"
    path.write_text("weights")
    with pytest.raises(ValueError, match="not a token cache"):
        command("rerun=true")
    assert path.read_text() == "weights"
    path.unlink()
    whole = command().header
    path.write_bytes(path.read_bytes()[:-9])
    assert command("rerun=true").header == whole


def test_data_of_which_nothing_can_be_read_leaves_no_file(exported, tmp_path):
    for part in ("train", "val"):
        (tmp_path / "images" / part).mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(tmp_path / "images/train/0.png")
    (tmp_path / "images/val/0.png").write_text("text")
    overrides = [*OVERRIDES, f"tokenizer={exported[0]}", f"data.root={tmp_path / 'images'}", f"output={tmp_path / 'caches' / 'one'}"]
    with pytest.raises(DataError, match=r"no val image can be read; left out: val/0\.png"):
        tokenize.run(compose("tokenize", overrides))
    assert list((tmp_path / "caches").iterdir()) == []


def test_a_disk_without_space_is_reported_in_advance(command, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 0))
    with pytest.raises(DiskFull) as caught:
        command()
    assert caught.value.needed > 1


def test_the_header_records_an_export_of_raw_weights(image_root, tmp_path):
    made_tokenizer(tmp_path / "raw", seed=0, weights="raw")
    overrides = [*OVERRIDES, f"tokenizer={tmp_path / 'raw'}", "weights=raw", f"data.root={image_root}", f"output={tmp_path / 'cache'}"]
    assert tokenize.run(compose("tokenize", overrides)) == 0
    assert read_header(tmp_path / "cache").about["tokenizer"]["weights"] == "raw"
