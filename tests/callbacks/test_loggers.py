"""metrics.csv after its writer was ended by force."""

import pytest

from experiments.callbacks.loggers import MetricsTable

HEAD = "updates,train/loss/reconstruction,val/psnr\n1,0.5,\n2,0.25,\n2,,21.5\n"


@pytest.mark.parametrize("torn", ["3", "3,0.1", "3,0.12", "3,0.125,\n,,\n", "3,0.1,2,4\n", "3\n", "\0\0\0", "x,0.1,\n", "3,0.1x,\n"])
def test_a_torn_row_is_dropped_and_the_rows_before_it_stay(torn, tmp_path):
    file = tmp_path / "metrics.csv"
    file.write_text(HEAD + torn)
    table = MetricsTable(file, resumed_at=2)
    assert file.read_text().splitlines() == HEAD.splitlines()
    table.log_metrics({"train/loss/reconstruction": 0.125}, step=3)
    assert file.read_text().splitlines() == [*HEAD.splitlines(), "3,0.125,"]


def test_a_row_without_its_end_is_dropped_although_it_has_every_column(tmp_path):
    file = tmp_path / "metrics.csv"
    file.write_text(HEAD + "2,,21.")
    MetricsTable(file, resumed_at=2)
    assert file.read_text().splitlines() == HEAD.splitlines()
