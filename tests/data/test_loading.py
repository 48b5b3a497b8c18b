"""The order of batches: endless, resumable by one number, the same for any number of processes and workers."""

import itertools
import traceback
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from experiments.config.errors import ConfigError, DataError, DiskFull
from experiments.data.digits import Digits
from experiments.data.image_folder import ImageFolder
from experiments.data.loading import EndlessSampler, ImageData, evaluation_batches, make_loader
from experiments.data.source import Draw, Unreadable, collate
from tokenizer.interfaces import ImageBatch


def batches(count=10, batch_size=4, seed=0, number=10, **options):
    return list(itertools.islice(EndlessSampler(count, batch_size, seed, **options), number))


def first(loader, number):
    return list(itertools.islice(loader, number))


def assert_same(left: ImageBatch, right: ImageBatch):
    assert left.keys == right.keys
    assert torch.equal(left.images, right.images)
    assert torch.equal(left.labels, right.labels)


@pytest.mark.parametrize(("count", "batch_size"), [(10, 4), (12, 4), (3, 8), (1, 2)])
def test_every_epoch_has_every_image_once_and_every_batch_is_full(count, batch_size):
    stream = batches(count, batch_size, number=4 * count)
    assert {len(batch) for batch in stream} == {batch_size}
    draws = list(itertools.chain(*stream))
    for epoch in range(4):
        assert draws[epoch * count : (epoch + 1) * count] != [Draw(epoch, index) for index in range(count)] or count < 4
        assert sorted(draw.index for draw in draws if draw.epoch == epoch) == list(range(count))


def test_epochs_and_seeds_have_different_orders():
    orders = [[draw.index for draw in EndlessSampler(50, 50, seed).__iter__().__next__()] for seed in (0, 1)]
    second_epoch = [draw.index for draw in batches(50, 50, 0, number=2)[1]]
    assert len({tuple(order) for order in (*orders, second_epoch)}) == 3


@pytest.mark.parametrize("consumed", [1, 3, 5, 7])  # batch 2 straddles the edge of the first epoch, batch 5 begins the third
def test_a_resumed_stream_continues_where_it_stopped(consumed):
    assert batches(number=10)[consumed:] == batches(number=10 - consumed, start=consumed)


def test_only_the_training_loader_has_persistent_workers():
    """Every validation creates a new loader, so persistent workers would not be reused."""
    data = ImageData(Digits(image_size=8), batch_size=4, seed=0, workers=1)
    assert data.train_dataloader().persistent_workers
    assert not data.val_dataloader().persistent_workers


def test_a_second_pass_over_the_stream_is_refused():
    sampler = EndlessSampler(10, 4, 0)
    next(iter(sampler))
    with pytest.raises(RuntimeError, match="no second pass"):
        next(iter(sampler))


