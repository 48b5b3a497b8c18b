"""Base of all metrics: the description of a number on the class, its running sums on the object. Imports no torch.

To add a metric: one class in one file of this package, and one entry in a list of `experiments.evaluation.metrics`. Cards, the table on the
terminal and the columns of sweep files are made from the class.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from experiments.evaluation.results import Skipped

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from experiments.evaluation.metrics.inception import FeatureExtractor


class RunningSums:
    """Named tensors that batches are added to, on the device of the images.

    Args:
        tensors: zeros, by name.
        parts: other sums, which are reset, moved and joined with these.
    """

    def __init__(self, tensors: "dict[str, Tensor]", parts: "Sequence[RunningSums]" = ()) -> None:
        self.tensors, self.parts = tensors, parts
        self.joined: dict[str, Tensor] = {}  # over all ranks, set by `join`

    def reset(self) -> None:
        """Return to zero."""
        for tensor in self.tensors.values():
            tensor.zero_()
        for part in self.parts:
            part.reset()

    def to(self, device: "torch.device | str") -> None:
        """Sum on another device."""
        self.tensors = {name: tensor.to(device) for name, tensor in self.tensors.items()}
        for part in self.parts:
            part.to(device)

    def add(self, name: str, value: "Tensor | float") -> None:
        """Add to one of the tensors."""
        self.tensors[name] += value

    def update(self, batch: Any) -> None:
        """Add a batch that is not empty; nothing by default, for metrics of `shared` sums."""

    def join(self) -> None:
        """Add up over all ranks, before values are computed. Every rank must call it."""
        from tokenizer.layers.distributed import sum_over_ranks

        self.joined = {name: sum_over_ranks(tensor) for name, tensor in self.tensors.items()}
        for part in self.parts:
            part.join()


class Metric(RunningSums):
    """One number of an evaluation."""

    key: ClassVar[str]  # name in results, without the prefix of the subject
    label: ClassVar[str]  # short name in tables
    unit: ClassVar[str] = ""  # of printed values; "%" for values in [0, 1]
    better: ClassVar[Literal["lower", "higher", "none"]] = "none"  # the better direction
    backend: ClassVar[str] = "tessera"  # library that computes it, `tessera` for this one
    network: ClassVar[str | None] = None  # key of `tokenizer.weights.FILES` of its feature network
    resize: ClassVar[str | None] = None  # of the input of the network or the baseline
    aggregate: ClassVar[str] = "mean over images"  # how one number is made from many images
    dtype: ClassVar[str] = "float32, sums in float64"  # of the computation
    smallest_side: ClassVar[int] = 1  # of images in pixels
    fewest_images: ClassVar[int] = 1
    in_terminal: ClassVar[bool] = False  # whether the table on the terminal has a row for it
    of_images: ClassVar[bool] = False  # depends on the images alone: computed for the first of several subjects only
    totals: ClassVar[tuple[str, ...]] = ()  # names of its scalar sums, float64
    shared: ClassVar[type[RunningSums] | None] = None  # class of sums that several metrics are computed from

    def __init__(self, context: Any, sums: Any = None) -> None:
        """
        Args:
            context: the set of metrics, see `experiments.evaluation.metrics.metric_set`.
            sums: the one object of the class `shared`.
        """
        import torch

        super().__init__({name: torch.zeros((), dtype=torch.float64) for name in self.totals})
        self.context, self.sums = context, sums

    @classmethod
    def applies(cls, context: Any) -> bool:
        """Whether the metric has a meaning for this data; one without is left out silently."""
        return True

    @classmethod
    def side_needed(cls, context: Any) -> int:
        """Smallest images in pixels."""
        return cls.smallest_side

    @classmethod
    def why_absent(cls, context: Any) -> Skipped | None:
        """Why the metric cannot be computed here, whatever the number of images."""
        side = cls.side_needed(context)
        if context.image_size < side:
            return Skipped(f"{cls.key} needs images of at least {side} pixels, image_size is {context.image_size}")
        missing: Skipped | None = context.why_no_network(cls) if cls.network else None
        return missing

    @classmethod
    def load_network(cls) -> "nn.Module":
        """The feature network of a metric of reconstructions, on the CPU."""
        raise NotImplementedError

    @classmethod
    def load_extractor(cls, device: "torch.device") -> "FeatureExtractor":
        """The feature network of a metric of samples.

        Raises:
            MissingWeightsError: its file is not on this machine.
            ValueError: it is damaged or of another network.
        """
        raise NotImplementedError

    @classmethod
    def make_shared(cls, context: Any) -> RunningSums:
        """The object of `shared` for a set of metrics."""
        make: Any = cls.shared
        sums: RunningSums = make(context)
        return sums

    def compute(self) -> float:
        """The value, from sums that are joined."""
        raise NotImplementedError

    def total(self, name: str) -> float:
        """One of the scalar sums over all ranks."""
        return float(self.joined[name])

    def card(self, n: int) -> dict[str, Any]:
        """Fields of the card of this metric from `n` images; they replace those of the set."""
        fields: dict[str, Any] = self.context.network_fields(self)
        return {**fields, "aggregate": self.aggregate, "dtype": self.dtype}


class ImageMean(Metric):
    """A mean over images: a subclass defines `sum_of`."""

    totals = ("sum", "count")

    def sum_of(self, batch: Any) -> "Tensor":
        """Sum over the images of a batch, float64."""
        raise NotImplementedError

    def count_of(self, batch: Any) -> int:
        """What the sum is divided by."""
        return len(batch)

    def update(self, batch: Any) -> None:
        self.add("sum", self.sum_of(batch))
        self.add("count", self.count_of(batch))

    def compute(self) -> float:
        return self.total("sum") / self.total("count")
