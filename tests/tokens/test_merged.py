"""Caches of a tokenizer that merges tokens: each view has a number of tokens and an assignment of cells to them."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from experiments import tokenize
from experiments.config import packages
from experiments.config.compose import compose
from experiments.config.errors import ConfigError, DataError
from experiments.data.digits import Digits
from experiments.data.loading import ImageData
from experiments.data.source import Draw
from experiments.data.transforms import normalize
from experiments.tokens.cache import TokenCache, read_header
from experiments.tokens.cached import CachedTokens
from experiments.tokens.writing import decode_row
from tests.merging_tokenizer import write_merging_tokenizer
from tests.tokens.made_caches import ABOUT, MERGED, write_arrays, write_cache, write_merged_cache
from tests.training.made_models import write_tokenizer
from tokenizer.interfaces import TokenSpec

VIEWS = ["flip=true", "num_tokens=[4,8]"]  # an image with 4 tokens, its mirror image with 8


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizers") / "merging"
    return folder, write_merging_tokenizer(folder)


@pytest.fixture
def command(exported, tmp_path, monkeypatch):
    """Function that tokenizes the digits and returns the cache."""
    monkeypatch.setattr(packages, "_plugins", {"tests": None})

    def run(*words: str, name: str = "cache", folder=exported[0]) -> TokenCache:
        fixed = [f"tokenizer={folder}", "data=digits", "image_size=32", "batch_size=300", "workers=0", f"output={tmp_path / name}"]
        assert tokenize.run(compose("tokenize", [*fixed, *words])) == 0
        return TokenCache(tmp_path / name)

    return run


def views_of(index: int, split: str = "train") -> torch.Tensor:
    """A digit and its mirror image."""
    images = getattr(Digits(32), split)
    image = normalize((images[Draw(0, index)] if split == "train" else images[index]).image)
    return torch.stack([image, image.flip(-1)])


def test_every_view_has_its_number_of_tokens_and_their_assignment(command, exported):
    cache, model = command(*VIEWS), exported[1]
    images = len(Digits(32).train)
    assert cache.array("train/indices").shape == (images, 2, 8, 2)
    assert cache.array("train/assignment").shape == (images, 2, 16)
    assert cache.array("train/assignment").dtype == np.uint8
    assert cache.array("val/indices").shape[1:] == (1, 8, 2)
    about = cache.header.about
    assert about["views"] == {"crops": "as_data", "passes": 1, "flip": True, "kept": [4, 8]}
    assert (about["tokens"]["num_tokens"], about["tokens"]["kept"], about["tokens"]["kind"]) == (8, [4, 8], "merged")
    assert (cache.header.token_counts("train"), cache.header.token_counts("val")) == ([4, 8], [4])
    for split, count in (("train", 2), ("val", 1)):
        indices, assignment = (cache.array(f"{split}/{name}")[3] for name in ("indices", "assignment"))
        for view, kept in enumerate([4, 8][:count]):
            with torch.no_grad():
                output, layout = model.encode(views_of(3, split)[view : view + 1], kept)
            np.testing.assert_array_equal(indices[view, :kept], output.indices[0])
            np.testing.assert_array_equal(assignment[view], layout.assignment[0])
            assert not indices[view, kept:].any()


def test_a_batch_has_the_assignment_and_the_sizes_of_its_rows(command, exported):
    """Its images are those of the encoder, whatever fills the rows of views with fewer tokens."""
    source, model = CachedTokens(str(command(*VIEWS).header.path), seed=0), exported[1]
    assert source.tokens == TokenSpec(16, 2, 8, (4, 4), "merged", 10, (4, 8))
    draws = [Draw(epoch, index) for epoch in range(3) for index in range(4)]
    batch = source.train.__getitems__(draws)
    views = [int(key.partition(".")[2]) for key in batch.keys]
    assert {*views} == {0, 1}
    assert (batch.layout.grid, batch.layout.kind) == ((4, 4), "merged")
    assert (batch.layout.assignment.dtype, batch.layout.token_sizes.dtype) == (torch.int64, torch.int64)
    indices = batch.indices.clone()
    with torch.no_grad():
        for row, (draw, view) in enumerate(zip(draws, views, strict=True)):
            kept = (4, 8)[view]
            expected = model(views_of(draw.index)[view : view + 1], kept)
            np.testing.assert_array_equal(batch.layout.assignment[row], expected.encoder.layout.assignment[0])
            np.testing.assert_array_equal(batch.layout.token_sizes[row, :kept], expected.encoder.layout.token_sizes[0])
            assert not batch.layout.token_sizes[row, kept:].any()
            indices[row, kept:] = 7  # padding
            image = model.decode_indices(indices, batch.layout)[row : row + 1]
            torch.testing.assert_close(image, expected.decoder.reconstruction)


def test_batches_of_a_loader_have_their_layout_in_every_reading_process(command):
    source = CachedTokens(str(command(*VIEWS).header.path), seed=0)
    whole, read = (list(ImageData(source, 200, seed=0, workers=workers).val_dataloader()) for workers in (0, 1))
    assert len(whole) > 1
    for left, right in zip(whole, read, strict=True):
        assert left.layout.assignment.shape == (len(left.keys), 16)
        assert torch.equal(left.layout.assignment, right.layout.assignment)
    empty = source.val.__getitems__([])
    assert (empty.layout.assignment.shape, empty.layout.token_sizes.shape) == ((0, 16), (0, 8))


def test_usage_is_that_of_the_tokens_without_their_padding(command, tmp_path):
    for split in ("train", "val"):
        (tmp_path / "images" / split).mkdir(parents=True)
        Image.linear_gradient("L").resize((32, 32)).rotate(90).convert("RGB").save(tmp_path / "images" / split / "0.png")
    cache = command("data=image_folder", f"data.root={tmp_path / 'images'}", "flip=true", "num_tokens=[1,2]")
    indices = cache.array("train/indices")[0]
    used = {*indices[0, 0], *indices[1].flatten()}
    assert indices[0, 1].tolist() == [0, 0]
    assert 0 not in used
    assert cache.header.about["splits"]["train"]["codebook_usage"] == pytest.approx(len(used) / 16)


def test_without_a_number_every_view_has_the_encoders_own_and_the_same_cache_as_with_it(command, caplog):
    own = command("flip=true")
    assert own.header.about["views"]["kept"] == [8, 8]
    written = own.header.path.stat().st_mtime_ns
    for words in ("num_tokens=8", "num_tokens=[8,8]"):
        with caplog.at_level("INFO", "experiments"):
            assert command("flip=true", words).header.path.stat().st_mtime_ns == written
    with pytest.raises(ConfigError, match="it is a cache of another tokens, views") as caught:
        command("flip=true", "num_tokens=4")
    assert caught.value.key == "output"
    other = command(*VIEWS, name="other").header
    swapped = command("flip=true", "num_tokens=[8,4]", name="swapped").header
    assert len({own.header.fingerprint, other.fingerprint, swapped.fingerprint}) == 3


@pytest.mark.parametrize(
    ("words", "value"),
    [(["num_tokens=[4,8]"], [4, 8]), (["flip=true", "num_tokens=[4,8,8]"], [4, 8, 8]), (["num_tokens=17"], 17), (["num_tokens=0"], 0)],
)
def test_a_wrong_list_of_numbers_is_one_error_and_leaves_no_file(command, words, value, tmp_path):
    with pytest.raises(ConfigError) as caught:
        command(*words)
    assert caught.value.key.startswith("num_tokens")
    assert caught.value.value == value
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_of_one_token_a_cell_has_no_other_number_and_no_assignment(command, tmp_path):
    write_tokenizer(tmp_path / "raster")
    header = command("num_tokens=16", folder=tmp_path / "raster").header
    assert [name for name in header.arrays if "assignment" in name] == []
    assert "kept" not in json.dumps(header.about)
    with pytest.raises(ConfigError) as caught:
        command("num_tokens=4", folder=tmp_path / "raster", name="other")
    assert (caught.value.key, caught.value.value) == ("num_tokens", 4)


def test_all_views_of_a_row_are_decoded(command, exported, capsys, tmp_path):
    cache = command(*VIEWS)
    assert tokenize.run(compose("tokenize", [f"inspect={cache.header.path}", "sample=3", f"output={tmp_path / 'sample.png'}"])) == 0
    rows = [[cell.strip() for cell in line.split("│")] for line in capsys.readouterr().out.splitlines()]
    bits = {row[1]: row[4:6] for row in rows if len(row) == 8}
    assert bits["train"] == ["4, 8", "88"]  # the mean of 4 x 2 x 4 + 16 x 2 and 8 x 2 x 4 + 16 x 3
    assert bits["val"] == ["4", "64"]
    model = exported[1]
    with torch.no_grad():
        expected = [model(views_of(3)[view : view + 1], kept).decoder.reconstruction for view, kept in enumerate((4, 8))]
    image = np.array(decode_row(model, cache, "train", 3))
    assert np.array_equal(image, np.array(Image.open(tmp_path / "sample.png")))
    last = (expected[1][0, :, -1, -1].clamp(-1, 1).numpy() + 1) * 127.5
    np.testing.assert_allclose(image[-3, -3], last, atol=1)


def test_cells_of_a_token_that_a_view_does_not_have_are_refused(tmp_path):
    arrays = write_merged_cache(tmp_path / "cache")
    assert CachedTokens(str(tmp_path / "cache"), seed=0).train[0].layout.assignment.max() == 1
    arrays["train/assignment"][0, 0, 3] = 2
    write_arrays(tmp_path / "cache", arrays, MERGED)
    train = CachedTokens(str(tmp_path / "cache"), seed=0).train
    assert train.token_counts.tolist() == [2, 4]
    with pytest.raises(DataError, match="assigns cells to tokens up to 2"):
        train[0]
    views = {train.view(Draw(epoch, 0)): Draw(epoch, 0) for epoch in range(9)}
    assert train[views[1]].layout.assignment.tolist() == [[0, 1, 2, 3]]


def test_a_file_of_version_1_is_read_and_is_the_same_data(tmp_path):
    write_cache(tmp_path / "new")
    content = (tmp_path / "new").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = {"tessera": json.dumps({**ABOUT, "version": 1})}
    text = json.dumps(header).encode()
    (tmp_path / "old").write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    new, old = (read_header(tmp_path / name) for name in ("new", "old"))
    assert (old.about["version"], old.fingerprint) == (1, new.fingerprint)
    assert torch.equal(*(CachedTokens(str(header.path), 0).train[2].indices for header in (new, old)))
