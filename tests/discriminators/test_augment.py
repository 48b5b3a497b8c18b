import pytest
import torch

from tokenizer.discriminators import augment
from tokenizer.discriminators.augment import CHANGES, Augmentation

ALL = ["resize", "color", "translation", "cutout"]


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.rand(6, 3, 16, 24, dtype=torch.float64)


def draws(count: int, low: float, high: float) -> torch.Tensor:
    return torch.empty(count, 1, 1, 1, dtype=torch.float64).uniform_(low, high).flatten()


def test_color_is_a_loop_over_images_of_brightness_saturation_and_contrast(images):
    torch.manual_seed(1)
    changed = Augmentation(["color"])(images)
    torch.manual_seed(1)
    brightness, saturation, contrast = draws(6, -0.5, 0.5), draws(6, 0.0, 2.0), draws(6, 0.5, 1.5)
    for number, image in enumerate(images):
        image = image + brightness[number]
        gray = (image[0] + image[1] + image[2]) / 3
        image = torch.stack([gray + (channel - gray) * saturation[number] for channel in image])
        mean = image.sum() / image.numel()
        torch.testing.assert_close(changed[number], mean + (image - mean) * contrast[number])


def test_translation_is_a_loop_over_images_with_zeros_where_nothing_came_from(images):
    torch.manual_seed(1)
    changed = Augmentation(["translation"])(images)
    torch.manual_seed(1)
    downs, rights = torch.randint(-2, 3, (6,)), torch.randint(-3, 4, (6,))
    for number, image in enumerate(images):
        expected = torch.zeros(3, 16, 24, dtype=torch.float64)
        for row in range(16):
            for column in range(24):
                source = row + int(downs[number]), column + int(rights[number])
                if 0 <= source[0] < 16 and 0 <= source[1] < 24:
                    expected[:, row, column] = image[:, source[0], source[1]]
        assert torch.equal(changed[number], expected)


def test_cutout_is_a_loop_over_images_with_one_black_rectangle(images):
    torch.manual_seed(1)
    changed = Augmentation(["cutout"])(images)
    torch.manual_seed(1)
    tops, lefts = torch.randint(-1, 15, (6, 1)), torch.randint(-2, 22, (6, 1))  # 3 rows and 5 columns
    for number, image in enumerate(images):
        top, left = int(tops[number]), int(lefts[number])
        expected = image.clone()
        expected[:, max(top, 0) : top + 3, max(left, 0) : left + 5] = 0
        assert torch.equal(changed[number], expected)


@pytest.mark.parametrize("side", [4, 5, 10, 13, 32])
def test_the_middle_of_the_rectangle_is_anywhere_from_border_to_border(side):
    torch.manual_seed(0)
    black = Augmentation(["cutout"])(torch.ones(4000, 1, side, side)) == 0
    length = int(0.2 * side + 0.5)
    rows, columns = black.any(3)[:, 0], black.any(2)[:, 0]
    for covered in (rows, columns):  # as much is cut off on one side as on the other, and never all
        counts = covered.sum(1)
        assert counts.max() == length
        assert counts.min() == length - length // 2
        assert covered[:, 0].any()
        assert covered[:, -1].any()
    assert torch.equal(black[:, 0], rows[:, :, None] & columns[:, None, :])


def test_shifts_reach_an_eighth_both_ways_and_no_further():
    torch.manual_seed(0)
    images = torch.arange(1.0, 33).view(1, 1, 32, 1).expand(2000, 1, 32, 32)
    first = Augmentation(["translation"])(images)[:, 0, 16].amax(1) - 17
    assert sorted(first.unique().tolist()) == [-4, -3, -2, -1, 0, 1, 2, 3, 4]


@pytest.mark.parametrize("seed", range(6))
def test_resize_scales_all_images_by_one_ratio_and_pads_or_crops_them_in_the_center(seed, images):
    torch.manual_seed(seed)
    changed = Augmentation(["resize"])(images)
    torch.manual_seed(seed)
    ratio = 0.8 + 0.4 * torch.rand(()).item()
    assert changed.shape == images.shape
    rows, columns = int(16 * ratio), int(24 * ratio)
    resized = torch.nn.functional.interpolate(images, size=(rows, columns), mode="bilinear")
    if ratio < 1:
        top, left = (16 - rows) // 2, (24 - columns) // 2
        torch.testing.assert_close(changed[:, :, top : top + rows, left : left + columns], resized)
        assert changed.sum().item() == pytest.approx(resized.sum().item())  # and zeros around it
    else:
        top, left = (rows - 16) // 2, (columns - 24) // 2
        torch.testing.assert_close(changed, resized[:, :, top : top + 16, left : left + 24])


