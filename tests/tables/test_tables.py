"""The GSQ paper's tables: as many rows as it prints, its cells and conclusions as it prints them, its settings at scale=paper."""

import re
from math import prod

import pytest
import torch
from PIL import Image

from experiments.config.files import ConfigFolders
from experiments.config.packages import CONF
from experiments.runs.build import build
from experiments.sweeps.jobs import Job, compose_jobs
from experiments.tables.reading import read_sweep
from experiments.tables.sweep_file import SweepFile

ROWS = {  # rows that are run, rows that are quoted
    "gsq/figure01b_latent_dim": (10, 0),
    "gsq/figure02_quantizers": (5, 0),
    "gsq/figure03_networks": (8, 0),
    "gsq/figure04_law": (20, 1),
    "gsq/figure05_f16_latent_dim": (4, 0),
    "gsq/table01_codebook": (5, 0),
    "gsq/table02_codebook_losses": (5, 0),
    "gsq/table03_decoder": (4, 0),
    "gsq/table04_perceptual": (14, 0),
    "gsq/table05_adam": (10, 0),
    "gsq/table06_schedules": (6, 0),
    "gsq/table07_discriminators": (13, 1),
    "gsq/table08_augmentation": (4, 0),
    "gsq/table09_gan_betas": (15, 0),
    "gsq/table10_batch": (7, 0),
    "gsq/table11_regularisation": (12, 0),
    "gsq/table12_architecture": (7, 1),
    "gsq/table13_groups": (16, 1),
    "gsq/table14_comparison": (7, 16),
}
WITHOUT_NUMBERS = {"gsq/figure02_quantizers", "gsq/figure05_f16_latent_dim"}


class NotPrintedError(Exception):
    """A claim asks for a cell that the paper does not print."""


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("images")
    Image.new("RGB", (8, 8)).save(folder / "one.png")
    return f"data.root={folder}"


def paper_job(name: str, row: str, images: str) -> Job:
    (job,) = compose_jobs(read_sweep(name, CONF), "paper", [0], [images], [row])
    return job


def meant(sweep: SweepFile) -> dict[str, dict[str, str]]:
    """The printed cells, misprints corrected, by row and column key."""
    return {
        row.name: {
            column.key: row.corrections[column.key].cell if column.key in row.corrections else cell
            for column, cell in zip(sweep.columns, sweep.cells(row), strict=True)
            if cell is not None
        }
        for row in sweep.rows
    }


def in_units_of_results(sweep: SweepFile) -> dict[str, dict[str, float]]:
    """The same as numbers."""
    factors = {column.key: column.factor for column in sweep.columns}
    return {name: {key: float(cell) / factors[key] for key, cell in cells.items()} for name, cells in meant(sweep).items()}


def evaluate(when: str, values: dict[str, dict[str, float]]) -> bool:
    """A predicate as plain Python, a second opinion on the report's own reader."""

    class Cells(dict):
        def __missing__(self, key):
            raise NotPrintedError(key)

    return eval(when, {"__builtins__": {}}, {"row": lambda name: Cells(values[name]), "min": min, "max": max, "abs": abs})


def test_every_table_and_figure_is_there_with_the_rows_that_the_paper_prints():
    sweeps = [read_sweep(name, CONF) for name in ConfigFolders(CONF).choices("sweep") if name.startswith("gsq/")]
    assert {sweep.name: (len(sweep.runs), len(sweep.rows) - len(sweep.runs)) for sweep in sweeps} == ROWS


@pytest.mark.parametrize("name", ROWS)
def test_printed_cells_are_numbers_and_row_names_are_plain(name):
    sweep = read_sweep(name, CONF)
    for row in sweep.rows:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", row.name)
        for cell in [*sweep.cells(row), *(correction.cell for correction in row.corrections.values())]:
            assert cell is None or float(cell) >= 0
        printed = dict(zip([column.key for column in sweep.columns], sweep.cells(row), strict=True))
        assert all(printed[key] not in (None, correction.cell) for key, correction in row.corrections.items())
    assert any(sweep.cells(row)[0] for row in sweep.rows) or name == "gsq/figure02_quantizers"


