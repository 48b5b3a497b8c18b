"""Checks of an evaluation's settings that need no torch."""

from experiments.config.errors import ConfigError
from experiments.evaluation import metrics


def check_samples(n: int) -> None:
    """Refuse too few samples for the metrics of a feature network, before any is generated.

    Args:
        n: number of samples.

    Raises:
        ConfigError: names the metrics and the smallest number that is enough.
    """
    lacking = [each for each in metrics.SAMPLE_METRICS if each.network and n < each.fewest_images]
    if lacking:
        fewest = max(each.fewest_images for each in lacking)
        names = ", ".join(each.key for each in lacking)
        raise ConfigError("n", n, reason=f"samples are too few for {names}", expected=f"at least {fewest}")
