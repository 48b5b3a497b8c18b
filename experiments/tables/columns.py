"""The columns of a table: metrics with their labels. Imports neither torch nor Hydra."""

from typing import Any, Literal, Self

from experiments.config.errors import ConfigError, nearest
from experiments.config.validation import StrictModel
from experiments.evaluation import metrics
from experiments.evaluation.metrics.metric import Metric
from experiments.tables.fields import Text

BITS_PER_TOKEN = "val/bits_per_token"  # measured for every table: the same vocabulary is not the same rate


class Column(StrictModel):
    """A metric of the table."""

    key: Text  # of a result, such as val/rfid or probe/gfid; `val_NAME/rfid` is that of the evaluation NAME, `probe_NAME/gfid` of a probe
    label: Text  # as the table's head prints it
    unit: str = ""  # of the printed cells; "%" for values that results hold in [0, 1], "M" for counts in millions
    better: Literal["lower", "higher", "none"] = "none"

    @property
    def factor(self) -> float:
        """Factor from the unit of results to the unit of the printed cells."""
        return {"%": 100.0, "M": 1e-6}.get(self.unit, 1.0)

    @classmethod
    def of_metric(cls, metric: type[Metric], prefix: str) -> Self:
        """The column of a metric class."""
        return cls(key=f"{prefix}/{metric.key}", label=metric.label, unit=metric.unit, better=metric.better)


def known_columns() -> dict[str, Column]:
    """Columns that a file may name by their key alone: of every metric class, of the probe called `probe`, and the size of the model."""
    columns = [Column.of_metric(each, "val") for each in (*metrics.LIKELIHOOD_METRICS, *metrics.METRICS)]
    columns += [Column.of_metric(each, "probe") for each in (*metrics.LIKELIHOOD_METRICS, *metrics.SAMPLE_METRICS)]
    columns += [
        Column(key="probe/guidance", label="scale"),
        Column(key="probe/acc1", label="AR top-1", unit="%", better="higher"),
        Column(key="probe/tokenizer_acc1", label="tokenizer top-1", unit="%", better="higher"),
        Column(key="model/parameters", label="parameters", unit="M"),
    ]
    return {column.key: column for column in columns}


def labeled(entry: Any) -> Any:
    """A metric by its key alone has the label that the field gives it."""
    if isinstance(entry, str):
        if entry not in known_columns():
            expected = "a metric with a known label, or {key: ..., label: ...}"
            raise ConfigError("key", entry, expected=expected, nearest=nearest(entry, known_columns()))
        return known_columns()[entry]
    return entry
