"""Guidance schedules, filters and choices."""

import math

import numpy as np
import pytest
import torch

from tokenizer.generators.sampling import Guidance, Sampling, choose, filtered, guided, noise, token_seeds, uniforms


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("first_token", "expected"), [("full", {0, *range(46, 256)}), ("schedule", set(range(46, 256)))])
def test_the_step_schedule_guides_the_tokens_that_the_code_or_the_paper_guides(first_token, expected):
    scales = Guidance(2.0, "step", 0.18, first_token).scales(256)
    assert {token for token, scale in enumerate(scales) if scale != 1} == expected
    assert set(scales) == {1.0, 2.0}


def test_linear_and_cosine_rise_from_no_guidance_to_the_full_scale():
    assert Guidance(3.0, "linear").scales(5) == [1.0, 1.5, 2.0, 2.5, 3.0]
    assert Guidance(3.0, "cosine").scales(5) == pytest.approx([1.0, 2 - math.sqrt(0.5), 2.0, 2 + math.sqrt(0.5), 3.0])
    assert Guidance(3.0, "cosine", first_token="full").scales(5)[0] == 3.0
    assert Guidance(3.0).scales(2) == [3.0, 3.0]


def test_there_is_no_guidance_after_its_end():
    assert Guidance(3.0, end=0.5).scales(5) == [3.0, 3.0, 3.0, 1.0, 1.0]
    assert Guidance(3.0, "linear", end=0.75).scales(5) == [1.0, 1.5, 2.0, 2.5, 1.0]
    assert Guidance(3.0, "step", 0.25, end=0.5).scales(5) == [1.0, 3.0, 3.0, 1.0, 1.0]
    assert Guidance(3.0, "step", 0.5, "full", end=0.5).scales(5) == [3.0, 1.0, 3.0, 1.0, 1.0]


@pytest.mark.parametrize("schedule", ["constant", "step", "linear", "cosine"])
def test_an_image_of_a_single_token_has_a_scale(schedule):
    assert Guidance(2.0, schedule).scales(1) == [2.0 if schedule == "constant" else 1.0]


def test_a_scale_of_one_gives_the_conditional_logits_to_the_bit():
    conditional, unconditional = drawn(2, 3, 7), drawn(2, 3, 7, seed=1)
    scale = torch.tensor([[1.0], [2.0], [0.0]], dtype=torch.float64)
    logits = guided(conditional, unconditional, scale)
    assert torch.equal(logits[:, 0], conditional[:, 0].double())
    torch.testing.assert_close(logits[:, 1], 2 * conditional[:, 1].double() - unconditional[:, 1].double())
    assert torch.equal(logits[:, 2], unconditional[:, 2].double())


def test_the_summary_is_the_scale_or_a_list_of_settings():
    assert Sampling(guidance=Guidance(1.75), seed=3).summary == 1.75
    assert Sampling(0.9, 5, 0.8, Guidance(2.0, "step", first_token="full")).summary == (
        "2, step from 0.18, first token guided fully, temperature 0.9, top-k 5, top-p 0.8"
    )
    assert Sampling(guidance=Guidance(2.0, "cosine")).summary == "2, cosine"
    assert Sampling(guidance=Guidance(2.0, end=0.75)).summary == "2, guided up to 0.75"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (lambda: Sampling(temperature=0.0), "temperature=0.0.*top_k=1"),
        (lambda: Sampling(temperature=math.nan), "temperature=nan"),
        (lambda: Sampling(top_k=-1), "top_k=-1"),
        (lambda: Sampling(top_p=0.0), "top_p=0.0"),
        (lambda: Sampling(top_p=1.5), "top_p=1.5"),
        (lambda: Sampling(seed=-1), "seed=-1"),
        (lambda: Guidance(scale=-0.5), "guidance=-0.5"),
        (lambda: Guidance(scale=math.inf), "guidance=inf"),
        (lambda: Guidance(schedule="triangular"), "guidance_schedule=triangular"),
        (lambda: Guidance(start=1.5), "guidance_start=1.5"),
        (lambda: Guidance(end=-0.5), "guidance_end=-0.5"),
        (lambda: Guidance(end=math.nan), "guidance_end=nan"),
        (lambda: Guidance(schedule="step", start=0.5, end=0.25), "guidance_end=0.25.*guidance_start=0.5"),
        (lambda: Guidance(first_token="paper"), "first_token=paper"),
    ],
)
def test_a_value_out_of_range_is_named_with_its_key(settings, named):
    with pytest.raises(ValueError, match=named):
        settings()


def by_hand(logits: list[float], sampling: Sampling) -> list[float]:
    """The filters on one row, entry by entry."""
    scaled = [value / sampling.temperature for value in logits]
    remaining = set(range(len(scaled)))
    if sampling.top_k:
        remaining = {i for i in remaining if sum(other > scaled[i] for other in scaled) < sampling.top_k}
    weights = [math.exp(value) if i in remaining else 0.0 for i, value in enumerate(scaled)]
    if sampling.top_p < 1:
        share = sampling.top_p * sum(weights)
        weights = [w if sum(other for other in weights if other > w) < share else 0.0 for w in weights]
    return [w / sum(weights) for w in weights]


