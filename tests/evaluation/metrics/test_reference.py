"""Reference statistics from loaders and from ADM's files, and the file that keeps them."""

import logging
import pickle

import numpy as np
import pytest
import torch

import experiments.evaluation.metrics.reference as module
from experiments.config.errors import DataError
from experiments.evaluation.metrics.reference import ReferenceStatistics, cached_reference
from tests.evaluation.metrics.extractor import SmallExtractor, random_images
from tokenizer.interfaces import ImageBatch


def loader(images, batch=5, **fields):
    return [ImageBatch(part, torch.zeros(len(part), dtype=torch.long), [""] * len(part), **fields) for part in images.split(batch)]


def from_images(count=12, **options):
    return ReferenceStatistics.from_images(loader(random_images(count), **options), SmallExtractor(), "noise")


def npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def statistics(width, seed=0):
    rows = np.random.default_rng(seed).normal(size=(50, width))
    return rows.mean(0), np.cov(rows, rowvar=False)


def nhwc(images):
    return images.permute(0, 2, 3, 1).numpy()


def test_statistics_of_a_loader_are_those_of_all_its_features():
    reference = from_images()
    features = SmallExtractor()(random_images(12) / 255)
    torch.testing.assert_close(reference.features, features.pool)
    for (mean, covariance), rows in ((reference.moments, features.pool), (reference.spatial, features.spatial)):
        np.testing.assert_allclose(mean, rows.double().mean(0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(covariance, np.cov(rows.double().numpy(), rowvar=False), rtol=1e-5, atol=1e-6)
    assert reference.description == "noise, 12 images"


def test_normalized_images_give_the_same_as_whole_numbers():
    normalized = ReferenceStatistics.from_images(loader(random_images(12).float() / 127.5 - 1), SmallExtractor(), "noise")
    torch.testing.assert_close(normalized.features, from_images().features)


def test_images_that_cannot_be_read_are_named(caplog):
    with caplog.at_level(logging.WARNING):
        from_images(left_out=["bad.png"])
    assert "bad.png" in caplog.text


def test_a_reference_of_one_image_is_refused():
    with pytest.raises(ValueError, match=r"noise, 1 images\) is too small"):
        from_images(1)


def test_a_large_reference_keeps_a_bounded_choice_of_features(monkeypatch):
    monkeypatch.setattr(module, "STORED", 6)
    reference = from_images(20)
    assert reference.features.shape == (6, 6)
    assert reference.description == "noise, 20 images"


def test_images_of_an_npz_give_the_same_as_a_loader(tmp_path):
    reference = ReferenceStatistics.from_npz(npz(tmp_path / "a.npz", arr_0=nhwc(random_images(12)), arr_1=np.arange(12)), SmallExtractor())
    expected = from_images()
    torch.testing.assert_close(reference.features, expected.features)
    torch.testing.assert_close(reference.moments, expected.moments, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(reference.spatial, expected.spatial, rtol=1e-5, atol=1e-6)
    assert reference.description.startswith("a.npz ")
    assert reference.description.endswith("its 12 images")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_statistics_of_an_npz_are_taken_as_they_are_and_its_images_for_features(tmp_path, save):
    (mean, covariance), (mean_s, covariance_s) = statistics(6), statistics(4, seed=1)
    save(tmp_path / "a.npz", arr_0=nhwc(random_images(70)), mu=mean, sigma=covariance, mu_s=mean_s, sigma_s=covariance_s)
    reference = ReferenceStatistics.from_npz(tmp_path / "a.npz", SmallExtractor())
    np.testing.assert_array_equal(reference.moments[0], mean)
    np.testing.assert_array_equal(reference.spatial[1], covariance_s)
    torch.testing.assert_close(reference.features, SmallExtractor()(random_images(70) / 255).pool)  # more than one read
    assert "its mu and sigma, its 70 images" in reference.description


def test_an_npz_of_statistics_alone_has_no_features(tmp_path):
    mean, covariance = statistics(6)
    reference = ReferenceStatistics.from_npz(npz(tmp_path / "a.npz", mu=mean.astype(np.float32), sigma=covariance), SmallExtractor())
    assert reference.features is None
    assert reference.spatial is None
    assert reference.moments[0].dtype == torch.float64


MEAN, COVARIANCE = statistics(6)
WRONG = {
    "neither": ({"other": MEAN}, "it has other; expected images in arr_0, or statistics in mu and sigma"),
    "half": ({"mu": MEAN}, "it has mu alone, expected both mu and sigma"),
    "width": ({"mu": statistics(8)[0], "sigma": statistics(8)[1]}, "the features of small have the width 6"),
    "shape": ({"mu": MEAN, "sigma": COVARIANCE[:3]}, r"\(3, 6\)"),
    "infinite": ({"mu": MEAN * np.inf, "sigma": COVARIANCE}, "not finite"),
    "words": ({"mu": np.array(["a"] * 6), "sigma": COVARIANCE}, "expected numbers"),
    "pickled": ({"mu": np.array([MEAN, None], dtype=object), "sigma": COVARIANCE}, "mu is declared as object"),
    "pickled images": ({"arr_0": np.array([None] * 4, dtype=object)}, "arr_0 is declared as object"),
    "floats": ({"arr_0": nhwc(random_images(4) / 255)}, r"arr_0 is of float32 and the shape \(4, 8, 8, 3\), expected uint8"),
    "channels first": ({"arr_0": random_images(4).numpy()}, r"shape \(4, 3, 8, 8\), expected uint8 \(n, height, width, 3\)"),
}


@pytest.mark.parametrize(("arrays", "message"), WRONG.values(), ids=WRONG)
def test_a_file_of_other_contents_is_refused_in_one_line(tmp_path, arrays, message):
    with pytest.raises(ValueError, match=message) as raised:
        ReferenceStatistics.from_npz(npz(tmp_path / "a.npz", **arrays), SmallExtractor())
    assert "a.npz" in str(raised.value)


def test_a_damaged_an_absent_and_a_foreign_file_are_refused(tmp_path):
    whole = npz(tmp_path / "a.npz", arr_0=nhwc(random_images(12))).read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255  # inside the pixels
    foreign = [whole[: len(whole) // 2], bytes(flipped), b"no zip", pickle.dumps([1])]
    for number, data in enumerate(foreign):
        path = tmp_path / f"{number}.npz"
        path.write_bytes(data)
        with pytest.raises(DataError) as caught:
            ReferenceStatistics.from_npz(path, SmallExtractor())
        assert (caught.value.path, caught.value.key) == (path, "reference")
    with pytest.raises(DataError) as caught:
        ReferenceStatistics.from_npz(tmp_path / "absent.npz", SmallExtractor())
    assert caught.value.key == "reference"


def test_a_file_of_statistics_brings_everything_back(tmp_path):
    reference = from_images()
    reference.save(tmp_path / "inner" / "file.safetensors")
    again = ReferenceStatistics.load(tmp_path / "inner" / "file.safetensors", SmallExtractor())
    assert (again.network, again.description) == (reference.network, reference.description)
    assert torch.equal(again.features, reference.features)
    for name in ("moments", "spatial"):
        assert all(torch.equal(*pair) for pair in zip(getattr(again, name), getattr(reference, name), strict=True))
    assert [path.name for path in (tmp_path / "inner").iterdir()] == ["file.safetensors"]


def test_statistics_are_made_once_for_every_contents_and_network(tmp_path):
    made = []

    def make():
        made.append(1)
        return from_images()

    other = SmallExtractor()
    other.weights = "file 4567"
    for contents, network in (("one", SmallExtractor()), ("one", SmallExtractor()), ("two", SmallExtractor()), ("one", other)):
        cached_reference(contents, network, make, tmp_path)
    assert len(made) == 3


def test_a_damaged_or_foreign_file_of_statistics_is_refused(tmp_path):
    path = tmp_path / "file.safetensors"
    from_images().save(path)
    other = SmallExtractor()
    other.weights = "file 4567"
    with pytest.raises(ValueError, match="was made with small, file 0123, expected small, file 4567; delete it"):
        ReferenceStatistics.load(path, other)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"no file of reference statistics .* delete it"):
        ReferenceStatistics.load(path, SmallExtractor())