def test_cells_stand_as_they_are_printed():
    """Zeros at the end, and misprints, stay."""
    printed = {
        ("gsq/table01_codebook", "uniform_l2", "val/lpips"): "0.10",
        ("gsq/table05_adam", "betas_5_99_heavy", "val/rfid"): "5.750",
        ("gsq/table07_discriminators", "stylegan_nh", "val/ssim"): "64.96",
        ("gsq/table08_augmentation", "color_translation", "val/rfid"): "2.000",
        ("gsq/table13_groups", "f8_4x16", "val/ssim"): "0.08",
        ("gsq/table14_comparison", "titok_b_f16", "val/rfid"): "1.70",
        ("gsq/figure03_networks", "f8_1244", "model/parameters"): "96.64",
    }
    for (name, row_name, key), cell in printed.items():
        sweep = read_sweep(name, CONF)
        (row,) = (row for row in sweep.rows if row.name == row_name)
        assert row.published[[column.key for column in sweep.columns].index(key)] == cell


def test_corrections_have_the_intended_values():
    assert meant(read_sweep("gsq/table07_discriminators", CONF))["stylegan_nh"]["val/ssim"] == "0.65"
    assert meant(read_sweep("gsq/table09_gan_betas", CONF))["patchgan_nv_9_99_w01"]["val/inception_score"] == "114"
    groups = meant(read_sweep("gsq/table13_groups", CONF))
    assert (groups["f8_4x16"]["val/ssim"], groups["f16_1x16"]["val/rfid"]) == ("0.83", "1.63")
    assert [groups[name]["val/codebook_usage"] for name in ("f16_16x1", "f16_16x1_clip", "f32_32x1")] == ["0.508", "0.526", "0.54"]


@pytest.mark.parametrize("name", ROWS)
def test_what_the_paper_concludes_holds_in_the_numbers_that_it_prints(name):
    sweep = read_sweep(name, CONF)
    values = in_units_of_results(sweep)
    assert 2 <= len(sweep.claims) <= 6
    for claim in sweep.claims:
        try:
            assert evaluate(claim.when, values), claim.text
        except NotPrintedError:
            assert name in WITHOUT_NUMBERS, claim.text


@pytest.mark.parametrize("name", ROWS)
def test_every_row_composes_at_the_papers_scale(name, images, random_weights):
    jobs = compose_jobs(read_sweep(name, CONF), "paper", [0], [images])
    assert len(jobs) == ROWS[name][0]
    configs = [job.composition.config for job in jobs]
    image_size = 256 if name in ("gsq/table13_groups", "gsq/table14_comparison") or re.search("figure0[1345]", name) else 128
    assert {config["image_size"] for config in configs} == {image_size}
    assert {(config["ema_decay"], config["trainer"]["precision"]) for config in configs} == {(0.999, "bf16-mixed")}
    distinct = {str({**config["task"], "batch_size": config["batch_size"]}) for config in configs}
    assert len(distinct) == len(jobs), "two rows are the same run"


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["gpu", "mini", "smoke"])
@pytest.mark.parametrize("name", ROWS)
def test_every_row_composes_at_the_small_scales(name, scale, random_weights):
    jobs = compose_jobs(read_sweep(name, CONF), scale, [0])
    assert len({str(job.composition.config) for job in jobs}) == ROWS[name][0]


def test_rows_about_networks_of_others_are_marked_where_the_weights_are_absent(tmp_path, monkeypatch):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path))
    states = {job.row.name: job.why_not for job in compose_jobs(read_sweep("gsq/table08_augmentation", CONF), "mini", [0])}
    assert set(states.values()) == {"weights absent"}
    chosen = ["none", "patchgan_nv", "stylegan_nv", "dino_nv"]
    jobs = compose_jobs(read_sweep("gsq/table07_discriminators", CONF), "mini", [0], only=chosen)
    assert [job.why_not for job in jobs] == ["", "", "", "weights absent"]