@pytest.mark.parametrize("top_k", [0, 1, 3, 9, 50])
@pytest.mark.parametrize("top_p", [1e-9, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_filters_agree_with_a_plain_loop(temperature, top_k, top_p):
    sampling = Sampling(temperature, top_k, top_p)
    logits = (2 * drawn(4, 3, 9)).round(decimals=0)  # whole numbers: many ties
    probabilities = filtered(logits, sampling).softmax(-1)
    expected = torch.tensor([[by_hand(row.tolist(), sampling) for row in rows] for rows in logits], dtype=torch.float64)
    assert torch.equal(probabilities == 0, expected == 0)
    torch.testing.assert_close(probabilities, expected)


def test_ties_with_the_last_kept_entry_are_kept():
    logits = torch.tensor([0.0, 1.0, 1.0, 1.0, -1.0])
    assert filtered(logits, Sampling(top_k=2)).isfinite().tolist() == [False, True, True, True, False]
    assert filtered(logits, Sampling(top_p=0.1)).isfinite().tolist() == [False, True, True, True, False]


def test_a_tiny_temperature_is_the_largest_entry_and_no_error():
    logits = filtered(torch.tensor([3e4, 3e4 - 1, -3e4]), Sampling(temperature=1e-320))
    assert logits.softmax(-1).tolist() == [1.0, 0.0, 0.0]
    assert choose(logits.expand(100, 3), token_seeds(0, [0], 100, 1).flatten()).eq(0).all()


@pytest.mark.parametrize("shift", [0.0, 700.0])
def test_choices_follow_their_probabilities(shift):
    logits = torch.tensor([0.3, -1.0, 2.0, 0.0, -4.0]) + shift
    seeds = token_seeds(0, [7], 40_000, 1).flatten()
    counts = torch.bincount(choose(filtered(logits, Sampling()).expand(40_000, 5), seeds), minlength=5)
    expected = 40_000 * logits.double().softmax(-1)
    assert ((counts - expected) ** 2 / expected).sum() < 18.5  # chi-squared with 4 degrees of freedom, 1 in 1000


def test_many_entries_are_chosen_evenly_and_independently_of_the_previous_choice():
    choices = choose(torch.zeros(64, 1000, 16, dtype=torch.float64), token_seeds(1, range(64), 1000, 1)[..., 0])
    pairs = torch.bincount((16 * choices[:, :-1] + choices[:, 1:]).flatten(), minlength=256)
    expected = 64 * 999 / 256
    assert ((pairs - expected) ** 2 / expected).sum() < 331  # chi-squared with 255 degrees of freedom, 1 in 1000


def test_noise_is_that_of_splitmix():
    """Against the published algorithm in whole numbers of Python."""
    for seed in (0, 1234567, 2**63 + 12345):
        signed = seed - 2**64 if seed >= 2**63 else seed
        state, expected = seed, []
        for _ in range(4):
            state = (state + 0x9E3779B97F4A7C15) % 2**64
            mixed = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
            mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) % 2**64
            expected.append((((mixed ^ (mixed >> 31)) >> 12) + 0.5) / 2**52)
        assert noise(torch.tensor(signed), 4).tolist() == expected


@pytest.mark.parametrize("size", [1, 2, 1000])
def test_an_entry_of_probability_zero_is_never_chosen(size):
    logits = drawn(64, size).double().masked_fill(drawn(64, size, seed=1) > 0, -math.inf)
    logits[:, size // 2] = -700.0  # at least one, however unlikely
    logits = torch.nn.functional.pad(logits, (3, 3), value=-math.inf)
    for number in range(10):
        chosen = choose(logits, token_seeds(0, [number], 64, 1).flatten())
        assert logits.gather(1, chosen[:, None]).isfinite().all()


def test_small_differences_of_the_logits_change_no_choice():
    """Differences of the size that another batch size causes. Inverting the cumulative distribution does change choices."""

    def by_inverse(logits: torch.Tensor) -> torch.Tensor:
        return (logits.softmax(-1).cumsum(-1) < noise(seeds, 1)).sum(-1)

    logits, seeds = 2 * drawn(600, 4096).double(), token_seeds(0, [0], 600, 1).flatten()
    moved = logits + 1e-4 * drawn(600, 4096, seed=1)
    assert torch.equal(choose(logits, seeds), choose(moved, seeds))
    assert not torch.equal(by_inverse(logits), by_inverse(moved))


def test_the_noise_of_choices_is_independent():
    seeds = token_seeds(0, [0, 1, 2], 40, 3)
    assert seeds.shape == (3, 40, 3)
    numbers = noise(seeds, 8)
    assert len(numbers.flatten().unique()) == numbers.numel()
    assert numbers.min() > 0
    assert numbers.max() < 1
    assert not torch.isin(token_seeds(1, [0], 40, 3), seeds).any()
    assert not np.isin(uniforms(0, 0, 120, "labels"), uniforms(0, 0, 120, "tokens")).any()


def test_a_stream_depends_on_seed_and_number_alone():
    assert torch.equal(token_seeds(5, [3, 8], 16, 2)[1], token_seeds(5, [8], 16, 2)[0])
    assert uniforms(5, 8, 4, "labels").tolist() == uniforms(5, 8, 32, "labels")[:4].tolist()
    assert uniforms(2**64 - 1, 2**40, 2, "labels").tolist() != uniforms(2**64 - 2, 2**40, 2, "labels").tolist()


def test_the_numbers_of_a_stream_stay_the_same_in_all_versions():
    assert uniforms(0, 0, 3, "tokens").tolist() == [0.011546754286331562, 0.24154919656271812, 0.11142585551493822]
