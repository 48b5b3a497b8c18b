"""The lookup against a float64 brute force."""

from itertools import accumulate

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tokenizer.quantizers import lookup
from tokenizer.quantizers.lookup import nearest_code


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def brute_force(latents: Tensor, codebook: Tensor) -> Tensor:
    """The lowest index among the smallest float64 distances."""
    rows = latents.reshape(-1, 1, latents.shape[-1]).double()
    indices = [(row - codebook.double()).square().sum(-1).argmin() for row in rows]
    return torch.stack(indices).view(latents.shape[:-1])


@pytest.fixture
def small_tiles(monkeypatch):
    """Temporary tensors so small that even a small case takes many tiles of rows and codes."""
    monkeypatch.setattr(lookup, "max_temp_elements", lambda device: 2**11)


SHAPES = [(100, 64, 3), (50, 63, 8), (50, 65, 8), (33, 1000, 16), (300, 2, 4), (1, 500, 5), (40, 700, 64), (5, 1, 3), (10, 100, 2)]


@pytest.mark.parametrize(("n", "V", "d"), SHAPES)
def test_indices_equal_a_float64_brute_force(n, V, d):
    latents, codebook = drawn(n, d), drawn(V, d, seed=1)
    assert torch.equal(nearest_code(latents, codebook), brute_force(latents, codebook))


@pytest.mark.parametrize(("n", "V", "d"), SHAPES)
def test_many_tiles_give_the_same_indices(n, V, d, small_tiles):
    latents, codebook = drawn(n, d), drawn(V, d, seed=1)
    assert torch.equal(nearest_code(latents, codebook), brute_force(latents, codebook))


@pytest.mark.parametrize("d", [1, 2, 6])
def test_a_lookup_sets_no_number_of_threads(d, monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda count: pytest.fail("a setting of the whole process is changed"))
    latents, codebook = F.normalize(drawn(101, d), dim=-1), F.normalize(drawn(300, d, seed=1), dim=-1)
    assert torch.equal(nearest_code(latents, codebook, unit_length=True), brute_force(latents, codebook))


def test_several_threads_give_the_same_indices():
    latents, codebook = drawn(3000, 6), drawn(3000, 6, seed=1)
    expected = nearest_code(latents, codebook)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.equal(nearest_code(latents, codebook), expected)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(expected[:100], brute_force(latents[:100], codebook))


@pytest.mark.parametrize("d", [1, 2, 3, 8])
def test_float64_latents_are_compared_in_float64(d):
    """Codes are nearer to each other than the resolution of fp32."""
    latents, codebook = 1 + 1e-10 * drawn(50, d).double(), 1 + 1e-10 * drawn(100, d, seed=1).double()
    assert len(codebook.float().unique()) == 1
    assert torch.equal(nearest_code(latents, codebook), brute_force(latents, codebook))


def test_leading_dimensions_are_preserved():
    assert nearest_code(drawn(2, 3, 4, 5), drawn(9, 5)).shape == (2, 3, 4)
    assert nearest_code(drawn(0, 4, 5), drawn(9, 5)).shape == (0, 4)