@pytest.mark.parametrize(("ratio", "first"), [(1.1, 0), (1.15, 1), (1.19, 1)])
def test_an_odd_surplus_loses_its_last_row_and_column(ratio, first):
    """16 pixels become 17, 18 and 19; released code starts at column 0, 1 and 1."""
    ramp = torch.arange(16.0).expand(1, 1, 16, 16)
    images = ramp + 100 * ramp.mT
    side = int(16 * ratio)
    resized = torch.nn.functional.interpolate(images, size=(side, side), mode="bilinear")
    assert torch.equal(augment.resize(images, ratio), resized[..., first : first + 16, first : first + 16])


def test_given_draws_decide_each_change(images):
    one = images[:1]
    quarter = torch.full((1, 1, 1, 1), 0.25, dtype=one.dtype)
    brighter = augment.color(one, quarter, torch.ones_like(quarter), torch.ones_like(quarter))
    torch.testing.assert_close(brighter, one + 0.25)
    assert torch.equal(augment.translation(one, torch.tensor([2]), torch.tensor([0]))[..., :14, :], one[..., 2:, :])
    black = augment.cutout(one, torch.tensor([4]), torch.tensor([7]))
    assert black[..., 4:7, 7:12].abs().sum() == 0
    assert (black != one).sum() == 3 * 3 * 5


def test_a_crop_may_be_partly_or_completely_outside():
    images = torch.arange(1.0, 13).view(1, 1, 3, 4).expand(3, 1, 3, 4)
    cropped = augment.crop(images, torch.tensor([1, -1, 9]), torch.tensor([2, -1, 0]), 2, 3)
    assert cropped[0, 0].tolist() == [[7, 8, 0], [11, 12, 0]]
    assert cropped[1, 0].tolist() == [[0, 0, 0], [0, 1, 2]]
    assert cropped[2].sum() == 0


def test_the_order_of_changes_does_not_depend_on_the_order_of_names(images):
    torch.manual_seed(1)
    changed = Augmentation(["cutout", "translation", "resize", "color"])(images)
    torch.manual_seed(1)
    expected = images
    for name in ALL:
        expected = Augmentation([name])(expected)
    assert torch.equal(changed, expected)
    assert list(CHANGES) == ALL


def test_without_names_images_are_unchanged_and_no_random_number_is_used(images):
    state = torch.get_rng_state()
    assert Augmentation([])(images) is images
    assert torch.equal(torch.get_rng_state(), state)


def test_two_calls_and_two_images_are_changed_independently(images):
    one_image_often = images[:1].expand_as(images)
    augmentation = Augmentation(["color", "translation"])
    first, second = augmentation(one_image_often), augmentation(one_image_often)
    assert not torch.equal(first, second)
    assert len({tuple(image.flatten().tolist()) for image in first}) == len(images)


@pytest.mark.parametrize("name", ALL)
def test_gradients_and_their_gradients_are_those_of_the_formula(name, images):
    def seeded(pixels):
        torch.manual_seed(3)
        return Augmentation([name])(pixels).square()

    small = images[:2, :, :5, :5].clone().requires_grad_()
    assert torch.autograd.gradcheck(seeded, small)
    assert torch.autograd.gradgradcheck(seeded, small)


@pytest.mark.parametrize("names", [ALL, []])
def test_shapes_are_known_without_memory(names):
    with torch.device("meta"):
        assert Augmentation(names)(torch.empty(2, 3, 20, 30)).shape == (2, 3, 20, 30)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["color", "flip"], "discriminator.augmentation has 'flip'; expected names out of resize, color, translation, cutout"),
        (["color", "color"], "discriminator.augmentation is color, color; expected each name once"),
    ],
)
def test_wrong_names_are_refused(names, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(names)
