"""What an evaluation hands on beside its numbers."""

from types import SimpleNamespace

import torch

from experiments.evaluation.metrics.codebook import CodebookCounts
from experiments.evaluation.metrics.tokenizer import Results
from experiments.evaluation.reconstruction import Subject, evaluate
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
    codebook = CodebookCounts(2, 5) if counted else None
    metrics = SimpleNamespace(
        codebook=codebook,
        reset=lambda: codebook and codebook.reset(),
        update=lambda images, output: codebook and codebook.update(output.quantizer.indices),
        compute=lambda: Results({"psnr": 20.0}, {"psnr": {"n": 2}}),
    )
    return Subject(prefix, Tokens(shift), metrics)


def batches() -> list[ImageBatch]:
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    images[0, 0, 0], images[1, 0, 0] = torch.tensor([0, 1, 0, 2]), torch.tensor([3, 1, 0, 1])
    return [ImageBatch(images[i : i + 1], torch.tensor([-1]), [str(i)]) for i in range(2)]


def test_the_counts_are_the_first_subjects_by_group_and_stay_when_it_forgets():
    judged = [subject("val", 0), subject("val_raw", 1)]
    evaluation = evaluate(judged, batches(), torch.device("cpu"))
    judged[0].metrics.reset()
    assert evaluation.counts.tolist() == [[3, 0, 0, 1, 0], [0, 3, 1, 0, 0]]


def test_there_are_no_counts_of_codes_that_are_not_counted():
    assert evaluate([subject("val", 0, counted=False)], batches(), torch.device("cpu")).counts is None
