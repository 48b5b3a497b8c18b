"""Splits and classes from names: usual names of splits, folders of albums, a few images in no class, and folders one level too high."""

import logging

import pytest

from experiments.config.errors import DataError
from experiments.data.layout import layout_of


def layout(root, *names, val_share=0.2, evaluated="held_out"):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return layout_of(root, sorted(names), val_share, evaluated)


def warnings(caplog):
    return [record.args for record in caplog.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize("train", ["train", "Train", "training", "TRAINING"])
@pytest.mark.parametrize("val", ["val", "Valid", "validation", "VAL"])
def test_usual_names_of_splits_are_no_classes(tmp_path, train, val):
    found = layout(tmp_path, f"{train}/cat/a.png", f"{train}/dog/b.png", f"{val}/cat/c.png")
    assert (found.train, found.val) == ([f"{train}/cat/a.png", f"{train}/dog/b.png"], [f"{val}/cat/c.png"])
    assert (found.classes, found.which) == (["cat", "dog"], f"{val} folder")


def test_a_test_folder_beside_training_images_is_not_used(tmp_path, caplog):
    found = layout(tmp_path, *(f"train/cat/{number}.png" for number in range(5)), "test/cat/x.png")
    assert "test/cat/x.png" not in found.train + found.val
    assert len(warnings(caplog)) == 2  # the test image, and that there is one class


def test_a_test_folder_alone_is_evaluated(tmp_path):
    found = layout(tmp_path, "test/cat/a.png", "test/dog/b.png")
    assert (found.train, found.val, found.classes) == ([], ["test/cat/a.png", "test/dog/b.png"], ["cat", "dog"])


@pytest.mark.parametrize(
    "names",
    [
        ["ILSVRC/Data/CLS-LOC/train/cat/a.png", "ILSVRC/Data/CLS-LOC/val/b.png", "ILSVRC/Data/CLS-LOC/test/c.png"],
        ["ILSVRC/Data/CLS-LOC/train/cat/a.png", "thumb.png", "ILSVRC/Data/CLS-LOC/val/b.png"],
        ["ILSVRC/Data/CLS-LOC/Training/cat/a.png"],
    ],
)
def test_split_folders_deeper_in_a_folder_are_named_as_the_root(tmp_path, names):
    with pytest.raises(DataError) as caught:
        layout(tmp_path, *names)
    assert caught.value.key == "data.root"
    assert f"data.root={tmp_path}/ILSVRC/Data/CLS-LOC" in caught.value.reason


def test_the_deeper_of_two_folders_is_the_root_if_it_alone_has_splits(tmp_path):
    with pytest.raises(DataError) as caught:
        layout(tmp_path, "docs/x.png", "set/Training/x.png", "set/Testing/y.png")
    assert f"data.root={tmp_path}/set" in caught.value.reason


def test_splits_in_several_folders_are_refused_with_their_number(tmp_path):
    with pytest.raises(DataError, match="in a and in 1 other folders") as caught:
        layout(tmp_path, "a/train/x.png", "a/val/y.png", "b/train/x.png", "b/val/y.png")
    assert caught.value.key == "data.root"


@pytest.mark.parametrize("names", [("2019/train/a.png", "2019/beach/b.png", "2020/c.png"), ("2019/c.png", "2020/train/a.png")])
def test_an_album_of_trains_is_an_album(tmp_path, names):
    found = layout(tmp_path, *names, evaluated="all")
    assert found.classes == ["2019", "2020"]
    assert found.train == sorted(names)


def test_a_single_class_that_has_folders_is_a_warning_with_the_root_to_set(tmp_path, caplog):
    layout(tmp_path, "imagenet/n1/a.png", "imagenet/n2/b.png", "imagenet/n3/c.png", evaluated="all")
    assert warnings(caplog) == [(3, "imagenet", f"; if its 3 folders are the classes, set data.root={tmp_path / 'imagenet'}")]


@pytest.mark.parametrize("names", [["train/a.png", "training/b.png"], ["train/a.png", "val/b.png", "Validation/c.png"]])
def test_two_folders_for_one_split_are_refused(tmp_path, names):
    with pytest.raises(DataError, match="two folders for one split"):
        layout(tmp_path, *names)


def test_a_split_without_images_is_refused(tmp_path):
    (tmp_path / "val").mkdir()
    with pytest.raises(DataError, match="val/ has no images"):
        layout(tmp_path, "train/a.png", "train/b.png")


def test_evaluation_images_beside_images_of_no_split_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"2 images outside, such as cat/a\.png"):
        layout(tmp_path, "cat/a.png", "dog/b.png", "val/cat/c.png")


def test_a_few_images_in_no_class_are_left_out_and_counted(tmp_path, caplog):
    found = layout(tmp_path, "cat/1.png", "cat/2.png", "dog/3.png", "dog/4.png", "thumb.png", evaluated="all")
    assert found.classes == ["cat", "dog"]
    assert "thumb.png" not in found.train
    assert warnings(caplog) == [(1, 5, "thumb.png")]


def test_a_cover_beside_the_class_folders_of_training_costs_no_label(tmp_path, caplog):
    found = layout(tmp_path, "train/cat/1.png", "train/dog/2.png", "train/cover.png", "val/cat/3.png", "val/dog/4.png", "val/cover.png")
    assert found.classes == ["cat", "dog"]
    assert (found.train, found.val) == (["train/cat/1.png", "train/dog/2.png"], ["val/cat/3.png", "val/dog/4.png"])
    assert warnings(caplog) == [(1, 3, "train/cover.png"), (1, 3, "val/cover.png")]


def test_many_images_in_no_class_cost_the_labels_with_numbers(tmp_path, caplog):
    found = layout(tmp_path, "cat/1.png", "dog/2.png", *(f"{number:02}.png" for number in range(11)), evaluated="all")
    assert found.classes is None
    assert len(found.train) == 13
    assert warnings(caplog) == [(11, 13, "00.png, 01.png, 02.png")]


def test_flat_evaluation_images_have_no_labels_which_is_counted(tmp_path, caplog):
    found = layout(tmp_path, "train/cat/1.png", "train/dog/2.png", "val/3.png", "val/4.png")
    assert (found.classes, found.val) == (["cat", "dog"], ["val/3.png", "val/4.png"])
    assert warnings(caplog) == [(2, 2)]


def test_two_albums_of_one_image_each_are_split(tmp_path):
    found = layout(tmp_path, "A/x.png", "B/y.png")
    assert (found.classes, len(found.train), len(found.val)) == (["A", "B"], 1, 1)


@pytest.mark.parametrize("val_share", [0.05, 0.5, 1.0])
def test_every_class_that_can_have_a_training_image_has_one(tmp_path, val_share, caplog):
    found = layout(tmp_path, *(f"{album}/{number}.png" for album in range(10) for number in range(2)), val_share=val_share)
    assert {name[0] for name in found.train} == set("0123456789")
    assert found.val
    assert not warnings(caplog)


def test_classes_without_a_training_image_are_counted(tmp_path, caplog):
    found = layout(tmp_path, *(f"{album}/x.png" for album in range(10)), val_share=0.5)
    assert (len(found.train), len(found.val), len(found.classes)) == (9, 1, 10)
    assert [record[:2] for record in warnings(caplog)] == [(1, 10)]
