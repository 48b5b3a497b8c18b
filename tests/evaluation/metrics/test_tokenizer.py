"""All metrics of a tokenizer together."""

import json
import multiprocessing
import os
import types
from dataclasses import asdict

import pytest
import torch

from experiments.evaluation.cards import comparable
from experiments.evaluation.metrics.frechet import FeatureMoments
from experiments.evaluation.metrics.tokenizer import TokenizerMetrics
from experiments.evaluation.results import Skipped
from tokenizer.interfaces import DecoderOutput, EncoderOutput, QuantizerOutput, TokenizerOutput, TokenLayout
from tokenizer.weights import FILES, sha256

QUANTIZER = types.SimpleNamespace(groups=2, codebook_size=8, bits_per_token=6.0)


@pytest.fixture(autouse=True)
def no_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path))


def make_metrics(**changes):
    options = {
        "quantizer": QUANTIZER, "downsample": 8, "image_size": 32, "subject": "ema", "seed": 1, "transform": "crop", "reference": "photos",
    }  # fmt: skip
    return TokenizerMetrics(**(options | changes))


def make_batch(count, seed=0, size=32, noise=0.2):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, size, size, generator=generator) * 2 - 1
    reconstruction = images + noise * torch.randn(images.shape, generator=generator)
    indices = torch.randint(0, 8, (count, 16, 2), generator=generator)
    latents = torch.zeros(count, 16, 4)
    quantized = QuantizerOutput(latents, indices, latents.unflatten(-1, (2, 2)))
    return images, TokenizerOutput(EncoderOutput(latents, TokenLayout((4, 4))), quantized, DecoderOutput(reconstruction))


def computed(*batches, **changes):
    metrics = make_metrics(**changes)
    for batch in batches:
        metrics.update(*batch)
    return metrics.compute()


def test_every_number_has_a_card_and_what_lacks_weights_is_skipped_in_one_line():
    results = computed(make_batch(3))
    assert set(results.cards) == set(results.values)
    assert {"psnr", "psnr_bicubic", "ssim", "l1", "codebook_usage", "perplexity", "bits_per_token", "bits_per_pixel"} <= set(results.values)
    assert set(results.skipped) == {"lpips", "rfid", "inception_score"}
    for name, file in {"lpips": "alexnet", "rfid": "inception", "inception_score": "inception"}.items():
        skipped = results.skipped[name]
        assert skipped.weights == file
        assert "\n" not in skipped.reason
        assert str(FILES[file].path) in skipped.reason
        assert f"fetch {file}" in skipped.reason


def test_cards_state_what_was_measured_on_how_many_images():
    card = computed(make_batch(3), make_batch(2)).cards["psnr"]
    expected = {"n": 5, "subject": "ema", "image_size": 32, "seed": 1, "reference": "photos", "transform": "crop", "guidance": None}
    assert expected.items() <= card.items()
    assert card["aggregate"] == "total squared error"


def test_numbers_of_ema_and_raw_weights_are_not_comparable():
    ema, raw = (computed(make_batch(2), subject=subject) for subject in ("ema", "raw"))
    assert comparable(ema.cards["psnr"], raw.cards["psnr"]) == ["subject"]


def test_bits_per_pixel_are_all_bits_over_all_pixels():
    assert computed(make_batch(3)).values["bits_per_pixel"] == pytest.approx(6.0 * 16 / 32**2)


def test_an_empty_batch_changes_nothing():
    assert computed(make_batch(3), make_batch(0)).values == computed(make_batch(3)).values


def test_without_images_only_the_rate_of_a_token_is_known():
    results = make_metrics().compute()
    assert results.values == {"bits_per_token": 6.0}
    assert results.skipped["psnr"] == Skipped("no image was evaluated")


def test_reset_forgets_the_images():
    metrics = make_metrics()
    metrics.update(*make_batch(3, noise=0.9))
    metrics.reset()
    metrics.update(*make_batch(3))
    assert metrics.compute().values == computed(make_batch(3)).values


def test_computing_twice_gives_the_same():
    metrics = make_metrics()
    metrics.update(*make_batch(3))
    assert metrics.compute() == metrics.compute()


def test_autocast_around_it_does_not_change_the_numbers():
    with torch.autocast("cpu", torch.bfloat16):
        inside = computed(make_batch(2))
    assert inside.values == computed(make_batch(2)).values


def test_codes_beyond_counting_are_named_and_the_rest_is_computed():
    huge = types.SimpleNamespace(groups=1, codebook_size=2**30, bits_per_token=30.0)
    results = computed(make_batch(2), quantizer=huge)
    assert results.skipped["perplexity"] == Skipped("not counted: codebook_size 1073741824 is above 16777216")
    assert "psnr" in results.values


def test_images_too_small_for_a_metric_are_named():
    results = computed(make_batch(2, size=8), image_size=8)
    assert results.skipped["ssim"] == Skipped("ssim needs images of at least 11 pixels, image_size is 8")
    assert "psnr" in results.values


def test_an_unknown_subject_and_a_reconstruction_of_another_size_are_refused():
    with pytest.raises(ValueError, match="subject is 'best', expected one of ema, raw"):
        make_metrics(subject="best")
    with pytest.raises(ValueError, match=r"\(2, 3, 32, 32\), the images \(2, 3, 16, 16\)"):
        make_metrics().update(make_batch(2)[0][..., :16, :16], make_batch(2)[1])


