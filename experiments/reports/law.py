"""The scaling law of GSQ's figure 4, fitted: rFID = B / log2(V)^a + C * D^b, of codebook size V and latent width D.

Paper: Wang et al. 2024, arXiv:2412.02632, figure 4. Its logarithm is to the base 2: only so do its coefficients give its points.
scipy is imported only where something is fitted.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from experiments.reports.measured import MeasuredRow
from experiments.tables.claims import Operand
from experiments.tables.fields import number
from experiments.tables.sweep_file import SweepFile

START = (400.0, 2.8, 0.15, 0.2)
FEWEST_POINTS = 5  # the law has four coefficients

Point = tuple[float, float, float]  # V, D, rFID


@dataclass(frozen=True)
class Law:
    """The coefficients of the law."""

    B: float
    a: float
    C: float
    b: float

    def __call__(self, codebook_size: float, latent_dim: float) -> float:
        """The rFID that the law expects."""
        return float(self.B / math.log2(codebook_size) ** self.a + self.C * latent_dim**self.b)

    def errors(self, points: Sequence[Point]) -> list[float]:
        """Relative errors, each at least 0."""
        return [abs(self(size, width) - value) / value for size, width, value in points]

    def describe(self, points: Sequence[Point]) -> str:
        """Coefficients, and how far the points are from the law."""
        errors = self.errors(points)
        text = f"B {self.B:.2f}, a {self.a:.4f}, C {self.C:.4f}, b {self.b:.4f}"
        return f"{text}; relative error {sum(errors) / len(errors):.1%} in the mean, {max(errors):.1%} at most, {len(points)} points"


def fit(points: Sequence[Point]) -> Law:
    """The law with the smallest sum of squared errors.

    Raises:
        ValueError: there are too few points.
    """
    if len(points) < FEWEST_POINTS:
        raise ValueError(f"the law of {len(points)} points: expected at least {FEWEST_POINTS}")
    from scipy.optimize import least_squares

    def residuals(coefficients: Sequence[float]) -> list[float]:
        law = Law(*coefficients)
        return [law(size, width) - value for size, width, value in points]

    bounds = ([0.0, 0.0, 0.0, -5.0], [1e6, 10.0, 1e3, 5.0])
    best = least_squares(residuals, START, bounds=bounds, x_scale=START, max_nfev=5000, ftol=1e-12, xtol=1e-12, gtol=1e-12)
    return Law(*(float(value) for value in best.x))


def points_of(sweep: SweepFile, values: Mapping[Operand, float]) -> list[Point]:
    """The points of a figure whose `plot` names the labels of V (`x`) and D (`series`) and the metric (`y`).

    Args:
        sweep: the file.
        values: in the unit of results; rows without one are left out.
    """
    assert sweep.plot is not None
    x, series = sweep.labels.index(sweep.plot.x), sweep.labels.index(sweep.plot.series)
    points = []
    for row in sweep.runs:
        size, width, value = number(row.label[x]), number(row.label[series]), values.get((row.name, sweep.plot.y))
        if size is not None and width is not None and value is not None:
            points.append((size, width, value))
    return points


def fitted(sweep: SweepFile, rows: Sequence[MeasuredRow], published: Mapping[Operand, float]) -> dict[str, tuple[Law, list[Point]]]:
    """The published law, the law of the printed cells and that of the measured numbers, each with its points, where present.

    Args:
        sweep: the file of the figure.
        rows: as measured.
        published: the printed cells, in the unit of results.
    """
    assert sweep.plot is not None
    printed = points_of(sweep, published)
    means = {(row.row.name, sweep.plot.y): mean.value for row in rows if (mean := row.mean(sweep.plot.y))}
    measured = points_of(sweep, means)
    laws = {}
    if sweep.plot.law and printed:
        laws["published law, published points"] = (Law(**sweep.plot.law.model_dump()), printed)
    for name, points in (("fitted to published points", printed), ("fitted to measured points", measured)):
        if len(points) >= FEWEST_POINTS:
            laws[name] = (fit(points), points)
    return laws


def spaced(first: float, last: float, count: int = 50) -> list[float]:
    """Codebook sizes between two, in equal factors."""
    return [first * (last / first) ** (step / (count - 1)) for step in range(count)]
