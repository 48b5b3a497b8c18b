"""An evaluation beside its numbers."""

from types import SimpleNamespace

import torch

from experiments.evaluation.metrics.tokenizer import TokenizerMetrics
from experiments.evaluation.reconstruction import evaluate
from experiments.evaluation.subjects import Subject
from tokenizer.interfaces import ImageBatch


class Tokens(torch.nn.Module):
    """Takes the first pixels of an image for its two tokens of two groups."""

    def __init__(self, shift: int):
        super().__init__()
        self.shift = shift

    def forward(self, images):
        indices = ((images[:, 0, 0, :4] + 1) * 127.5).round().long().unflatten(1, (2, 2)) + self.shift
        return SimpleNamespace(quantizer=SimpleNamespace(indices=indices), decoder=SimpleNamespace(reconstruction=images))


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