def run_rank(rank, folder, in_rank):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.save(in_rank(rank), f"{folder}/{rank}.pt")
    torch.distributed.barrier()  # a process that leaves while the other still connects may end that one
    torch.distributed.destroy_process_group()


def on_two_ranks(folder, in_rank):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=run_rank, args=(rank, folder, in_rank)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    return [torch.load(f"{folder}/{rank}.pt") for rank in range(2)]


@pytest.fixture
def small_inception(tmp_path, monkeypatch):
    """A file in Inception's place and a small network that reads it."""
    FILES["inception"].path.write_bytes(b"weights")
    projection = torch.randn(3, 2048, generator=torch.Generator().manual_seed(5)).abs()
    calls = []

    class Network(torch.nn.Module):
        def forward(self, images):
            calls.append(len(images))
            means = images.float().mean((2, 3))
            return (means @ projection).sin(), (means @ projection[:, :1008]).cos()

    monkeypatch.setattr("experiments.evaluation.metrics.inception.load_inception", Network)
    # The distance of 2048 features takes seconds: 8 of them are enough.
    monkeypatch.setattr("experiments.evaluation.metrics.frechet.FeatureMoments", narrow_moments)
    return calls


def narrow_moments(width, moments=FeatureMoments):
    class Narrow(moments):
        def update(self, features):
            super().update(features[:, :8])

    return Narrow(8)


def test_two_processes_give_the_numbers_of_one(tmp_path, small_inception):
    batches = [make_batch(12, seed) for seed in range(3)]

    def in_rank(rank):
        results = computed(*(batches[:2] if rank == 0 else batches[2:]))
        return results.values, results.cards["rfid"]["n"]

    first, second = on_two_ranks(tmp_path, in_rank)
    expected = computed(*batches).values
    assert first == second
    assert first[1] == 36
    score = {"inception_score"}  # its splits depend on who saw which image
    assert {name: first[0][name] for name in expected if name not in score} == pytest.approx(
        {name: value for name, value in expected.items() if name not in score}, rel=1e-6
    )
    assert first[0]["inception_score"] > 0


def test_weights_that_only_one_machine_has_are_skipped_on_both(tmp_path, small_inception):
    def in_rank(rank):
        if rank == 1:
            os.environ["TESSERA_WEIGHTS"] = str(tmp_path / "elsewhere")
        results = computed(make_batch(12), make_batch(12, 1))
        return sorted(results.values), asdict(results.skipped["rfid"])

    first, second = on_two_ranks(tmp_path, in_rank)
    assert first[0] == second[0]
    assert "rfid" not in first[0]
    assert first[1] == {"reason": f"{FILES['inception'].filename} is absent on another machine", "weights": "inception"}
    assert second[1]["weights"] == "inception"
    assert "fetch inception" in second[1]["reason"]


def test_two_subjects_share_the_pass_over_the_real_images(small_inception):
    ema = make_metrics()
    raw = make_metrics(subject="raw", cache=ema.cache)
    images, output = make_batch(24)
    for metrics in (ema, raw):
        metrics.update(images, output)
    assert small_inception == [24, 24, 24]
    assert raw.compute().values["rfid"] == ema.compute().values["rfid"]
    assert "psnr_bicubic" not in {*raw.compute().values, *raw.compute().skipped}
    for count, metrics in ((4, ema), (5, raw)):
        metrics.update(*make_batch(24, seed=count))
        assert len(small_inception) == 2 * count - 3  # images of another batch are features of their own


def test_too_few_images_for_a_distance_or_a_score_are_named(small_inception):
    one = computed(make_batch(1))
    assert one.skipped["rfid"] == Skipped("rfid needs at least 2 images, 1 were evaluated")
    assert one.skipped["inception_score"] == Skipped("inception_score needs at least 20 images, 1 were evaluated")


def test_the_card_of_a_network_names_its_file_with_the_hash_of_its_content(small_inception):
    card = computed(make_batch(2)).cards["rfid"]
    assert card["weights"] == f"{FILES['inception'].filename} {sha256(FILES['inception'].path)[:12]}"


@pytest.mark.parametrize("content", [b"", b"text"])
def test_networks_whose_files_cannot_be_read_are_skipped_and_named(content):
    for file in ("alexnet", "inception"):
        FILES[file].path.write_bytes(content)
    ema = make_metrics()
    raw = make_metrics(subject="raw", cache=ema.cache)
    for metrics in (ema, raw):
        metrics.update(*make_batch(24))
        results = metrics.compute()
        assert "psnr" in results.values
        for name, file in {"lpips": "alexnet", "rfid": "inception", "inception_score": "inception"}.items():
            assert name not in results.values
            assert results.skipped[name].reason.startswith(f"{FILES[file].path} cannot be read")
            assert results.skipped[name].weights is None


def test_a_number_that_is_not_finite_is_named_instead_of_reported():
    images, output = make_batch(2)
    perfect = TokenizerOutput(output.encoder, output.quantizer, DecoderOutput(images))
    broken = TokenizerOutput(output.encoder, output.quantizer, DecoderOutput(images * float("nan")))
    results = computed((images, perfect))
    assert results.skipped["psnr"] == Skipped("its value with the ema weights is inf")
    assert results.values["psnr_image_mean"] == 100
    results = computed((images, broken), subject="raw")
    assert results.skipped["psnr"] == Skipped("its value with the raw weights is nan")
    assert not {"psnr", "l1", "ssim"} & {*results.values, *results.cards}
    json.dumps(results.values, allow_nan=False)
