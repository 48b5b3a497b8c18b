import math

import pytest
import torch

from tokenizer.layers.norm import AdaptiveGroupNorm, group_norm, token_statistics


def test_statistics_of_tokens_match_a_hand_made_case():
    mean, std = token_statistics(torch.tensor([[[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]]]))
    assert mean.tolist() == [[2.0, 5.0]]
    torch.testing.assert_close(std, torch.tensor([[math.sqrt(1.0 + 1e-6), 1e-3]]))  # unbiased: (1 + 0 + 1) / 2


def test_a_single_token_has_no_spread_instead_of_nan():
    mean, std = token_statistics(torch.tensor([[[3.0, -4.0]]]))
    assert mean.tolist() == [[3.0, -4.0]]
    torch.testing.assert_close(std, torch.full((1, 2), 1e-3))


def test_gradients_through_the_statistics_of_constant_tokens_are_finite():
    latents = torch.ones(1, 4, 2, requires_grad=True)
    token_statistics(latents)[1].sum().backward()
    assert torch.isfinite(latents.grad).all()


def test_adaptive_group_norm_is_its_formula():
    torch.manual_seed(0)
    layer = AdaptiveGroupNorm(channels=6, latent_dim=3, groups=2)
    features, latents = torch.randn(2, 6, 4, 5).double(), torch.randn(2, 20, 3).double()
    layer.double()
    grouped = features.reshape(2, 2, -1)
    centered = grouped - grouped.mean(-1, keepdim=True)
    normed = (centered / (grouped.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()).reshape(features.shape)
    std = ((latents - latents.mean(1, keepdim=True)).square().sum(1) / 19 + 1e-6).sqrt()
    scale = std @ layer.scale.weight.T + layer.scale.bias
    shift = latents.mean(1) @ layer.shift.weight.T + layer.shift.bias
    out = layer(features, *(tensor.double() for tensor in token_statistics(latents)))
    torch.testing.assert_close(out, scale[:, :, None, None] * normed + shift[:, :, None, None], rtol=1e-5, atol=1e-6)


def test_groups_that_do_not_divide_the_channels_are_refused_with_the_keys_to_change():
    with pytest.raises(ValueError, match=r"40 channels .* 32 groups .* width, multipliers or norm_groups"):
        group_norm(40, 32)
