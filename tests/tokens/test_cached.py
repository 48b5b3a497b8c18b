"""Cached tokens are loaded in the order of images: endless, resumable, with a new random view in every epoch."""

import itertools
import pickle

import numpy as np
import pytest
import torch

from experiments.config.errors import DataError
from experiments.data.loading import ImageData
from experiments.data.source import Draw
from experiments.tokens.cache import CacheWriter
from experiments.tokens.cached import CachedTokens
from tests.tokens.made_caches import ABOUT, CLASSES, TOKENS, write_cache
from tokenizer.interfaces import TokenBatch, TokenLayout, TokenSpec


@pytest.fixture
def made(tmp_path):
    path = tmp_path / "cache.safetensors"
    return str(path), write_cache(path, images=50)


def first(loader, number):
    return list(itertools.islice(loader, number))


def assert_same(left: TokenBatch, right: TokenBatch):
    assert left.keys == right.keys
    assert torch.equal(left.indices, right.indices)
    assert torch.equal(left.labels, right.labels)


def test_a_source_describes_its_tokens(made):
    source = CachedTokens(made[0], seed=0)
    assert source.tokens == TokenSpec(16, 2, 4, (2, 2), "raster", 3)
    assert (source.classes, source.image_size, len(source.train), len(source.val)) == (CLASSES, 16, 50, 2)


def test_a_batch_has_the_rows_and_views_that_its_keys_name(made):
    file, arrays = made
    source = CachedTokens(file, seed=4)
    batch = source.train.__getitems__([Draw(1, 7), Draw(1, 3), Draw(2, 7)])
    assert (batch.indices.dtype, batch.labels.dtype, batch.layout) == (torch.int64, torch.int64, TokenLayout((2, 2), "raster"))
    for number, (key, draw) in enumerate(zip(batch.keys, [Draw(1, 7), Draw(1, 3), Draw(2, 7)], strict=True)):
        row, _, view = key.removeprefix("train#").partition(".")
        assert int(row) == draw.index
        np.testing.assert_array_equal(batch.indices[number], arrays["train/indices"][int(row), int(view)])
        assert batch.labels[number] == int(row) % 3


def test_all_views_are_used_and_differ_between_epochs_and_seeds(made):
    draws = [Draw(epoch, index) for epoch in range(2) for index in range(50)]
    views = [[key.partition(".")[2] for key in CachedTokens(made[0], seed).train.__getitems__(draws).keys] for seed in (0, 1)]
    assert {*views[0]} == {"0", "1", "2"}
    assert views[0][:50] != views[0][50:]
    assert views[0] != views[1]


def test_validation_has_every_row_once_in_order(made):
    file, arrays = made
    batches = list(ImageData(CachedTokens(file, 0), batch_size=3, seed=0).val_dataloader())
    np.testing.assert_array_equal(torch.cat([batch.indices for batch in batches]), arrays["val/indices"][:, 0])
    assert [key for batch in batches for key in batch.keys] == ["val#0.0", "val#1.0"]


def test_a_resumed_stream_continues_with_the_same_batches(made):
    source = CachedTokens(made[0], seed=1)
    whole = first(ImageData(source, batch_size=20, seed=1).train_dataloader(), 6)  # batch 2 straddles two epochs
    late = ImageData(source, batch_size=20, seed=1)
    late.start_batch = 2
    for left, right in zip(whole[2:], first(late.train_dataloader(), 4), strict=True):
        assert_same(left, right)


def test_readers_change_nothing_and_another_process_opens_the_file_itself(made):
    source = CachedTokens(made[0], seed=1)
    pairs = [first(ImageData(source, batch_size=20, seed=1, workers=workers).train_dataloader(), 3) for workers in (0, 1)]
    for left, right in zip(*pairs, strict=True):
        assert_same(left, right)
    sent = pickle.dumps(source.train)
    assert len(sent) < 4000  # no array in it
    assert_same(pickle.loads(sent)[Draw(0, 3)], source.train[Draw(0, 3)])


def test_an_empty_batch_keeps_its_shape(made):
    """A process may have no validation row left when the others do."""
    batch = CachedTokens(made[0], seed=0).val.__getitems__([])
    assert (batch.indices.shape, batch.labels.shape) == ((0, 4, 2), (0,))


@pytest.mark.parametrize("label", [3, -2])
def test_labels_out_of_range_are_refused(tmp_path, label):
    rows = {f"{split}/{name}": row for split in ("train", "val") for name, row in (("indices", ("U8", (1, 4, 2))), ("labels", ("I32", ())))}
    with CacheWriter(tmp_path / "cache", rows) as writer:
        writer.append("val/labels", np.array([label]))
        writer.append("val/indices", np.zeros((1, 1, 4, 2)))
        writer.finish(ABOUT)
    with pytest.raises(DataError, match=rf"val labels are in {label} \.\. {label}, expected -1 or a class below 3"):
        CachedTokens(str(tmp_path / "cache"), seed=0)


def test_an_index_that_is_no_code_is_refused_before_it_reaches_a_model(tmp_path):
    write_cache(tmp_path / "cache", about={**ABOUT, "tokens": {**TOKENS, "codebook_size": 5}})
    source = CachedTokens(str(tmp_path / "cache"), seed=0)
    with pytest.raises(DataError, match=r"train has an index 1\d, expected less than 5; the file is damaged"):
        source.train.__getitems__([Draw(0, index) for index in range(5)])
