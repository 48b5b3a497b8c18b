"""An evaluation beside its numbers."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from experiments.data.transforms import normalize
from experiments.evaluation.metrics.tokenizer import TokenizerMetrics
from experiments.evaluation.reconstruction import evaluate
from experiments.evaluation.subjects import Subject, make_subject
from tests.merging_tokenizer import merging_tokenizer
from tokenizer.interfaces import ImageBatch, TokenLayout


class Tokens(torch.nn.Module):
    """Takes the first pixels of an image for its two tokens of two groups."""

    def __init__(self, shift: int):
        super().__init__()
        self.shift = shift

    def forward(self, images, num_tokens=None):
        indices = ((images[:, 0, 0, :4] + 1) * 127.5).round().long().unflatten(1, (2, 2)) + self.shift
        parts = {"indices": indices, "reconstruction": images, "layout": TokenLayout((2, 1))}
        return SimpleNamespace(**dict.fromkeys(("encoder", "quantizer", "decoder"), SimpleNamespace(**parts)))


def subject(prefix: str, shift: int, counted: bool = True) -> Subject:
    quantizer = SimpleNamespace(groups=2, codebook_size=5 if counted else 2**25, bits_per_token=1.0)
    return Subject(prefix, Tokens(shift), TokenizerMetrics(quantizer, 2, 4, "ema", 0, "whole", "two images"))


def batches() -> list[ImageBatch]:
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    images[0, 0, 0], images[1, 0, 0] = torch.tensor([0, 1, 0, 2]), torch.tensor([3, 1, 0, 1])
    return [ImageBatch(images[i : i + 1], torch.tensor([-1]), [str(i)]) for i in range(2)]


def test_the_counts_are_the_first_subjects_by_group_and_stay_when_it_forgets():
    subjects = [subject("val", 0), subject("val_raw", 1)]
    evaluation = evaluate(subjects, batches(), torch.device("cpu"))
    subjects[0].metrics.reset()
    assert evaluation.counts.tolist() == [[3, 0, 0, 1, 0], [0, 3, 1, 0, 0]]


def test_there_are_no_counts_of_codes_that_are_not_counted():
    assert evaluate([subject("val", 0, counted=False)], batches(), torch.device("cpu")).counts is None


SOURCE = SimpleNamespace(image_size=32, transform="whole", reference="five images")
CPU = torch.device("cpu")


def image_batches() -> list[ImageBatch]:
    images = torch.randint(256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return [ImageBatch(part, torch.full((len(part),), -1), [""] * len(part)) for part in images.split(3)]


def at_counts(model, *counts: int | None) -> list[Subject]:
    """A subject for each number of tokens over one model."""
    subjects: list[Subject] = []
    for count in counts:
        cache = subjects[0].metrics.cache if subjects else None
        subjects.append(make_subject(f"val_{count}", model, SOURCE, 0, "ema", None, cache, count))
    return subjects


def test_several_numbers_of_tokens_of_one_model_are_evaluated_in_one_pass():
    """Each has the numbers and cards of an evaluation of its own; what depends on the images alone is computed once."""
    model, given = merging_tokenizer(), iter(image_batches())
    together = evaluate(at_counts(model, 4, 16), given, CPU)
    assert next(given, None) is None
    for count in (4, 16):
        alone = evaluate(at_counts(model, count), image_batches(), CPU)
        assert alone.cards[f"val_{count}/psnr"]["num_tokens"] == count
        for name in alone.values:
            if not name.endswith("psnr_bicubic"):
                assert (together.values[name], together.cards[name]) == (alone.values[name], alone.cards[name])
    assert [name for name in together.values if "bicubic" in name] == ["val_4/psnr_bicubic"]
    assert together.values["val_4/psnr"] != together.values["val_16/psnr"]


def test_without_a_number_the_encoder_decides_and_the_card_names_none():
    model = merging_tokenizer()
    own, same = (evaluate(at_counts(model, count), image_batches(), CPU) for count in (None, 8))
    assert own.values["val_None/psnr"] == same.values["val_8/psnr"]
    assert "num_tokens" not in own.cards["val_None/psnr"]


def test_the_rate_of_merged_tokens_has_the_codes_and_the_assignment():
    """5 tokens of 2 x 4 bits, and log2 5 bits for each of the 16 cells."""
    evaluation = evaluate(at_counts(merging_tokenizer(), 5), image_batches(), CPU)
    assert evaluation.values["val_5/bits_per_pixel"] == pytest.approx((5 * 8 + 16 * 2.321928) / 32**2)
    assert "assignment" in evaluation.cards["val_5/bits_per_pixel"]["aggregate"]
    raster = evaluate([subject("val", 0)], batches(), CPU)
    assert "assignment" not in raster.cards["val/bits_per_pixel"]["aggregate"]


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_a_model_with_several_subjects_returns(training):
    model = merging_tokenizer().train(training)
    modes: list[bool] = []
    model.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    evaluate(at_counts(model, 4, 8), image_batches(), CPU)
    assert modes == [False] * 4
    assert model.training is training


def test_the_preview_is_the_first_subjects():
    model = merging_tokenizer()
    evaluation = evaluate(at_counts(model, 4, 16), image_batches()[:1], CPU)
    expected = model(normalize(image_batches()[0].images), 4).decoder.reconstruction
    torch.testing.assert_close(evaluation.reconstructions, expected)


def test_a_rank_without_images_calls_its_models_as_often_as_the_others_and_counts_nothing():
    """With sharded models a forward pass is collective. Its own batch was empty, or none of its images could be read."""
    whole = image_batches()
    empty = ImageBatch(whole[0].images[:0], whole[0].labels[:0], [], left_out=["broken"])
    calls, evaluations = [], []
    for given in (whole, [whole[0], empty], [empty, whole[0]], [whole[0]]):
        model, seen = merging_tokenizer(), []
        model.register_forward_pre_hook(lambda module, arguments, seen=seen: seen.append(arguments[1]))
        evaluations.append(evaluate(at_counts(model, 4, 8), given, CPU))
        calls.append(seen)
    assert calls == [[4, 8, 4, 8]] * 3 + [[4, 8]]
    for evaluation in evaluations[1:3]:
        assert (evaluation.values, evaluation.cards) == (evaluations[3].values, evaluations[3].cards)
        assert torch.equal(evaluation.images, evaluations[3].images)
        assert torch.equal(evaluation.counts, evaluations[3].counts)
        assert evaluation.unreadable == ["broken"]


def test_models_run_in_full_precision_and_settings_return_afterwards():
    seen, model = [], Tokens(0)
    model.register_forward_pre_hook(lambda module, inputs: seen.append(torch.get_float32_matmul_precision()))
    one = subject("val", 0)
    torch.set_float32_matmul_precision("medium")
    try:
        evaluate([replace(one, model=model)], batches(), CPU)
        after = torch.get_float32_matmul_precision()
    finally:
        torch.set_float32_matmul_precision("highest")
    assert (seen, after) == (["highest", "highest"], "medium")
