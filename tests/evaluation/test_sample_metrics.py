"""What judges samples sees them as a file of pictures would hold them."""

import torch
from torch import Tensor

from experiments.evaluation.results import Results, Skipped
from experiments.evaluation.sample_metrics import SampleMetrics


class Listener:
    """Keeps what it is shown."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def update(self, images: Tensor, labels: Tensor) -> None:
        self.seen.append(images)

    def compute(self) -> Results:
        return Results({"class_accuracy": 0.5}, {"class_accuracy": {}})


def test_samples_are_rounded_to_whole_numbers_of_eight_bits():
    listener = Listener()
    metrics = SampleMetrics(None, listener, Results(skipped={"gfid": Skipped("no network")}))
    metrics.update(torch.tensor([0.0, 0.4 / 255, 0.6 / 255, 1.0]).view(1, 1, 2, 2).expand(1, 3, 2, 2), torch.zeros(1))
    assert listener.seen[0][0, 0].flatten().tolist() == torch.tensor([0.0, 0.0, 1 / 255, 1.0]).tolist()
    assert metrics.compute() == Results({"class_accuracy": 0.5}, {"class_accuracy": {}}, {"gfid": Skipped("no network")})