def test_codes_with_equal_fp32_scores_are_distinguished():
    """Far from the origin the scores agree to all digits while distances differ by much."""
    latents, codebook = 100 + 1e-2 * drawn(60, 4), 100 + 1e-2 * drawn(200, 4, seed=1)
    expected = brute_force(latents, codebook)
    scores = latents @ codebook.t() - codebook.square().sum(1) / 2
    assert not torch.equal(scores.argmax(1), expected)
    assert torch.equal(nearest_code(latents, codebook), expected)


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_a_low_matrix_precision_does_not_affect_the_lookup(precision):
    latents, codebook = drawn(200, 8), drawn(3000, 8, seed=1)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        assert torch.equal(nearest_code(latents, codebook), brute_force(latents, codebook))
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_among_equal_distances_the_lowest_index_wins(d):
    """Codes and latents on a coarse grid: most rows have several nearest codes, and most codes have a duplicate."""
    generator = torch.Generator().manual_seed(0)
    codebook = torch.randint(0, 4, (150, d), generator=generator).float()
    latents = torch.randint(-2, 10, (90, d), generator=generator).float() / 2
    distances = (latents[:, None] - codebook).square().sum(-1)
    assert (distances == distances.amin(1, keepdim=True)).sum(1).median() > 1
    assert torch.equal(nearest_code(latents, codebook), distances.argmin(1))


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("n", [3000, 20])
@pytest.mark.parametrize("nearest", [[0, 1, 3], [2, 50, 99]])
def test_random_ties_are_drawn_evenly_among_all_nearest_codes(d, n, nearest):
    """Two equal codes on one side and one on the other, next to each other or far apart in the codebook."""
    codebook = torch.full((100, d), 9.0)
    codebook[nearest] = torch.tensor([[0.0], [2.0], [0.0]]).expand(3, d)
    torch.manual_seed(0)
    counts = sum(nearest_code(torch.ones(n, d), codebook, ties="random").bincount(minlength=100) for _ in range(3000 // n))
    assert counts.sum() == counts[nearest].sum()
    assert counts[nearest].min() > 900


@pytest.mark.parametrize("V", [1, 2, 3, 70, 5000])
def test_codes_on_a_line_are_found_exactly(V):
    latents, codebook = torch.cat([drawn(200, 1), torch.tensor([[9.0], [-9.0]])]), drawn(V, 1, seed=1)
    assert torch.equal(nearest_code(latents, codebook), brute_force(latents, codebook))


@pytest.mark.parametrize("V", [1, 2, 3, 70, 20000])
def test_codes_on_the_unit_circle_are_found_exactly(V):
    latents, codebook = F.normalize(drawn(100, 2), dim=-1), F.normalize(drawn(V, 2, seed=1), dim=-1)
    codebook[V // 2 :: 3] = codebook[V // 2].clone()
    latents[0], latents[1] = torch.tensor([-1.0, 0.0]), torch.tensor([-1.0, -0.0])
    assert torch.equal(nearest_code(latents, codebook, unit_length=True), brute_force(latents, codebook))


@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("ties", ["lowest", "random"])
def test_rows_that_are_not_finite_get_a_valid_index_and_change_no_other_row(d, bad, ties):
    latents, codebook = drawn(40, d), drawn(67, d, seed=1)
    clean = nearest_code(latents, codebook)
    latents[::2, 0] = bad
    indices = (
        nearest_code(latents, codebook, ties, unit_length=True) if d == 2 and ties == "lowest" else nearest_code(latents, codebook, ties)
    )
    assert ((indices >= 0) & (indices < 67)).all()
    if d != 2:
        assert torch.equal(indices[1::2], clean[1::2])


def test_codes_that_are_not_finite_give_valid_indices():
    for d in (1, 2, 5):
        indices = nearest_code(drawn(40, d), torch.full((67, d), float("nan")), unit_length=True)
        assert ((indices >= 0) & (indices < 67)).all()


@pytest.fixture
def on_an_accelerator(monkeypatch):
    """The path of a device that the host must not wait for, on the CPU."""
    monkeypatch.setattr(lookup, "sync_is_free", lambda device: False)


@pytest.mark.parametrize(("n", "V", "d"), SHAPES)
def test_an_accelerator_gives_the_same_indices(n, V, d, on_an_accelerator):
    """Codes of a coarse grid, so that many rows have several nearest codes."""
    latents, codebook = (2 * drawn(n, d)).round(), (2 * drawn(V, d, seed=1)).round() if d > 3 else drawn(V, d, seed=1)
    assert torch.equal(nearest_code(latents, codebook), brute_force(latents, codebook))


def test_an_accelerator_searches_close_codes_of_many_blocks_in_float64(on_an_accelerator):
    latents, codebook = 100 + 1e-2 * drawn(60, 4), torch.cat([drawn(2000, 4), 100 + 1e-2 * drawn(200, 4, seed=1)])
    assert torch.equal(nearest_code(latents, codebook), brute_force(latents, codebook))


def test_an_accelerator_searches_few_codes_in_float64(on_an_accelerator, monkeypatch):
    monkeypatch.setattr(lookup, "_brute_force", lambda *_: pytest.fail("all codes are searched in float64"))
    latents, codebook = drawn(300, 4), drawn(3000, 4, seed=1)
    assert torch.equal(nearest_code(latents, codebook), brute_force(latents, codebook))


def test_different_widths_and_unknown_ties_are_refused():
    with pytest.raises(ValueError, match="latents have 4 channels, codes have 5"):
        nearest_code(drawn(3, 4), drawn(7, 5))
    with pytest.raises(ValueError, match="ties=first"):
        nearest_code(drawn(3, 4), drawn(7, 4), ties="first")


def peak_bytes(work) -> int:
    """Peak number of bytes in tensors."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    records = profile.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in records if event.name() == "[memory]")
    assert changes
    return max(accumulate(change for _, change in changes))


@pytest.mark.parametrize(("n", "V", "d"), [(512, 8192, 8), (256, 16384, 64), (32, 262144, 8), (4096, 8192, 1)])
def test_memory_stays_far_below_the_table_of_distances(n, V, d):
    latents, codebook = drawn(n, d), drawn(V, d, seed=1)
    assert peak_bytes(lambda: nearest_code(latents, codebook)) < 12 * 2**20