@pytest.mark.parametrize("world", [2, 4])
def test_all_processes_together_draw_the_global_batch(world):
    alone = batches(number=6)
    parts = [batches(number=6, rank=rank, world=world) for rank in range(world)]
    for number, batch in enumerate(alone):
        mine = [part[number] for part in parts]
        assert {len(part) for part in mine} == {4 // world}
        assert sorted(itertools.chain(*mine), key=batch.index) == batch


def test_batches_that_do_not_split_are_refused_with_both_keys():
    with pytest.raises(ConfigError, match=r"batch_size=4: .* devices=3"):
        EndlessSampler(10, 4, 0, rank=0, world=3)
    with pytest.raises(ConfigError) as caught:
        ImageData(Digits(8), batch_size=0, seed=0)
    assert (caught.value.key, caught.value.value) == ("batch_size", 0)
    with pytest.raises(DataError, match=r"data\.root"):
        EndlessSampler(0, 4, 0)


@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize(("count", "batch_size"), [(10, 2), (9, 3), (7, 2), (2, 2)])
def test_validation_has_every_image_once_and_the_same_number_of_batches_on_every_rank(world, count, batch_size):
    parts = [evaluation_batches(count, batch_size, rank, world) for rank in range(world)]
    assert len({len(part) for part in parts}) == 1
    assert all(len(batch) <= batch_size for part in parts for batch in part)
    for rank, part in enumerate(parts):
        assert list(itertools.chain(*part)) == list(range(rank, count, world))


def folder_with_damage(root):
    for part in ("train", "val"):
        (root / part).mkdir()
        for number in range(7):
            Image.new("RGB", (40 + number, 30), (30 * number, 100, 0)).save(root / part / f"{number}.png")
        (root / part / "2a.jpg").write_text("text")
    return ImageFolder(str(root), 16, 0, "random", True, 0.8, 1.0, "bilinear", 0.1, "held_out", 0.1)


def test_workers_change_neither_order_nor_pixels(tmp_path, caplog):
    source = folder_with_damage(tmp_path)
    alone, helped = (ImageData(source, batch_size=3, seed=5, workers=workers) for workers in (0, 2))
    for left, right in zip(first(alone.train_dataloader(), 7), first(helped.train_dataloader(), 7), strict=True):
        assert_same(left, right)
    for left, right in zip(alone.val_dataloader(), helped.val_dataloader(), strict=True):
        assert_same(left, right)
        assert left.left_out == right.left_out
    assert sum("train/2a.jpg" in record.getMessage() for record in caplog.records) == 1


def test_damage_found_by_a_worker_is_shared_with_all_processes(tmp_path):
    source = folder_with_damage(tmp_path)
    first(ImageData(source, batch_size=4, seed=0, workers=2).val_dataloader(), 2)
    assert source.val.files.unreadable.tolist() == [False] * 3 + [True] + [False] * 4


@pytest.mark.parametrize("consumed", [1, 3])
def test_a_loader_that_starts_late_gives_the_later_batches(consumed):
    source = Digits(8)
    whole = first(ImageData(source, batch_size=600, seed=1).train_dataloader(), 5)  # an epoch has 1438: batch 2 straddles
    late = ImageData(source, batch_size=600, seed=1)
    late.start_batch = consumed
    for left, right in zip(whole[consumed:], first(late.train_dataloader(), 5 - consumed), strict=True):
        assert_same(left, right)


def test_two_processes_load_the_images_of_one():
    source = Digits(8)
    alone = first(ImageData(source, batch_size=6, seed=2).train_dataloader(), 3)
    ranks = []
    for rank in range(2):
        data = ImageData(source, batch_size=6, seed=2)
        data.trainer = SimpleNamespace(global_rank=rank, world_size=2)
        ranks.append(first(data.train_dataloader(), 3))
    for whole, left, right in zip(alone, *ranks, strict=True):
        assert len(left.keys) == len(right.keys) == 3
        assert sorted(left.keys + right.keys) == sorted(whole.keys)


@pytest.mark.parametrize("world", [1, 3])
def test_validation_loaders_cover_the_set_and_name_what_is_missing(tmp_path, world):
    source = folder_with_damage(tmp_path)
    seen, missing = [], []
    for rank in range(world):
        data = ImageData(source, batch_size=3, seed=0)
        data.trainer = SimpleNamespace(global_rank=rank, world_size=world)
        for batch in data.val_dataloader():
            assert len(batch.keys) == len(batch.images) == len(batch.labels)
            seen += batch.keys
            missing += batch.left_out
    assert sorted(seen) == [f"val/{number}.png" for number in range(7)]
    assert missing == ["val/2a.jpg"]


def test_a_batch_without_readable_images_is_empty_and_keeps_its_shape():
    batch = collate([Unreadable("a"), Unreadable("b")], image_size=16)
    assert batch.images.shape == (0, 3, 16, 16)
    assert batch.images.dtype == torch.uint8
    assert batch.labels.shape == (0,)
    assert (batch.keys, batch.left_out) == ([], ["a", "b"])
    assert batch.to("cpu").left_out == ["a", "b"]


def test_loading_leaves_the_global_random_numbers_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    first(ImageData(Digits(8), batch_size=4, seed=0).train_dataloader(), 2)
    assert torch.equal(torch.rand(1), expected)


def test_batches_hold_bytes():
    batch = first(ImageData(Digits(8), batch_size=4, seed=0).train_dataloader(), 1)[0]
    assert (batch.images.shape, batch.images.dtype, batch.labels.dtype) == ((4, 3, 8, 8), torch.uint8, torch.int64)


class Damaged:
    """Examples of which one cannot be read."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        if index == 2:
            raise self.error
        return index


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "error",
    [
        ConfigError("batch_size", 3, expected="an even number", place="a file"),
        DataError(Path("a.png"), "torn", "data.root"),
        DiskFull("a", "b", 7),
    ],
)
def test_an_error_of_a_reading_process_keeps_its_class_and_fields(error, workers):
    loader = iter(make_loader(Damaged(error), list, [[0, 1], [2, 3]], workers))
    assert next(loader) == [0, 1]
    with pytest.raises(type(error)) as caught:
        next(loader)
    assert type(caught.value) is type(error)
    assert vars(caught.value) == vars(error)
    assert str(caught.value) == str(error)


@pytest.mark.parametrize("workers", [0, 1])
def test_any_other_error_of_a_reading_process_keeps_its_traceback(workers):
    with pytest.raises(ZeroDivisionError) as caught:
        list(make_loader(Damaged(ZeroDivisionError("bug")), list, [[2]], workers))
    text = str(caught.value) if workers else "".join(traceback.format_exception(caught.value))
    assert "in __getitem__" in text