def test_the_law_of_figure_4_has_all_widths_and_codebook_sizes_at_every_scale():
    sweep = read_sweep("gsq/figure04_law", CONF)
    studied = {(row.overrides["latent_dim"], row.overrides["codebook_size"]) for row in sweep.runs}
    assert studied == {(D, V) for D in (8, 16, 32, 64) for V in (8192, 16384, 65536, 262144, 524288)}
    assert [label.split("_v") for label in (row.name for row in sweep.runs)] == [[f"d{row.label[0]}", row.label[1]] for row in sweep.runs]


def test_batches_of_table_10_keep_their_ratios_at_every_scale():
    sweep = read_sweep("gsq/table10_batch", CONF)
    for scale in ("paper", "gpu", "mini", "smoke"):
        first = sweep.runs[0].budget(scale)
        batches, rates = ([row.budget(scale)[key] / first[key] for row in sweep.runs] for key in ("batch_size", "learning_rate"))
        assert batches == [1, 1, 1, 2, 2, 3, 3]
        assert rates == pytest.approx([1, 2, 3, 1, 2, 2, 3])


def test_tables_of_the_same_tokenizer_share_their_small_codebook_with_table_1():
    """So that equal rows of two tables are one run."""
    for scale in ("gpu", "mini"):
        expected = read_sweep("gsq/table01_codebook", CONF).budget(scale)["codebook_size"]
        sizes = {name: read_sweep(name, CONF).budget(scale)["codebook_size"] for name in ROWS if re.search(r"table(0[2-9]|1[0-2])", name)}
        assert set(sizes.values()) == {expected}, sizes


def at(config, path):
    for key in path.split("."):
        config = config[key]
    return config


QUANTIZER, OPTIMIZER, DECODER = "task.tokenizer.quantizer", "task.optimizer", "task.tokenizer.decoder"
SETTINGS = [
    ("table01_codebook", "uniform", {
        "batch_size": 256, "updates": 100000, f"{OPTIMIZER}.learning_rate": 1e-4, f"{OPTIMIZER}.betas": [0.9, 0.95],
        f"{OPTIMIZER}.weight_decay": 0.05, f"{OPTIMIZER}.clip": 2.0, "discriminator": None, "loss.weights.perceptual": 1.0,
        "loss.weights.commitment": 0.25, f"{QUANTIZER}.latent_dim": 8, f"{QUANTIZER}.codebook_size": 8192, f"{QUANTIZER}.groups": 1,
        f"{QUANTIZER}.initialization": "uniform", f"{QUANTIZER}.normalization": "none", f"{DECODER}.adaptive_norm": False,
        f"{DECODER}.depth_to_space": False, f"{DECODER}.multipliers": [1, 2, 2, 4], f"{DECODER}.layers": 2, "width": 128,
    }),
    ("table02_codebook_losses", "entropy_05", {
        "loss.weights.entropy": 0.5, "loss.inner.entropy.temperature": 1.0, "loss.inner.entropy.batch_weight": 1.0,
        f"{QUANTIZER}.normalization": "none", f"{QUANTIZER}.initialization": "sphere", f"{DECODER}.adaptive_norm": False,
    }),
    ("table04_perceptual", "resnet_07_4", {
        "loss.weights.perceptual": 0.7, "loss.weights.reconstruction": 4.0, "loss.weights.commitment": 1.0, "loss.weights.codebook": 4.0,
        "loss.image.perceptual.network": "resnet50_a1", "loss.image.perceptual.input_size": 224, f"{OPTIMIZER}.betas": [0.9, 0.95],
        f"{DECODER}.adaptive_norm": True,
    }),
    ("table06_schedules", "cosine_75", {
        "schedule.warmup": 0.05, "schedule.decay": 0.8, "schedule.final": 0.1, "updates": 100000, f"{OPTIMIZER}.betas": [0.9, 0.99],
    }),
    ("table07_discriminators", "none", {"discriminator": None, "updates": 100000}),
    ("table07_discriminators", "stylegan_nh", {"updates": 1000, "discriminator.width": 128}),
    ("table07_discriminators", "dino_nh", {
        "updates": 80000, "discriminator.input_size": 518, "discriminator.augmentation": ["color", "translation", "cutout"],
        "loss.weights.adversarial": 0.1, "loss.adversarial.gan.generator": "non_saturating", "loss.adversarial.gan.discriminator": "hinge",
        "discriminator_optimizer.betas": [0.5, 0.9], "discriminator_start": 0, f"{DECODER}.depth_to_space": False,
    }),
    ("table10_batch", "batch768_lr3e4", {
        "batch_size": 768, "learning_rate": 3e-4, "discriminator_learning_rate": 3e-4, "updates": 80000,
        "discriminator_optimizer.betas": [0.9, 0.99],
    }),
    ("table11_regularisation", "dino_late", {"discriminator_start": 0.25, "updates": 80000, "batch_size": 256}),
    ("table11_regularisation", "patchgan_penalty", {
        "loss.weights.gradient_penalty": 10.0, "loss.adversarial.gradient_penalty.target": 0.0,
        "discriminator_optimizer.weight_decay": 0.05,
    }),
    ("table12_architecture", "d2s_attention", {
        "batch_size": 512, "learning_rate": 2e-4, "discriminator_learning_rate": 2e-4, "discriminator.augmentation": [],
        f"{DECODER}.depth_to_space": True, f"{DECODER}.mid_attention": True, "task.tokenizer.encoder.mid_attention": True,
    }),
    ("table13_groups", "f8_16x4", {f"{QUANTIZER}.codebook_size": 8192, f"{QUANTIZER}.normalization": "l2", f"{QUANTIZER}.groups": 16}),
    ("table13_groups", "f32_32x1", {
        "batch_size": 512, "updates": 50000, "learning_rate": 2e-4, f"{QUANTIZER}.latent_dim": 32, f"{QUANTIZER}.groups": 32,
        f"{QUANTIZER}.codebook_size": 262144, f"{QUANTIZER}.normalization": "none", f"{QUANTIZER}.initialization": "sphere",
        f"{DECODER}.multipliers": [1, 1, 2, 2, 4, 4], f"{DECODER}.depth_to_space": True, f"{DECODER}.adaptive_norm": True,
    }),
    ("figure02_quantizers", "rvq", {"updates": 40000, f"{QUANTIZER}.levels": 8, f"{QUANTIZER}.codebook_size": 8192, "image_size": 128}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "row", "expected"), SETTINGS, ids=[f"{name}-{row}" for name, row, _ in SETTINGS])
