"""How many samples the metrics of generated pictures need. Imports no torch: a verb asks before it generates."""

from collections.abc import Iterable

FEWEST_SAMPLES = {"gfid": 2, "sfid": 2, "inception_score": 20, "precision": 4, "recall": 4}
"""A covariance needs two, each of the score's ten splits too, and a ball to the third neighbour needs four."""


def check_samples(n: int, metrics: Iterable[str] = FEWEST_SAMPLES) -> None:
    """Refuse too few samples before any is made.

    Args:
        n: samples to be made.
        metrics: keys of `FEWEST_SAMPLES`.

    Raises:
        ValueError: as said; names n, the metrics and the fewest that will do.
    """
    lacking = [name for name in metrics if n < FEWEST_SAMPLES[name]]
    if lacking:
        fewest = max(FEWEST_SAMPLES[name] for name in lacking)
        raise ValueError(f"n={n}: samples are too few for {', '.join(lacking)}; expected at least {fewest}; change `n`")


def too_few(metric: str, n: int) -> str | None:
    """Why a metric cannot be computed from n samples, None if it can."""
    fewest = FEWEST_SAMPLES[metric]
    return f"{metric} needs at least {fewest} images, {n} were generated" if n < fewest else None
