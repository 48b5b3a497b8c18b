"""Image folders: layouts, splits, crops, damaged files, fingerprints."""

import logging
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.config.errors import ConfigError, DataError
from experiments.data.files import check_root
from experiments.data.image_folder import ImageFolder
from experiments.data.layout import split
from experiments.data.source import NO_LABEL, Draw, Unreadable

PAPER = {"crop": "center", "flip": False, "train_crop_share": 1.0, "eval_crop_share": 0.875, "resampling": "bilinear"}
PAPER |= {"evaluated": "held_out"}


def folder(root, image_size=16, seed=0, val_share=0.2, max_unreadable=0.1, **options):
    return ImageFolder(str(root), image_size, seed, **(PAPER | options), val_share=val_share, max_unreadable=max_unreadable)


def write(path, color=(255, 0, 0), size=(24, 20)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)


def noise(path, size=(40, 30), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)


def keys(dataset):
    return [dataset.files.key(index) for index in range(len(dataset))]


def test_a_flat_folder_is_split_without_labels(tmp_path):
    for number in range(20):
        write(tmp_path / f"{number:02}.png")
    data = folder(tmp_path)
    assert data.classes is None
    assert sorted(keys(data.train) + keys(data.val)) == [f"{number:02}.png" for number in range(20)]
    assert keys(data.train) == sorted(keys(data.train))
    assert data.train[Draw(0, 0)].label == NO_LABEL


def test_imagenet_layout_has_labels_by_sorted_class_name(tmp_path):
    for name in ("train/dog/b.png", "train/cat/a.JPEG", "val/dog/c.png", "test/x.png"):
        write(tmp_path / name)
    data = folder(tmp_path)
    assert data.classes == ["cat", "dog"]
    assert keys(data.train) == ["train/cat/a.JPEG", "train/dog/b.png"]
    assert [data.train[Draw(0, index)].label for index in range(2)] == [0, 1]
    assert keys(data.val) == ["val/dog/c.png"]
    assert data.val[0].label == 1


def test_images_outside_train_and_val_are_logged(tmp_path, caplog):
    for name in ("train/a.png", "val/b.png", "extra/c.png"):
        write(tmp_path / name)
    folder(tmp_path)
    assert "1 images outside them are not used" in caplog.text


def test_a_train_folder_alone_is_split(tmp_path):
    for number in range(10):
        write(tmp_path / f"train/{number % 2}/{number}.png")
    data = folder(tmp_path)
    assert len(data.train) + len(data.val) == 10
    assert len(data.val) >= 1
    assert data.classes == ["0", "1"]


@pytest.mark.parametrize("place", ["{}.png", "train/{}.png"])
def test_all_images_of_a_folder_without_val_can_be_evaluated(place, tmp_path):
    for number in range(10):
        write(tmp_path / place.format(number))
    data, held_out = folder(tmp_path, evaluated="all"), folder(tmp_path)
    assert keys(data.val) == sorted(place.format(number) for number in range(10))
    assert len(held_out.val) < 10
    assert data.reference.startswith("image_folder: all images, ")
    assert held_out.reference.startswith("image_folder: held-out share 0.2, ")
    assert data.fingerprint() != held_out.fingerprint()


def test_a_val_folder_is_evaluated_even_if_all_images_are_requested(tmp_path):
    for name in ("train/a.png", "train/b.png", "val/c.png"):
        write(tmp_path / name)
    data = folder(tmp_path, evaluated="all")
    assert keys(data.val) == ["val/c.png"]
    assert data.reference.startswith("image_folder: val folder, ")


def test_a_val_folder_alone_can_be_evaluated(tmp_path):
    write(tmp_path / "val/cat/a.png")
    data = folder(tmp_path)
    assert (len(data.train), len(data.val), data.classes) == (0, 1, ["cat"])


def test_a_validation_class_without_training_images_is_named(tmp_path):
    write(tmp_path / "train/cat/a.png")
    write(tmp_path / "val/horse/a.png")
    with pytest.raises(DataError, match="horse"):
        folder(tmp_path)


def test_a_validation_folder_without_classes_has_no_labels(tmp_path):
    write(tmp_path / "train/cat/a.png")
    write(tmp_path / "val/a.png")
    data = folder(tmp_path)
    assert (data.classes, data.train[Draw(0, 0)].label, data.val[0].label) == (["cat"], 0, NO_LABEL)


def test_a_single_image_is_used_for_training_and_validation(tmp_path):
    write(tmp_path / "only.png", (0, 0, 255))
    for root in (tmp_path, tmp_path / "only.png"):
        data = folder(root)
        assert keys(data.train) == keys(data.val) == ["only.png"]
        assert data.val[0].image[:, 0, 0].tolist() == [0, 0, 255]


def test_the_split_follows_names_and_never_moves_old_files():
    names = [f"{number}.png" for number in range(200)]
    train, val = split(names, 0.25)
    assert not set(train) & set(val)
    assert 30 <= len(val) <= 70
    more = split(sorted([*names, *(f"new{number}.png" for number in range(50))]), 0.25)
    assert set(val) <= set(more[1])
    assert set(train) <= set(more[0])


@pytest.mark.parametrize("val_share", [1e-9, 1 - 1e-9])
def test_both_parts_of_a_split_have_an_image(val_share):
    assert [len(part) for part in split(["a", "b", "c"], val_share)] == ([2, 1] if val_share < 0.5 else [1, 2])