def test_settings_at_the_papers_scale_are_those_of_the_paper(name, row, expected, images, random_weights):
    config = paper_job(f"gsq/{name}", row, images).composition.config
    assert {path: at(config, path) for path in expected} == expected


def test_quantizers_of_figure_2_have_the_same_vocabulary(images, random_weights):
    jobs = compose_jobs(read_sweep("gsq/figure02_quantizers", CONF), "paper", [0], [images])
    quantizers = {job.row.name: job.composition.config["task"]["tokenizer"]["quantizer"] for job in jobs}
    assert prod(quantizers.pop("fsq")["levels_per_dim"]) == 8192
    assert {quantizer["codebook_size"] for quantizer in quantizers.values()} == {8192}
    assert {quantizer["latent_dim"] for quantizer in quantizers.values()} == {8}


COUNTED = {  # millions of parameters of encoder, decoder and codebook, in the released code's networks
    "f16_11224": 77.13, "f16_12224": 82.89, "f16_11244": 100.15, "f16_12244_deeper": 165.82,
    "f8_1224": 75.20, "f8_1224_attention": 77.31, "f8_1244": 98.22, "f8_1244_attention": 100.32,
}  # fmt: skip


@pytest.mark.parametrize("row", COUNTED)
def test_networks_of_figure_3_have_the_parameters_of_the_released_ones(row, images, random_weights):
    config = paper_job("gsq/figure03_networks", row, images).composition.config
    with torch.device("meta"):
        tokenizer = build(config["task"]["tokenizer"])
    count = sum(parameter.numel() for parameter in tokenizer.parameters()) / 1e6
    assert count == pytest.approx(COUNTED[row], abs=0.006)
    published = in_units_of_results(read_sweep("gsq/figure03_networks", CONF))[row]["model/parameters"] / 1e6
    assert count == pytest.approx(published, rel=0.006)
