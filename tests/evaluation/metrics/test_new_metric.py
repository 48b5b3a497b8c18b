"""A new metric is one class and one entry in a list."""

import types

import pytest
import torch

from experiments.evaluation import metrics
from experiments.evaluation.metrics.metric import ImageMean
from experiments.evaluation.metrics.tokenizer import TokenizerMetrics
from experiments.evaluation.results_table import show
from experiments.tables.columns import known_columns
from tokenizer.interfaces import DecoderOutput, EncoderOutput, QuantizerOutput, TokenizerOutput, TokenLayout


class CenterError(ImageMean):
    """Mean absolute error in the central quarter of each image."""

    key, label, unit, better = "l1_center", "L1 in the center", "%", "lower"
    smallest_side = 4
    in_terminal = True

    def sum_of(self, batch):
        side = batch.errors.shape[-1]
        center = slice(side // 4, side - side // 4)
        return batch.errors[..., center, center].abs().mean((1, 2, 3), dtype=torch.float64).sum()


@pytest.fixture
def one_more(monkeypatch):
    monkeypatch.setattr(metrics, "METRICS", [*metrics.METRICS, CenterError])


def results(size=8):
    images, reconstruction = torch.zeros(3, 3, size, size), torch.zeros(3, 3, size, size)
    reconstruction[:, :, size // 4 : size - size // 4, size // 4 : size - size // 4] = 0.5  # 0.25 in [0, 1]
    reconstruction[2] = 0
    latents, indices = torch.zeros(3, 4, 2), torch.zeros(3, 4, 1, dtype=torch.long)
    output = TokenizerOutput(
        EncoderOutput(latents, TokenLayout((2, 2))),
        QuantizerOutput(latents, indices, latents.unsqueeze(2)),
        DecoderOutput(reconstruction),
    )
    quantizer = types.SimpleNamespace(groups=1, codebook_size=4, bits_per_token=2.0)
    running = TokenizerMetrics(quantizer, 2, size, "ema", seed=0, transform="whole", reference="made")
    running.update(images, output)
    return running.compute()


def test_a_new_metric_is_in_values_cards_terminal_and_sweep_columns(one_more, capsys):
    found = results()
    assert found.values["l1_center"] == pytest.approx(0.25 * 2 / 3)
    card = found.cards["l1_center"]
    assert (card["metric"], card["backend"], card["n"], card["aggregate"]) == ("l1_center", "tessera", 3, "mean over images")
    show({"metrics": {f"val/{name}": value for name, value in found.values.items()}, "cards": {"val/l1_center": card}})
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "l1_center" in line]
    assert [cell.strip() for cell in row.split("│")[1:-1]] == ["l1_center", "16.67 %", "3"]
    column = known_columns()["val/l1_center"]
    assert (column.label, column.unit, column.better) == ("L1 in the center", "%", "lower")


def test_a_new_metric_is_skipped_by_its_own_limits(one_more):
    assert "at least 4 pixels" in results(size=2).skipped["l1_center"].reason
