"""The other quantizers as grouped spherical quantization: arXiv:2412.02632 table 15, row by row, and where a row is wrong as printed.

The table gives each method's d (channels a group), G (groups) and V (codes of a group). The last row's columns "codebook sharing" and
"l2" are exchanged here: section 3.2 always shares the codebook, and normalizes for d > 2 only.
"""

import math

import pytest
import torch
import torch.nn.functional as F

from tokenizer.quantizers.bsq import BinarySphericalQuantizer
from tokenizer.quantizers.fsq import FiniteScalarQuantizer
from tokenizer.quantizers.gsq import GroupedSphericalQuantizer
from tokenizer.quantizers.lfq import LookupFreeQuantizer
from tokenizer.quantizers.vq import VectorQuantizer

D = 6


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def gsq(groups: int, codes: list[list[float]], normalization: str = "none", width: int = D) -> GroupedSphericalQuantizer:
    """Grouped quantization with a fixed codebook."""
    quantizer = GroupedSphericalQuantizer(width, groups, len(codes), normalization)
    quantizer.codebook.data = torch.tensor(codes)
    return quantizer


def in_mixed_radix(digits: torch.Tensor, radix: int) -> torch.Tensor:
    """(B, N, G) indices of groups to (B, N, 1), the first group least significant."""
    return (digits * radix ** torch.arange(digits.shape[-1])).sum(-1, keepdim=True)


@pytest.mark.parametrize("normalization", ["none", "l2"])
def test_vq_and_vit_vqgan_are_one_group_without_and_with_l2(normalization):
    torch.manual_seed(0)
    vq = VectorQuantizer(D, 40, normalization, "sphere")
    view = GroupedSphericalQuantizer(D, 1, 40, normalization)
    view.codebook.data = vq.codebook.data.clone()
    latents = normal(2, 30, D)
    actual, reference = view(latents), vq(latents)
    assert torch.equal(actual.indices, reference.indices)
    assert torch.equal(actual.quantized, reference.quantized)
    assert actual.losses == reference.losses
    assert view.bits_per_token == vq.bits_per_token == math.log2(40)


def test_lfq_is_one_channel_a_group_with_the_fixed_codes_minus_one_and_one():
    """Its index writes the groups' indices as bits. Zero, as far from one as from the other, is the lower code: -1, as in LFQ."""
    latents = normal(2, 30, D)
    latents[0, 0, :2] = 0.0
    lfq, view = LookupFreeQuantizer(D), gsq(D, [[-1.0], [1.0]])
    actual, reference = view(latents), lfq(latents)
    assert torch.equal(in_mixed_radix(actual.indices, 2), reference.indices)
    assert torch.equal(actual.quantized, reference.quantized)
    assert torch.equal(actual.losses["commitment"], reference.losses["commitment"])
    assert view.bits_per_token == lfq.bits_per_token == D


def test_the_l2_that_the_table_gives_lfq_keeps_its_codes_but_not_its_commitment():
    """Doubtful as printed: a single channel divided by its length is its sign, which leaves nothing to commit to."""
    latents = normal(2, 30, D)
    actual, reference = gsq(D, [[-1.0], [1.0]], "l2")(latents), LookupFreeQuantizer(D)(latents)
    assert torch.equal(in_mixed_radix(actual.indices, 2), reference.indices)
    assert actual.losses["commitment"] < 1e-12
    assert reference.losses["commitment"] > 0.1


@pytest.mark.parametrize(("bound", "lowest"), [("symmetric", -1.0), ("unit", 0.0)])
def test_fsq_is_one_channel_a_group_with_a_codebook_of_its_own_for_each(bound, lowest):
    """What is looked up are FSQ's bounded latents."""
    levels = [5, 3, 7]
    fsq = FiniteScalarQuantizer(levels, bound)
    reference = fsq(normal(2, 200, 3))
    digits = fsq.split_indices(reference.indices)
    for channel, count in enumerate(levels):
        codes = torch.linspace(lowest, 1.0, count)[:, None].tolist()
        view = gsq(1, codes, width=1)
        actual = view(reference.lookup_latents[:, :, 0, channel : channel + 1])
        assert torch.equal(actual.indices.squeeze(-1), digits[..., channel])
        torch.testing.assert_close(actual.quantized.squeeze(-1), reference.quantized[..., channel])
    assert fsq.codebook_size == math.prod(levels)


def test_fsq_with_equal_levels_is_gsq_with_a_shared_codebook():
    fsq, view = FiniteScalarQuantizer([5] * D), gsq(D, [[-1.0], [-0.5], [0.0], [0.5], [1.0]])
    reference = fsq(normal(2, 30, D))
    actual = view(reference.lookup_latents.flatten(2))
    assert torch.equal(in_mixed_radix(actual.indices, 5), reference.indices)
    assert torch.equal(actual.quantized, reference.quantized)
    assert view.bits_per_token == pytest.approx(fsq.bits_per_token)


def test_fsq_with_unequal_levels_has_no_shared_codebook():
    """Of the codes of both channels, the first takes one that only the second has."""
    fsq = FiniteScalarQuantizer([3, 5])
    reference = fsq(torch.tensor([[[0.5, 0.5]]]))
    shared = gsq(2, [[-1.0], [-0.5], [0.0], [0.5], [1.0]], width=2)
    actual = shared(reference.lookup_latents.flatten(2))
    assert actual.quantized[0, 0, 1] == reference.quantized[0, 0, 1]
    assert actual.quantized[0, 0, 0].item() == 0.5
    assert reference.quantized[0, 0, 0].item() not in (-0.5, 0.5)


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_bsq_is_any_number_of_channels_a_group_once_the_whole_latent_has_length_one(channels):
    """Doubtful as printed: the table's d = 2 is one choice among many. What makes BSQ is the joint length, and corners as codes."""
    bsq = BinarySphericalQuantizer(D)
    corners = [[(1.0 if code >> channel & 1 else -1.0) * D**-0.5 for channel in range(channels)] for code in range(2**channels)]
    view = gsq(D // channels, corners)
    latents = normal(2, 30, D)
    actual, reference = view(F.normalize(latents, dim=-1)), bsq(latents)
    assert torch.equal(in_mixed_radix(actual.indices, 2**channels), reference.indices)
    torch.testing.assert_close(actual.quantized, reference.quantized)
    torch.testing.assert_close(actual.losses["commitment"], reference.losses["commitment"])
    assert view.bits_per_token == bsq.bits_per_token == D


def test_the_l2_of_pairs_that_the_table_gives_bsq_keeps_its_codes_but_not_its_commitment():
    """Doubtful as printed: pairs of length one make a latent of length sqrt(D / 2), with other distances to the codes."""
    bsq = BinarySphericalQuantizer(D)
    corners = [[x * D**-0.5, y * D**-0.5] for y in (-1.0, 1.0) for x in (-1.0, 1.0)]
    latents = normal(2, 30, D)
    actual, reference = gsq(D // 2, corners, "l2")(latents), bsq(latents)
    assert torch.equal(in_mixed_radix(actual.indices, 4), reference.indices)
    torch.testing.assert_close(actual.lookup_latents.flatten(2).norm(dim=-1), torch.full((2, 30), math.sqrt(D / 2)))
    assert actual.losses["commitment"] > 2 * reference.losses["commitment"]


def test_gsq_shares_one_codebook_of_v_codes_and_has_v_to_the_g_in_effect():
    quantizer = GroupedSphericalQuantizer(D, 3, 7)
    assert quantizer.codebook.shape == (7, D // 3)
    assert 2**quantizer.bits_per_token == pytest.approx(7**3)
