"""A wrong configuration is one clear message; a right one is a plain resolved tree."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from experiments.config import packages
from experiments.config.compose import CONF, compose, expand
from experiments.config.errors import ConfigError
from experiments.config.overrides import expand_table, for_children
from tests.config.conf_files import write


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(packages, "ROOT", tmp_path)
    return write(tmp_path)


def refused(conf: Path, *words: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        compose("train", list(words), conf)
    return caught.value


def check_fields(error: ConfigError, fields: dict[str, Any]) -> None:
    """Fields are equal; a text that ends with ... is a part of the field."""
    assert "\n" not in str(error)
    for name, expected in fields.items():
        value = getattr(error, name)
        if isinstance(expected, str) and expected.endswith("..."):
            assert expected[:-3] in value, name
        else:
            assert value == expected, name


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
        "data": "photos", "loss": "pixel", "trainer": "cpu", "experiment": "gsq/good", "scale": "smoke",
    }  # fmt: skip


def test_a_scale_is_laid_over_an_experiment_and_words_over_both(conf):
    assert compose("train", ["experiment=gsq/good"], conf).config["updates"] == 7
    assert compose("train", ["experiment=gsq/good", "scale=smoke"], conf).config["updates"] == 2
    assert compose("train", ["experiment=gsq/good", "scale=smoke", "updates=5"], conf).config["updates"] == 5


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        (["grups=16"], {"key": "grups", "value": 16, "nearest": "groups"}),
        (["quantizer=fsq", "groups=16"], {"key": "groups", "value": 16, "advice": "quantizer=gsq, quantizer=gsq_small does..."}),
        (["loss.weights.perceptul=1"], {"key": "loss.weights.perceptul", "value": 1, "nearest": "loss.weights.perceptual"}),
        (["quantizer.nrom=none"], {"key": "quantizer.nrom", "value": "none", "nearest": "quantizer.norm"}),
        (["quantizer.comitment=1"], {"key": "quantizer.comitment", "expected": "one of latent_dim, groups, norm"}),
        (["loss.weights={perceptul: 1}"], {"key": "loss.weights.perceptul", "value": 1, "nearest": "loss.weights.perceptual"}),
        (["loss.wieghts.perceptual=1"], {"key": "loss.wieghts.perceptual", "nearest": "loss.weights.perceptual"}),
        (["perceptual=1"], {"key": "perceptual", "nearest": "loss.weights.perceptual"}),
        (["task.quantizer.groups=1"], {"key": "task.quantizer.groups", "nearest": "groups"}),
        (["quantizer.decay=0.5"], {"key": "quantizer.decay", "advice": "write +quantizer.decay=..."}),
        (["++grups=16"], {"key": "grups", "value": 16, "nearest": "groups"}),
        (["+grups=16"], {"key": "grups", "value": 16, "nearest": "groups"}),
        (["~grups"], {"key": "grups", "nearest": "groups"}),
        (["+loss.weights.lpips=1"], {"key": "loss.weights.lpips", "reason": "has no key..."}),
        (["+quantizer.nrom=none"], {"key": "quantizer.nrom", "nearest": "norm"}),
        (["+groups=4"], {"key": "+groups", "value": 4, "advice": "write it without +"}),
        (["+experiment=gsq/good"], {"key": "+experiment", "value": "gsq/good", "advice": "write it without +"}),
        (["quantizer=gqs"], {"key": "quantizer", "value": "gqs", "nearest": "gsq", "expected": "one of fsq, gsq, gsq_small"}),
        (["optimizer@discriminator_optimizer=sgd"], {"key": "optimizer@discriminator_optimizer", "expected": "one of adam"}),
        (["experiment=gsq/god"], {"key": "experiment", "value": "gsq/god", "nearest": "gsq/good"}),
        (["experiment=null"], {"key": "experiment", "value": None, "advice": "leave `experiment` out"}),
        (["optimizer@foo=adam"], {"key": "optimizer@foo", "value": "adam", "expected": "optimizer@discriminator_optimizer..."}),
        (["head=parallel"], {"key": "head", "value": "parallel", "reason": "train has no group `head`"}),
        (["discriminator_optimizer=adam"], {"key": "discriminator_optimizer", "advice": "`optimizer@discriminator_optimizer=...`..."}),
        (["quantizer=gsq,fsq"], {"key": "quantizer", "value": "gsq,fsq", "advice": "add -m..."}),
        (["updates=range(1,4)"], {"key": "updates", "value": "range(1,4)", "advice": "add -m..."}),
        (["hydra/launcher=joblib"], {"key": "hydra/launcher", "value": "joblib"}),
        (["sweep=gsq/table01"], {"key": "sweep", "advice": "python -m experiments.sweep table=gsq/table01 runs them"}),
        (["groups"], {"key": "groups", "expected": "key=value"}),
        (["groups=[1"], {"key": "groups=[1", "reason": "cannot be read as key=value"}),
        (["data=folder"], {"key": "data.root", "expected": "a folder of images", "advice": "add `data.root=...`"}),
        (["updates=abc"], {"key": "updates", "value": "abc", "expected": "a whole number"}),
        (["batch_size=2.5"], {"key": "batch_size", "value": 2.5, "expected": "a whole number"}),
        (["batch_size=true"], {"key": "batch_size", "value": True, "expected": "a whole number"}),
        (["seed=-1"], {"key": "seed", "value": -1, "expected": "a number of at least 0"}),
        (["rerun=1"], {"key": "rerun", "value": 1, "expected": "true or false"}),
        (["learning_rate=fast"], {"key": "learning_rate", "value": "fast", "expected": "a number"}),
        (["learning_rate=inf"], {"key": "learning_rate", "expected": "a finite number"}),
        (["learning_rate=nan"], {"key": "learning_rate", "expected": "a finite number"}),
        (["groups=7"], {"key": "groups", "value": 7, "nearest": "4 or 8", "advice": "change `groups` or `latent_dim`"}),
        (["groups=abc"], {"key": "groups", "value": "abc", "expected": "a whole number of at least 1"}),
        (["~quantizer.norm"], {"key": "quantizer", "reason": "tokenizer.gsq.Spherical needs norm"}),
        (["resume=${rseume}"], {"key": "resume", "nearest": "resume", "reason": "refers to `rseume`..."}),
        (["quantizer._target_=os.system"], {"key": "_target_", "value": "os.system", "place": "quantizer"}),
        (["quantizer._target_=tokenizer.gsq.Sphere"], {"key": "_target_", "expected": "one of Spherical, Scalar"}),
        (["plugins=[no_such_package]"], {"key": "plugins", "value": "no_such_package"}),
        (["--config-dir=/nonexistent"], {"key": "--config-dir", "value": "/nonexistent"}),
    ],
)
def test_a_wrong_override_is_one_line_with_the_value_and_the_way_out(conf, words, fields):
    check_fields(refused(conf, *words), fields)


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        (["experiment=gsq/typo"], {"place": "conf/experiment/gsq/typo.yaml", "key": "grups", "value": 3, "nearest": "groups"}),
        (["experiment=gsq/nested_typo"], {"place": "conf/experiment/gsq/nested_typo.yaml", "nearest": "loss.weights.perceptual"}),
        (["experiment=gsq/argument_typo"], {"place": "conf/experiment/gsq/argument_typo.yaml", "nearest": "norm"}),
        (["experiment=gsq/misplaced"], {"place": "conf/experiment/gsq/misplaced.yaml", "key": "head", "value": "parallel"}),
        (["scale=wrong"], {"place": "conf/scale/wrong.yaml", "key": "batch_size", "value": 2.5, "expected": "a whole number"}),
        (["scale=indivisible"], {"place": "conf/scale/indivisible.yaml", "key": "groups", "value": 7, "nearest": "4 or 8"}),
    ],
)
def test_a_wrong_experiment_or_scale_file_is_named(conf, words, fields):
    check_fields(refused(conf, *words), fields)


def test_an_error_of_a_constructor_names_the_key_that_sets_the_argument(conf):
    draft = compose("train", ["scale=smoke"], conf).draft
    error = draft.explain(ConfigError("task.quantizer.groups", 7, expected="4"))
    assert (error.key, error.advice) == ("groups", "change `groups`")
    assert draft.explain(ConfigError("task.updates", 2)).place == "conf/scale/smoke.yaml"
    assert draft.explain(ConfigError(place="task.quantizer", reason="no")).place == "quantizer"
    assert draft.explain(ConfigError("output", "a", place="conf/x.yaml")).place == "conf/x.yaml"


def test_the_settings_of_the_verb_are_typed_and_frozen(conf):
    settings = compose("train", ["updates=9"], conf).settings
    assert (settings.updates, settings.learning_rate, settings.resume) == (9, 0.001, None)
    with pytest.raises(ValidationError):
        settings.updates = 3


def test_a_folder_of_the_command_line_adds_files_and_is_recorded(conf, tmp_path):
    mine = tmp_path / "mine"
    write(tmp_path, {"mine/quantizer/gsq_wide.yaml": "# @package _global_\ndefaults: [gsq, _self_]\nlatent_dim: 128\n"})
    words = [f"--config-dir={mine}", "quantizer=gsq_wide"]
    composition = compose("train", words, conf)
    assert (composition.config["quantizer"]["latent_dim"], composition.overrides) == (128, words)
    assert refused(conf, words[0], "quantizer=gsq_wied").nearest == "gsq_wide"
    assert refused(conf, "quantizer=gsq_wide").key == "quantizer"


def test_a_whole_number_suits_a_setting_that_is_a_fraction_by_default(conf):
    assert compose("train", ["learning_rate=1"], conf).config["learning_rate"] == 1


def test_a_setting_that_is_null_by_default_takes_anything(conf):
    assert compose("train", ["resume=runs/a"], conf).config["resume"] == "runs/a"


def test_an_interpolation_to_nothing_in_a_file_names_the_nearest_key(conf):
    (conf / "optimizer" / "sgd.yaml").write_text("_target_: experiments.tasks.adam\nlearning_rate: ${learning_rat}\n")
    check_fields(refused(conf, "optimizer=sgd"), {"key": "optimizer.learning_rate", "nearest": "learning_rate"})


@pytest.mark.parametrize("content", ["_target_: [experiments\n", "a: ${b\n", b"\xff\xfe"])
def test_a_file_that_is_no_yaml_is_named(conf, content):
    (conf / "optimizer" / "sgd.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    check_fields(refused(conf, "optimizer=sgd"), {"key": "conf/optimizer/sgd.yaml", "reason": "cannot be read..."})


def test_an_unknown_verb_names_the_known_ones(conf):
    with pytest.raises(ConfigError) as caught:
        compose("trian", [], conf)
    assert (caught.value.key, caught.value.nearest) == ("trian", "train")


def test_a_sweep_is_a_product_in_which_the_last_key_varies_fastest(conf):
    assert expand(["quantizer=gsq,fsq", "seed=3", "updates=range(1,3)"], conf) == [
        ["quantizer=gsq", "seed=3", "updates=1"], ["quantizer=gsq", "seed=3", "updates=2"],
        ["quantizer=fsq", "seed=3", "updates=1"], ["quantizer=fsq", "seed=3", "updates=2"],
    ]  # fmt: skip


def test_a_glob_sweeps_over_files_in_subfolders(conf):
    expected = [["experiment=gsq/argument_typo"], ["experiment=gsq/nested_typo"], ["experiment=gsq/typo"]]
    assert expand(["experiment=glob(gsq/*typo)"], conf) == expected


def test_a_sweep_over_nothing_is_refused(conf):
    with pytest.raises(ConfigError) as caught:
        expand(["experiment=glob(magvit/*)"], conf)
    assert (caught.value.key, caught.value.value) == ("experiment", "glob(magvit/*)")


def test_a_table_with_several_values_is_swept_once_for_each_combination(conf):
    words = ["workers=0,2", "seed=0,1,2", "sweep=gsq/table01", "scale=smoke", "loss.weights.perceptual=0.5"]
    fixed = ["table=gsq/table01", "scale=smoke", "seeds=3"]
    assert expand_table(words, conf) == [[*fixed, f"workers={workers}", "loss.weights.perceptual=0.5"] for workers in (0, 2)]
    assert expand_table(["sweep=gsq/table01"], conf) == [["table=gsq/table01"]]
    assert expand_table(["seed=range(0,2)", "sweep=gsq/table01"], conf) == [["table=gsq/table01", "seeds=2"]]


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        (["sweep=a,b"], "sweep", "a,b"),
        (["sweep=glob(gsq/*)"], "sweep", "glob(gsq/*)"),
        (["sweep=a", "sweep=b"], "sweep", "a"),
        (["sweep=a", "scale=smoke,mini"], "scale", "smoke,mini"),
        (["sweep=a", "seed=1"], "seed", "1"),
        (["sweep=a", "seed=0,2"], "seed", "0,2"),
    ],
)
def test_what_no_sweep_of_a_table_can_do_is_one_message(conf, words, key, value):
    with pytest.raises(ConfigError) as caught:
        expand_table(words, conf)
    assert (caught.value.key, caught.value.value) == (key, value)


def test_composing_loads_neither_torch_nor_lightning_and_writes_nothing(conf, tmp_path):
    code = (
        "import sys, pathlib; from experiments.config import packages; from experiments.config.compose import compose;"
        f"packages.ROOT = pathlib.Path({str(tmp_path)!r}); compose('train', [], pathlib.Path({str(conf)!r}));"
        "print(sorted({'torch', 'lightning', 'wandb', 'numpy'} & set(sys.modules)))"
    )
    before = sorted(tmp_path.rglob("*"))
    done = subprocess.run([sys.executable, "-c", code], cwd=CONF.parent, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
    assert sorted(tmp_path.rglob("*")) == before


def test_commands_that_are_started_get_the_folders_and_packages_of_this_one():
    overrides = ["--config-dir=/a", "quantizer=mine", "plugins=[a_lab]", "seed=0"]
    assert for_children(overrides) == ["--config-dir=/a", "plugins=[a_lab]"]
