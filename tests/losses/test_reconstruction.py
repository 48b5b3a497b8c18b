import torch

from tokenizer.losses.reconstruction import L1Loss, L2Loss


def test_losses_are_means_over_all_elements():
    reconstruction = torch.tensor([1.0, -1.0, 0.5, 0.0]).reshape(1, 1, 2, 2)
    images = torch.tensor([0.0, 1.0, 0.5, 0.0]).reshape(1, 1, 2, 2)
    assert L1Loss()(reconstruction, images).item() == (1 + 2) / 4
    assert L2Loss()(reconstruction, images).item() == (1 + 4) / 4


def test_losses_of_half_precision_images_are_computed_in_fp32():
    reconstruction = torch.zeros(1, 3, 64, 64, dtype=torch.bfloat16)
    images = torch.full((1, 3, 64, 64), 0.1, dtype=torch.bfloat16)
    for loss, expected in ((L1Loss(), images[0, 0, 0, 0].double()), (L2Loss(), images[0, 0, 0, 0].double() ** 2)):
        value = loss(reconstruction, images)
        assert value.dtype == torch.float32
        assert abs(value.item() / expected.item() - 1) < 1e-5
