"""A wrong configuration is one clear message; a right one is a plain resolved tree."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from experiments.config import signatures
from experiments.config.compose import CONF, compose, expand
from experiments.config.errors import ConfigError
from experiments.config.overrides import expand_table

FILES = {
    "conf/train.yaml": """
        defaults:
          - _self_
          - quantizer: gsq
          - optimizer: adam
          - optimizer@discriminator_optimizer: adam
          - data: photos
          - loss: pixel
          - experiment: null
          - scale: null
        seed: 0               # of everything random
        updates: 100          # generator steps
        batch_size: 16
        learning_rate: 1e-3
        rerun: false
        resume: null
        task:
          _target_: experiments.tasks.Task
          quantizer: ${quantizer}
          updates: ${at_least:updates,1}
        """,
    "conf/quantizer/gsq.yaml": """
        # @package _global_
        latent_dim: 64
        groups: 16
        quantizer:
          _target_: tokenizer.gsq.Spherical
          latent_dim: ${latent_dim}
          groups: ${divisor_of:groups,latent_dim}
          norm: l2
        """,
    "conf/quantizer/gsq_small.yaml": """
        # @package _global_
        defaults: [gsq, _self_]
        groups: 2
        """,
    "conf/quantizer/fsq.yaml": """
        # @package _global_
        latent_dim: 4
        quantizer:
          _target_: tokenizer.gsq.Scalar
          latent_dim: ${latent_dim}
        """,
    "conf/optimizer/adam.yaml": """
        _target_: experiments.tasks.adam
        learning_rate: ${learning_rate}
        """,
    "conf/data/photos.yaml": "size: 8",
    "conf/data/folder.yaml": "root: ???   # a folder of pictures",
    "conf/loss/pixel.yaml": """
        weights:
          perceptual: 0.0
          adversarial: 0.1
        """,
    "conf/experiment/gsq/good.yaml": """
        # @package _global_
        defaults:
          - override /quantizer: gsq_small
        updates: 7
        loss: {weights: {adversarial: 0.5}}
        """,
    "conf/experiment/gsq/typo.yaml": """
        # @package _global_
        grups: 3
        """,
    "conf/experiment/gsq/nested_typo.yaml": """
        # @package _global_
        loss: {weights: {perceptul: 1.0}}
        """,
    "conf/experiment/gsq/argument_typo.yaml": """
        # @package _global_
        quantizer: {nrom: none}
        """,
    "conf/scale/smoke.yaml": """
        # @package _global_
        updates: 2
        """,
    "conf/scale/wrong.yaml": """
        # @package _global_
        batch_size: 2.5
        """,
    "conf/scale/indivisible.yaml": """
        # @package _global_
        groups: 7
        """,
    "tokenizer/gsq.py": """
        from typing import Literal
        class Spherical:
            def __init__(self, latent_dim: int, groups: int, norm: Literal["none", "l2"], decay: float = 0.9): ...
        class Scalar:
            def __init__(self, latent_dim: int): ...
        """,
    "experiments/tasks.py": """
        class Task:
            def __init__(self, quantizer, updates: int): ...
        def adam(learning_rate: float): ...
        """,
}


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(textwrap.dedent(text).lstrip())


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write(tmp_path, FILES)
    monkeypatch.setattr(signatures, "ROOT", tmp_path)
    return tmp_path / "conf"


def message(conf: Path, *words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        compose("train", list(words), conf)
    return str(caught.value)


def test_a_composition_is_plain_and_resolved(conf):
    composition = compose("train", ["groups=8", "+quantizer.decay=0.5"], conf)
    assert composition.config["task"]["quantizer"] == {
        "_target_": "tokenizer.gsq.Spherical", "latent_dim": 64, "groups": 8, "norm": "l2", "decay": 0.5
    }  # fmt: skip
    assert type(composition.config["task"]["quantizer"]) is dict
    assert composition.config["discriminator_optimizer"]["learning_rate"] == 0.001
    assert composition.overrides == ["groups=8", "+quantizer.decay=0.5"]


def test_choices_name_the_file_of_every_group(conf):
    choices = compose("train", ["experiment=gsq/good", "scale=smoke"], conf).choices
    assert choices == {
        "quantizer": "gsq_small", "optimizer": "adam", "optimizer@discriminator_optimizer": "adam",
        "data": "photos", "loss": "pixel", "experiment": "gsq/good", "scale": "smoke",
    }  # fmt: skip


def test_a_scale_is_laid_over_an_experiment_and_words_over_both(conf):
    assert compose("train", ["experiment=gsq/good"], conf).config["updates"] == 7
    assert compose("train", ["experiment=gsq/good", "scale=smoke"], conf).config["updates"] == 2
    assert compose("train", ["experiment=gsq/good", "scale=smoke", "updates=5"], conf).config["updates"] == 5


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["grups=16"], ["grups=16", "has no key `grups`", "nearest: `groups`"]),
        (["quantizer=fsq", "groups=16"], ["groups=16", "quantizer=fsq does not declare it", "quantizer=gsq"]),
        (["loss.weights.perceptul=1"], ["loss.weights.perceptul=1", "nearest: `loss.weights.perceptual`"]),
        (["quantizer.nrom=none"], ["quantizer.nrom=none", "nearest: `quantizer.norm`"]),
        (["quantizer.comitment=1"], ["quantizer.comitment=1", "beside it: latent_dim, groups, norm"]),
        (["loss.wieghts.perceptual=1"], ["has no key `loss.wieghts.perceptual`", "nearest: `loss.weights.perceptual`"]),
        (["perceptual=1"], ["has no key `perceptual`", "nearest: `loss.weights.perceptual`"]),
        (["quantizer.decay=0.5"], ["tokenizer.gsq.Spherical takes `decay`", "+quantizer.decay="]),
        (["++grups=16"], ["grups=16", "nearest: `groups`"]),
        (["+grups=16"], ["grups=16", "nearest: `groups`"]),
        (["+loss.weights.lpips=1"], ["loss.weights.lpips=1", "has no key"]),
        (["+quantizer.nrom=none"], ["quantizer.nrom=none", "tokenizer.gsq.Spherical has no argument `nrom`", "nearest: `norm`"]),
        (["+groups=4"], ["+groups=4", "there already"]),
        (["quantizer=gqs"], ["quantizer=gqs", "nearest: `gsq`", "fsq, gsq, gsq_small"]),
        (["optimizer@discriminator_optimizer=sgd"], ["optimizer has no `sgd`", "known: adam"]),
        (["experiment=gsq/god"], ["experiment=gsq/god", "nearest: `gsq/good`"]),
        (["experiment=null"], ["experiment=null", "leave the word out"]),
        (["optimizer@foo=adam"], ["optimizer@foo=adam", "train has no group `optimizer@foo`", "optimizer@discriminator_optimizer"]),
        (["discriminator_optimizer=adam"], ["discriminator_optimizer=adam", "`optimizer@discriminator_optimizer=...`"]),
        (["quantizer=gsq,fsq"], ["quantizer=gsq,fsq", "add -m"]),
        (["updates=range(1,4)"], ["updates=range(1,4)", "add -m"]),
        (["hydra/launcher=joblib"], ["hydra/launcher=joblib", "no effect"]),
        (["groups"], ["groups: expected key=value"]),
        (["groups=[1"], ["groups=[1", "cannot be read"]),
        (["data=folder"], ["data.root: is required by data=folder", "add `data.root=...`", "a folder of pictures"]),
        (["updates=abc"], ["updates=abc", "whole number", "change `updates`"]),
        (["batch_size=2.5"], ["batch_size=2.5", "whole number", "change `batch_size`"]),
        (["batch_size=true"], ["batch_size=true", "whole number"]),
        (["rerun=1"], ["rerun=1", "true or false"]),
        (["learning_rate=fast"], ["learning_rate=fast", "expected a number"]),
        (["groups=7"], ["groups=7 does not divide latent_dim=64", "4 and 8", "change `groups` or `latent_dim`"]),
        (["groups=abc"], ["groups=abc", "whole number", "change `groups`"]),
        (["latent_dim=wide", "quantizer=fsq"], ["latent_dim=wide", "whole number (int)", "tokenizer.gsq.Scalar", "change `latent_dim`"]),
        (["quantizer.norm=noen"], ["quantizer.norm=noen", "one of none, l2", "nearest: none"]),
        (["~quantizer.norm"], ["tokenizer.gsq.Spherical needs norm"]),
        (["resume=${rseume}"], ["resume refers to `rseume`", "nearest: `resume`"]),
        (["quantizer._target_=os.system"], ["_target_ os.system", "expected something in tokenizer or experiments"]),
        (["quantizer._target_=tokenizer.gsq.Sphere"], ["tokenizer.gsq defines no class or function Sphere", "Spherical, Scalar"]),
    ],
)
def test_a_wrong_word_is_one_line_with_the_value_and_the_way_out(conf, words, parts):
    text = message(conf, *words)
    assert "\n" not in text
    for part in parts:
        assert part in text


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["experiment=gsq/typo"], ["conf/experiment/gsq/typo.yaml sets grups=3", "nearest: `groups`"]),
        (["experiment=gsq/nested_typo"], ["conf/experiment/gsq/nested_typo.yaml", "nearest: `loss.weights.perceptual`"]),
        (["experiment=gsq/argument_typo"], ["conf/experiment/gsq/argument_typo.yaml", "no argument `nrom`", "nearest: `norm`"]),
        (["scale=wrong"], ["conf/scale/wrong.yaml sets batch_size=2.5", "whole number"]),
        (["scale=indivisible"], ["conf/scale/indivisible.yaml sets groups=7 does not divide latent_dim=64"]),
    ],
)
def test_a_wrong_experiment_or_scale_file_is_named(conf, words, parts):
    text = message(conf, *words)
    for part in parts:
        assert part in text


def test_a_whole_number_suits_a_setting_that_is_a_fraction_by_default(conf):
    assert compose("train", ["learning_rate=1"], conf).config["learning_rate"] == 1


def test_a_setting_that_is_null_by_default_takes_anything(conf):
    assert compose("train", ["resume=runs/a"], conf).config["resume"] == "runs/a"


def test_an_interpolation_to_nothing_in_a_file_names_the_nearest_key(conf):
    (conf / "optimizer" / "sgd.yaml").write_text("_target_: experiments.tasks.adam\nlearning_rate: ${learning_rat}\n")
    assert "`learning_rat`" in (text := message(conf, "optimizer=sgd"))
    assert "nearest: `learning_rate`" in text


def test_a_file_that_is_no_yaml_is_named(conf):
    (conf / "optimizer" / "sgd.yaml").write_text("_target_: [experiments\n")
    assert "conf/optimizer/sgd.yaml cannot be read" in message(conf, "optimizer=sgd")


def test_an_unknown_verb_names_the_known_ones(conf):
    with pytest.raises(ConfigError, match=r"trian: there is no conf/trian\.yaml; nearest: `train`"):
        compose("trian", [], conf)


def test_a_sweep_is_a_product_in_which_the_last_key_varies_fastest(conf):
    assert expand(["quantizer=gsq,fsq", "seed=3", "updates=range(1,3)"], conf) == [
        ["quantizer=gsq", "seed=3", "updates=1"], ["quantizer=gsq", "seed=3", "updates=2"],
        ["quantizer=fsq", "seed=3", "updates=1"], ["quantizer=fsq", "seed=3", "updates=2"],
    ]  # fmt: skip


def test_a_glob_sweeps_over_files_in_subfolders(conf):
    expected = [["experiment=gsq/argument_typo"], ["experiment=gsq/nested_typo"], ["experiment=gsq/typo"]]
    assert expand(["experiment=glob(gsq/*typo)"], conf) == expected


def test_a_sweep_over_nothing_is_refused(conf):
    with pytest.raises(ConfigError, match="nothing matches"):
        expand(["experiment=glob(magvit/*)"], conf)


def test_a_table_with_several_values_is_swept_once_for_each_combination(conf):
    words = ["workers=0,2", "seed=0,1,2", "sweep=gsq/table01", "scale=smoke", "loss.weights.perceptual=0.5"]
    fixed = ["gsq/table01", "scale=smoke", "seeds=3"]
    assert expand_table(words, conf) == [[*fixed, f"workers={workers}", "loss.weights.perceptual=0.5"] for workers in (0, 2)]
    assert expand_table(["sweep=gsq/table01"], conf) == [["gsq/table01"]]
    assert expand_table(["seed=range(0,2)", "sweep=gsq/table01"], conf) == [["gsq/table01", "seeds=2"]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sweep=a,b"], "sweep=a,b: expected one table at one scale"),
        (["sweep=glob(gsq/*)"], "expected one table at one scale"),
        (["sweep=a", "sweep=b"], "sweep=a: expected one table at one scale"),
        (["sweep=a", "scale=smoke,mini"], "scale=smoke,mini: expected one table at one scale"),
        (["sweep=a", "seed=1"], "seed=1: expected seeds counted from 0, such as seed=0,1,2"),
        (["sweep=a", "seed=0,2"], "seed=0,2: expected seeds counted from 0"),
    ],
)
def test_what_no_sweep_of_a_table_can_do_is_one_message(conf, words, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        expand_table(words, conf)


def test_composing_loads_neither_torch_nor_lightning_and_writes_nothing(conf, tmp_path):
    code = (
        "import sys, pathlib; from experiments.config import signatures; from experiments.config.compose import compose;"
        f"signatures.ROOT = pathlib.Path({str(tmp_path)!r}); compose('train', [], pathlib.Path({str(conf)!r}));"
        "print(sorted({'torch', 'lightning', 'wandb', 'numpy'} & set(sys.modules)))"
    )
    before = sorted(tmp_path.rglob("*"))
    done = subprocess.run([sys.executable, "-c", code], cwd=CONF.parent, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
    assert sorted(tmp_path.rglob("*")) == before