def test_links_are_followed_even_in_circles_and_hidden_files_are_not(tmp_path):
    write(tmp_path / "elsewhere/a.png")
    write(tmp_path / "root/.hidden.png")
    write(tmp_path / "root/b.png")
    (tmp_path / "root/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "root")
    (tmp_path / "root/notes.txt").write_text("no image")
    assert list(folder(tmp_path / "root").images) == ["b.png", "link/a.png"]


def test_roots_without_images_are_refused_by_name(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("nowhere", "empty"):
        with pytest.raises(DataError) as caught:
            folder(tmp_path / name)
        assert (caught.value.path, caught.value.key) == (str(tmp_path / name), "data.root")


def test_the_root_is_checked_without_torch(tmp_path):
    write(tmp_path / "a.png")
    code = f"import sys; from experiments.data.files import check_root; check_root({str(tmp_path)!r}); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    check_root(tmp_path / "a.png")


def test_training_crops_of_the_paper_show_the_whole_shorter_side(tmp_path):
    noise(tmp_path / "a.png", (32, 16))
    data = folder(tmp_path, image_size=16)
    expected = np.asarray(Image.open(tmp_path / "a.png"))[:, 8:24]
    assert np.array_equal(data.train[Draw(5, 0)].image.permute(1, 2, 0), expected)


def test_evaluation_crops_of_the_paper_are_tighter(tmp_path):
    noise(tmp_path / "a.png", (48, 18))  # floor(16 / 0.875) = 18: no resizing, only the crop
    data = folder(tmp_path, image_size=16)
    expected = np.asarray(Image.open(tmp_path / "a.png"))[1:17, 16:32]
    assert np.array_equal(data.val[0].image.permute(1, 2, 0), expected)


def test_random_crops_depend_on_the_draw_alone(tmp_path):
    noise(tmp_path / "a.png")
    options = {"crop": "random", "flip": True, "train_crop_share": 0.8}
    data, again = folder(tmp_path, **options), folder(tmp_path, **options)
    images = [data.train[Draw(epoch, 0)].image for epoch in range(6)]
    for epoch in reversed(range(6)):
        assert torch.equal(images[epoch], again.train[Draw(epoch, 0)].image)
    assert len({image.numpy().tobytes() for image in images}) == 6


def damaged(root, good=8):
    for number in range(good):
        write(root / f"train/{number}.png", (number, 0, 0))
        write(root / f"val/{number}.png")
    (root / "train/3a.jpg").write_text("text")
    (root / "train/3b.jpg").write_bytes(b"")
    (root / "val/5a.jpg").write_text("text")
    return folder(root)


def test_a_damaged_training_image_is_replaced_by_the_next_readable_one(tmp_path, caplog):
    data = damaged(tmp_path)
    assert keys(data.train)[4:6] == ["train/3a.jpg", "train/3b.jpg"]
    for _ in range(2):
        assert data.train[Draw(0, 4)].key == "train/4.png"
        assert data.train[Draw(0, 4)].image[0, 0, 0] == 4
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == 2
    assert "3a.jpg: cannot be read: not an image" in warned[0]
    assert "3b.jpg: cannot be read: an empty file" in warned[1]


def test_evaluation_omits_a_damaged_image(tmp_path):
    data = damaged(tmp_path)
    assert data.val[6] == Unreadable("val/5a.jpg")
    assert data.val[7].key == "val/6.png"


def test_a_broken_link_is_counted_as_a_damaged_image(tmp_path):
    write(tmp_path / "val/a.png")
    (tmp_path / "val/b.png").symlink_to(tmp_path / "gone.png")
    assert folder(tmp_path).val[1] == Unreadable("val/b.png")


def test_too_many_damaged_files_stop_the_run(tmp_path):
    for number in range(12):
        (tmp_path / "val").mkdir(exist_ok=True)
        (tmp_path / f"val/{number:02}.jpg").write_text("text")
        write(tmp_path / f"val/{number:02}.png")
    data = folder(tmp_path)
    with pytest.raises(DataError, match=r"11 of 24 files cannot be read.*data\.max_unreadable=0\.1"):
        list(data.val)
    tolerant = folder(tmp_path, max_unreadable=0.6)
    assert sum(isinstance(tolerant.val[index], Unreadable) for index in range(24)) == 12


def test_training_on_nothing_but_damaged_files_is_an_error_and_no_endless_search(tmp_path):
    (tmp_path / "a.jpg").write_text("text")
    (tmp_path / "b.jpg").write_text("text")
    with pytest.raises(DataError, match="none of the 1 training images"):
        folder(tmp_path).train[Draw(0, 0)]


def test_the_fingerprint_depends_on_names_content_and_options_but_not_on_the_root(tmp_path):
    for root in ("one", "two"):
        noise(tmp_path / root / "a.png", seed=1)
        noise(tmp_path / root / "b.png", seed=2)
    first = folder(tmp_path / "one").fingerprint()
    assert folder(tmp_path / "two", seed=3).fingerprint() == first
    assert folder(tmp_path / "one", flip=True).fingerprint() != first
    assert folder(tmp_path / "one", image_size=8).fingerprint() != first
    (tmp_path / "two/a.png").rename(tmp_path / "two/c.png")
    assert folder(tmp_path / "two").fingerprint() != first
    noise(tmp_path / "one/a.png", size=(60, 30))
    assert folder(tmp_path / "one").fingerprint() != first


@pytest.mark.parametrize(
    "options", [{"image_size": 0}, {"train_crop_share": 0.0}, {"eval_crop_share": 1.5}, {"val_share": 0.0}, {"max_unreadable": 1.1}]
)
def test_numbers_out_of_range_are_named(tmp_path, options):
    write(tmp_path / "a.png")
    name, value = next(iter(options.items()))
    with pytest.raises(ConfigError) as caught:
        folder(tmp_path, **options)
    assert (caught.value.key.removeprefix("data."), caught.value.value) == (name, value)
