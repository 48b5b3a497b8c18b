"""Base of all metrics: the description of a number on the class, its running sums on the object. Imports no torch.

To add a metric: one class in one file of this package, and one entry in a list of `experiments.evaluation.metrics`. Cards, the table on the
terminal and the columns of sweep files are made from the class.
"""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from experiments.evaluation.results import Skipped

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class RunningSums:
    """Named tensors that batches are added to, on the device of the images.

    Args:
        tensors: zeros, by name.
    """

    def __init__(self, tensors: "dict[str, Tensor]") -> None:
        self.tensors = tensors
        self.joined: dict[str, Tensor] = {}  # over all ranks, set by `join`

    def reset(self) -> None:
        """Return to zero."""
        for tensor in self.tensors.values():
            tensor.zero_()

    def to(self, device: "torch.device | str") -> None:
        """Sum on another device."""
        self.tensors = {name: tensor.to(device) for name, tensor in self.tensors.items()}

    def add(self, name: str, value: "Tensor | float") -> None:
        """Add to one of the tensors."""
        self.tensors[name] += value

    def update(self, batch: Any) -> None:
        """Add a batch that is not empty."""
        raise NotImplementedError

    def join(self) -> None:
        """Add up over all ranks, before values are computed. Every rank must call it."""
        from tokenizer.layers.distributed import sum_over_ranks

        self.joined = {name: sum_over_ranks(tensor) for name, tensor in self.tensors.items()}


class Metric(RunningSums):
    """One number of an evaluation.

    Attributes:
        key: name in results, without the prefix of the subject.
        label: short name in tables.
        unit: of printed values; "%" for values in [0, 1].
        better: the better direction; none where neither is.
        backend: library that computes it, `tessera` for this one.
        network: key of `tokenizer.weights.FILES` of its feature network, None without one.
        resize: how the input of the network or the baseline is resized.
        aggregate: how one number is made from many images.
        dtype: of the computation.
        smallest_side: smallest images in pixels.
        fewest_images: smallest number of images.
        in_terminal: whether the table on the terminal has a row for it.
        of_images: whether it depends on the images alone, so that it is computed for the first of several subjects only.
        totals: names of its scalar sums, float64.
        shared: class of sums that several metrics are computed from; None where `totals` are enough.
    """

    key: ClassVar[str]
    label: ClassVar[str]
    unit: ClassVar[str] = ""
    better: ClassVar[Literal["lower", "higher", "none"]] = "none"
    backend: ClassVar[str] = "tessera"
    network: ClassVar[str | None] = None
    resize: ClassVar[str | None] = None
    aggregate: ClassVar[str] = "mean over images"
    dtype: ClassVar[str] = "float32, sums in float64"
    smallest_side: ClassVar[int] = 1
    fewest_images: ClassVar[int] = 1
    in_terminal: ClassVar[bool] = False
    of_images: ClassVar[bool] = False
    totals: ClassVar[tuple[str, ...]] = ()
    shared: ClassVar[type[RunningSums] | None] = None

    def __init__(self, context: Any, sums: Any = None) -> None:
        """
        Args:
            context: subject and images, see `experiments.evaluation.metrics.metric_set`.
            sums: the one object of the class `shared`.
        """
        import torch

        super().__init__({name: torch.zeros((), dtype=torch.float64) for name in self.totals})
        self.context, self.sums = context, sums
        self.parts: list[RunningSums] = []  # larger sums of this metric alone

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
        """The feature network, on the CPU."""
        raise NotImplementedError

    def reset(self) -> None:
        """Return to zero."""
        super().reset()
        for part in self.parts:
            part.reset()

    def to(self, device: "torch.device | str") -> None:
        """Sum on another device."""
        super().to(device)
        for part in self.parts:
            part.to(device)

    @classmethod
    def make_shared(cls, context: Any) -> RunningSums:
        """The object of `shared` for a set of metrics."""
        make: Any = cls.shared
        sums: RunningSums = make(context)
        return sums

    def update(self, batch: Any) -> None:
        """Add a batch that is not empty; nothing by default, for metrics of `shared` sums."""

    def join(self) -> None:
        """Add up over all ranks."""
        super().join()
        for part in self.parts:
            part.join()

    def compute(self) -> float:
        """The value, from sums that are joined."""
        raise NotImplementedError

    def total(self, name: str) -> float:
        """One of the scalar sums over all ranks."""
        return float(self.joined[name])

    def card(self, n: int) -> dict[str, Any]:
        """Fields of the card of this metric from `n` images; they replace those of the context."""
        fields: dict[str, Any] = self.context.network_fields(self)
        return {**fields, "aggregate": self.aggregate, "dtype": self.dtype}


class ImageMean(Metric):
    """A mean over images: a subclass defines `sum_of`."""

    totals = ("sum", "images")

    def sum_of(self, batch: Any) -> "Tensor":
        """Sum over the images of a batch, float64."""
        raise NotImplementedError

    def update(self, batch: Any) -> None:
        """Add a batch."""
        self.add("sum", self.sum_of(batch))
        self.add("images", len(batch))

    def compute(self) -> float:
        """The mean."""
        return self.total("sum") / self.total("images")
