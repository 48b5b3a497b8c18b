"""A list of metrics over one set of images: which can be computed, their running values, their cards."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from experiments.evaluation.cards import Card, library
from experiments.evaluation.metrics.metric import Metric, RunningSums
from experiments.evaluation.results import Results, Skipped
from tokenizer.layers.distributed import sum_over_ranks, world_size
from tokenizer.weights import FILES


class MetricSet:
    """Running values of several metrics; no `nn.Module`, so that networks stay out of checkpoints, optimizers and EMA.

    Everything is summed where the images are and read once, in `compute`, over all ranks. The set is the context of its metrics: a subclass
    sets what they read of subject and reference before it calls this constructor.

    Args:
        classes: the metrics.
        image_size: side of the images in pixels.
        card_fields: fields that the cards of all metrics share, beside `image_size`.
    """

    verb = "evaluated"  # what happened to the images, for messages

    def __init__(self, classes: Sequence[type[Metric]], image_size: int, card_fields: dict[str, Any]) -> None:
        self.image_size = image_size
        self.card_fields = {"image_size": image_size, "guidance": None, "losses": None, **card_fields}
        self.listed = [each for each in classes if each.applies(self)]
        absent = {each.key: each.why_absent(self) for each in self.listed}
        self.absent = {key: skipped for key, skipped in absent.items() if skipped is not None}
        present = [each for each in self.listed if each.key not in self.absent]
        self.shared = {each.shared: each.make_shared(self) for each in present if each.shared}
        self.metrics = [each(self, self.shared[each.shared] if each.shared else None) for each in present]
        self.count = RunningSums({"images": torch.zeros((), dtype=torch.float64)})
        self.parts = [self.count, *self.shared.values(), *self.metrics]
        self.device = torch.device("cpu")

    def why_no_network(self, metric: type[Metric]) -> Skipped | None:
        """Why the feature network of a metric cannot be used."""
        return None

    def network_fields(self, metric: Metric) -> dict[str, Any]:
        """Fields of the card about library and network."""
        backend = metric.backend if metric.backend == "tessera" else library(metric.backend)
        return {"backend": backend, "network": metric.network, "weights": None, "resize": metric.resize}

    def reset(self) -> None:
        """Forget all images; networks stay loaded."""
        for part in self.parts:
            part.reset()

    @torch.no_grad()
    def add(self, batch: Any) -> None:
        """Add a batch with a length and a `device`, in fp32 whatever the precision around it."""
        if not len(batch):
            return
        if batch.device != self.device:
            self.device = batch.device
            for part in self.parts:
                part.to(self.device)
        self.count.add("images", len(batch))
        with torch.autocast(self.device.type, enabled=False):
            for part in self.parts:
                part.update(batch)

    @torch.no_grad()
    def compute(self) -> Results:
        """All metrics over the images of all ranks; every rank must call it. Computing twice gives the same."""
        self.count.join()
        n = round(float(self.count.joined["images"]))
        skipped = self._absent_on_any_rank()
        few = [each for each in self.metrics if n < each.fewest_images and each.key not in skipped]
        skipped |= {each.key: Skipped(self._too_few(each, n)) for each in few}
        present = [each for each in self.metrics if each.key not in skipped]
        for part in dict.fromkeys([*(each.sums for each in present if each.shared), *present]):
            part.join()
        values = {each.key: each.compute() for each in present}
        subject = self.card_fields["subject"]
        wrong = {key: value for key, value in values.items() if not math.isfinite(value)}
        skipped |= {key: Skipped(f"its value with the {subject} weights is {value}") for key, value in wrong.items()}
        values = {key: value for key, value in values.items() if key not in wrong}
        return Results(values, {each.key: self._card(each, n) for each in present if each.key in values}, skipped)

    def _too_few(self, metric: Metric, n: int) -> str:
        if n == 0:
            return f"no image was {self.verb}"
        return f"{metric.key} needs at least {metric.fewest_images} images, {n} were {self.verb}"

    def _absent_on_any_rank(self) -> dict[str, Skipped]:
        """The absent metrics of all ranks: they must agree before they add up."""
        present = torch.tensor([float(each.key not in self.absent) for each in self.listed], device=self.device)
        counts = sum_over_ranks(present).tolist()
        lacking = [each for each, count in zip(self.listed, counts, strict=True) if count < world_size()]
        return {each.key: self.absent.get(each.key) or self._elsewhere(each) for each in lacking}

    @staticmethod
    def _elsewhere(metric: type[Metric]) -> Skipped:
        if metric.network is None:
            return Skipped("it cannot be computed on another machine")
        return Skipped(f"{FILES[metric.network].filename} is absent on another machine", metric.network)

    def _card(self, metric: Metric, n: int) -> dict[str, Any]:
        return Card(**{**self.card_fields, "metric": metric.key, "n": n, **metric.card(n)}).to_dict()
