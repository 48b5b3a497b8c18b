"""Which features the linear probes see."""

from types import SimpleNamespace

import pytest
import torch

from experiments.data.digits import Digits
from experiments.data.transforms import normalize
from experiments.probing import measures
from experiments.probing.candidates import Candidate, TokenizerLocation
from experiments.probing.measures import linear_of_generator, linear_of_tokenizer
from experiments.tokens.cache import TokenCache
from experiments.tokens.crops import EvaluationViews
from tests.merging_tokenizer import merging_tokenizer
from tests.tokens.made_caches import CLASSES, write_cache, write_merged_cache
from tokenizer.interfaces import TokenSpec

LINEAR = {"learning_rate": 0.1, "batch_size": 8, "epochs": 2, "warmup_epochs": 0, "momentum": 0.9, "trust": 0.1, "views": 2}
CONFIG = {"linear": LINEAR, "seed": 0, "batch_size": 4}


class Watched(torch.nn.Module):
    """Replaces a generator and records its calls."""

    width = 16

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.depth = depth
        self.asked = []

    def features(self, batch, block):
        self.asked.append((batch, block, self.training))
        return torch.nn.functional.one_hot(batch.indices[..., 0], 16).float()


@pytest.fixture
def candidate(tmp_path):
    write_cache(tmp_path / "tokens", images=30, val_images=9)
    source = SimpleNamespace(classes=CLASSES, image_size=16, transform="whole", reference="made")
    return Candidate(TokenizerLocation(tmp_path, "a", {}), None, "ema", "", source, TokenSpec(16, 2, 4, (2, 2), "raster", 3))


def test_a_generator_is_asked_without_classes_after_half_of_its_blocks_and_without_dropout(candidate, tmp_path):
    generator = Watched(depth=7).train()
    found = linear_of_generator(candidate, generator, tmp_path / "tokens", "it", CONFIG, torch.device("cpu"))
    assert {(block, training) for _, block, training in generator.asked} == {(3, False)}
    assert all((batch.labels == -1).all() for batch, _, _ in generator.asked)
    assert sum(len(batch.indices) for batch, _, _ in generator.asked) == 2 * 30 + 9
    assert 0 <= found.values["acc1"] <= 1
    assert found.cards["acc1"]["n"] == 9
    assert "after block 3" in found.cards["acc1"]["subject"]


def test_what_has_no_classes_or_no_half_is_left_out_by_name(candidate, tmp_path):
    results = linear_of_generator(candidate, Watched(1), tmp_path / "tokens", "it", CONFIG, torch.device("cpu"))
    assert "one block" in results.skipped["acc1"].reason
    for classes in (None, ["one"]):
        candidate.source.classes = classes
        found = linear_of_generator(candidate, Watched(4), tmp_path / "tokens", "it", CONFIG, torch.device("cpu"))
        assert "fewer than two classes" in found.skipped["acc1"].reason


def test_the_features_of_every_image_stay_beside_its_label(candidate, tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(measures, "linear_accuracy", lambda train, val, classes, settings: seen.update(train=train, val=val) or 0.5)
    stored = TokenCache(tmp_path / "tokens")
    linear_of_generator(candidate, Watched(4), tmp_path / "tokens", "it", CONFIG, torch.device("cpu"))
    for split in ("train", "val"):
        indices, labels = (torch.from_numpy(stored.array(f"{split}/{name}").astype(int)) for name in ("indices", "labels"))
        expected = torch.nn.functional.one_hot(indices[:, :2, :, 0], 16).float().mean(2)
        torch.testing.assert_close(seen[split][0], expected if split == "train" else expected[:, 0])
        assert torch.equal(seen[split][1], labels)


def test_a_generator_reads_the_assignment_of_every_view_of_merged_tokens(candidate, tmp_path):
    arrays = write_merged_cache(tmp_path / "merged", images=9)
    generator = Watched(4)
    linear_of_generator(candidate, generator, tmp_path / "merged", "it", CONFIG, torch.device("cpu"))
    for name, array in (("indices", arrays["train/indices"]), ("assignment", arrays["train/assignment"])):
        read = torch.cat([getattr(batch, name, getattr(batch.layout, name, None)) for batch, _, _ in generator.asked])
        assert torch.equal(read[:18], torch.from_numpy(array.astype(int)).flatten(0, 1)), name


def test_a_tokenizer_is_probed_at_the_width_of_its_encoder_not_of_its_latents(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(measures, "linear_accuracy", lambda train, val, classes, settings: seen.update(train=train, val=val) or 0.5)
    model, source = merging_tokenizer(width=12), Digits(32)
    candidate = Candidate(TokenizerLocation(tmp_path, "a", {}), model, "ema", "", source, model.tokens(32, 10))
    config = {**CONFIG, "batch_size": 500, "workers": 0}
    card = linear_of_tokenizer(candidate, EvaluationViews(source.val), config, torch.device("cpu")).cards["acc1"]
    assert "before the projection" in card["subject"]
    images = normalize(torch.stack([source.val[index].image for index in range(5)]))
    with torch.no_grad():
        output = model.encoder(images)
    assert (output.latents.shape, output.features["tokens"].shape) == ((5, 8, 4), (5, 8, 12))
    for split, features in (("train", seen["train"][0][:5, 0]), ("val", seen["val"][0][:5])):
        torch.testing.assert_close(features, output.features["tokens"].mean(1), msg=split)


def test_images_without_a_label_are_left_out():
    features, labels = measures._with_labels((torch.arange(6.0).view(3, 2, 1), torch.tensor([1, -1, 0])))
    assert (features.flatten().tolist(), labels.tolist()) == ([0, 1, 4, 5], [1, 0])


@pytest.mark.parametrize(("labels", "counts"), [([0, -1, 1, -1], "2 of 4 training and 3 of 3 evaluation"), ([0, 1, 1, 2], "")])
def test_an_accuracy_counts_the_images_without_a_label(candidate, labels, counts, caplog):
    train = torch.randn(4, 2, 5), torch.tensor(labels)
    val = torch.randn(3, 1, 5), torch.tensor([0, 1, 2])
    card = measures._accuracy(candidate, train, val, "features", CONFIG).cards["acc1"]
    assert card["n"] == 3
    assert card["aggregate"].endswith(f"; {counts} images have a label" if counts else "models in eval mode")
    assert [record.args for record in caplog.records] == [("a", f"{counts} images have a label")] * bool(counts)
