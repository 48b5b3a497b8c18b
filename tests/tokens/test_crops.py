"""Ten crops are torchvision's, of a square that is cut as the papers cut it; drawn views are what training draws."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import TenCrop

from experiments.config.errors import ConfigError
from experiments.data.digits import Digits
from experiments.data.image_folder import ImageFolder
from experiments.data.source import Draw, Unreadable
from experiments.tokens.crops import EvaluationViews, TenCropViews, ten_crop, training_views


def make_image_folder(root, size=16):
    random = np.random.default_rng(0)
    for part, count in (("train", 3), ("val", 2)):
        (root / part / "ant").mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(256, size=(40 + 7 * number, 90, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / part / "ant" / f"{number}.png")
    (root / "train" / "ant" / "1a.png").write_text("text")
    return ImageFolder(str(root), size, 0, "random", True, 0.8, 1.0, "bilinear", 0.1, "held_out", 0.1)


@pytest.mark.parametrize(("side", "size"), [(20, 16), (17, 16), (21, 16), (16, 16)])
def test_ten_crops_are_torchvisions_in_their_order(side, size):
    image = torch.randint(256, (3, side, side), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    assert torch.equal(ten_crop(image, size), torch.stack(TenCrop(size)(image)))


def test_crops_come_from_the_middle_square_of_the_resized_image(tmp_path):
    """Against Pillow's own halving and bicubic filter, which ADM's evaluation calls; int(16 * 1.3) = 20 pixels, 40 -> 20 by a box alone."""
    source = make_image_folder(tmp_path)
    views = training_views(source, {"crops": "ten_crop", "shares": [1.3, 1.0]})
    example = views[0]
    assert (views.views, len(views), example.key, example.label) == (20, 4, "train/ant/0.png", 0)
    halved = Image.open(tmp_path / "train/ant/0.png").reduce(2)
    square = torch.from_numpy(np.array(halved))[:, 12:32].permute(2, 0, 1)
    assert halved.size == (45, 20)
    torch.testing.assert_close(example.image[0].int(), square[:, :16, :16].int(), atol=1, rtol=0)
    torch.testing.assert_close(example.image[3].int(), square[:, 4:, 4:].int(), atol=1, rtol=0)
    assert torch.equal(example.image[5:10], example.image[[1, 0, 3, 2, 4]].flip(-1))
    assert all(torch.equal(crop, example.image[10]) for crop in example.image[10:15])  # the second square is no larger than a crop


def test_a_side_is_rounded_down_as_by_llamagen(tmp_path):
    assert TenCropViews(make_image_folder(tmp_path).train.files, 256, [1.1, 1.05]).sides == [281, 268]


@pytest.mark.parametrize("views", [{"crops": "ten_crop", "shares": [1.1]}, {"crops": "as_data", "passes": 2, "flip": False}])
def test_an_unreadable_image_has_no_views_although_training_replaces_it(views, tmp_path):
    source = make_image_folder(tmp_path)
    assert training_views(source, views)[2] == Unreadable("train/ant/1a.png")
    assert training_views(source, views)[3].key == source.train[Draw(0, 2)].key == "train/ant/2.png"


def test_drawn_views_are_those_of_trainings_passes_then_their_mirror_images(tmp_path):
    source = make_image_folder(tmp_path)
    views = training_views(source, {"crops": "as_data", "passes": 3, "flip": True})
    image = views[1].image
    assert views.views == len(image) == 6
    for number in range(3):
        assert torch.equal(image[number], source.train[Draw(number, 1)].image)
        assert torch.equal(image[3 + number], image[number].flip(-1))
    assert not torch.equal(image[0], image[1])


def test_evaluation_images_have_one_view(tmp_path):
    source = make_image_folder(tmp_path)
    assert torch.equal(EvaluationViews(source.val)[1].image[0], source.val[1].image)


def test_ten_crops_need_whole_images():
    with pytest.raises(ConfigError, match="crops=ten_crop: Digits has no whole images; set data=image_folder"):
        training_views(Digits(8), {"crops": "ten_crop", "shares": [1.1]})
