"""Runs that are continued with other lengths: what has happened stays, what will is stated."""

import csv
import logging

import pytest
import yaml

from experiments.config.compose import compose
from experiments.config.errors import ConfigError, RunFolderError
from experiments.runs.checkpoints import STATE, load_checkpoint
from experiments.runs.folder import RunFolder
from experiments.training.checks import check, with_recorded
from experiments.training.lengths import continued_lengths, lengths_in_updates, with_lengths
from experiments.training.loop import train
from tests.training.test_resuming import folders, run


def test_a_run_that_was_made_longer_is_not_reported_for_the_shorter_command(tmp_path):
    assert run(tmp_path, "updates=1") == 0
    (folder,) = folders(tmp_path)
    assert run(tmp_path, "updates=2", f"resume={folder.path}") == 0
    with pytest.raises(RunFolderError, match=r"resume=\S+ .*rerun=true") as caught:
        run(tmp_path, "updates=1")
    assert (caught.value.path, caught.value.changes) == (folder.path, [("task.updates", 2, 1)])
    assert run(tmp_path, "updates=1", "rerun=true") == 0
    assert [path.name for path in folder.checkpoint_files] == ["updates_00000001.ckpt"]
    assert run(tmp_path, "updates=1") == 0


def test_naming_the_folder_is_enough_to_lengthen_a_run(tmp_path):
    assert run(tmp_path, "updates=1", "codebook_size=32") == 0
    (folder,) = folders(tmp_path)
    words = [f"resume={folder.path}", "updates=2"]
    composition = with_recorded(compose("train", words))
    assert train(composition.config, composition.overrides, "test") == 0
    assert (folder.config["updates"], folder.config["codebook_size"]) == (2, 32)
    assert load_checkpoint(folder.checkpoint_files[-1])[STATE]["updates"] == 2
    other = with_recorded(compose("train", [*words, "groups=4"]))
    with pytest.raises(RunFolderError) as caught:
        train(other.config, other.overrides, "test")
    assert "task.tokenizer.quantizer.groups" in [key for key, _, _ in caught.value.changes]


WARMUP, DECAY = "task.optimizer.schedule.warmup", "task.optimizer.schedule.decay"


def config_of(*words: str) -> dict:
    return compose("train", ["schedule=cosine", *words]).config


def test_lengths_are_whole_numbers_of_updates():
    config = config_of("updates=200", "schedule.warmup=0.05", "schedule.decay=150", "discriminator_start=0.5")
    lengths = lengths_in_updates(config)
    assert (lengths[WARMUP], lengths[DECAY], lengths["task.discriminator_start"]) == (10, 150, 100)
    replaced = with_lengths(config, lengths)["task"]
    assert (replaced["optimizer"]["schedule"]["warmup"], replaced["discriminator_start"]) == (10, 100)
    assert config["task"]["discriminator_start"] == 0.5
    milestones = lengths_in_updates(config_of("updates=8", "schedule=step", "schedule.milestones=[0.5,6]"))
    assert milestones["task.optimizer.schedule.milestones"] == [4, 6]


def test_a_longer_run_retains_its_lengths_however_often_it_is_lengthened():
    first = config_of("updates=20")
    lengths = lengths_in_updates(first)
    earlier = first
    for updates in (40, 80):
        longer = config_of(f"updates={updates}")
        lengths = continued_lengths(longer, earlier, lengths)
        assert lengths == lengths_in_updates(first)
        earlier = longer


def test_a_length_that_is_set_again_is_of_the_new_updates():
    first, longer = config_of("updates=20"), config_of("updates=40", "schedule.decay=0.75")
    lengths = continued_lengths(longer, first, {})
    assert (lengths[DECAY], lengths[WARMUP]) == (30, lengths_in_updates(first)[WARMUP])


def test_a_longer_run_changes_nothing_that_has_happened_and_states_the_rest(tmp_path, caplog):
    """The discriminator starts at half of four updates; half of eight would be after those that are taken."""
    words = ["discriminator=patchgan_small", "discriminator_start=0.5", "log_every=1", "schedule=cosine", "schedule.warmup=0"]
    assert run(tmp_path, *words, "updates=4") == 0
    (folder,) = folders(tmp_path)
    with caplog.at_level(logging.INFO, "experiments"):
        assert run(tmp_path, *words, "updates=8", f"resume={folder.path}") == 0
    with open(folder.path / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    steps = [row for row in rows if row["train/loss/reconstruction"]]
    assert [row["updates"] for row in steps if row["train/loss/discriminator"]] == ["3", "4", "5", "6", "7", "8"]
    assert [row["updates"] for row in rows if row["val/psnr"]] == ["4", "8"]
    rates = {row["updates"]: float(row["train/learning_rate"]) for row in steps}
    assert rates["5"] == rates["8"] == pytest.approx(0.02 * 3e-3)
    (line,) = [record.getMessage() for record in caplog.records if "updates 4 -> 8" in record.getMessage()]
    assert f"{rates['4']:.3g} at update 4, {rates['5']:.3g} at update 5, {rates['8']:.3g} at update 8" in line
    assert "after update 2" in line
    with pytest.raises(RunFolderError) as caught:
        run(tmp_path, *words, "updates=8", f"resume={folder.path}", "discriminator_start=0.9")
    assert [key for key, _, _ in caught.value.changes] == ["task.discriminator_start"]
    assert run(tmp_path, *words, "updates=9", f"resume={folder.path}", "schedule.decay=9") == 0
    assert folder.lengths[DECAY] == 9


@pytest.mark.parametrize(
    "word",
    [
        "task.tokenizer.encoder._target_=os.system",
        "+task.more={_target_: os.system}",
        "task.tokenizer=${oc.decode:text}",
        "plugins=[theirs]",
        "--config-dir=/theirs",
    ],
)
def test_overrides_of_a_folder_name_no_code(word, tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_result("running", {}, {})
    (folder.path / "overrides.yaml").write_text(yaml.safe_dump(["groups=8", word]))
    with pytest.raises(ConfigError) as caught:
        with_recorded(compose("train", [f"resume={tmp_path}"]))
    assert caught.value.key == "resume"
    assert word in caught.value.reason


def test_a_run_is_either_resumed_or_repeated(tmp_path):
    with pytest.raises(ConfigError) as caught:
        check(compose("train", [f"resume={tmp_path}", "rerun=true"]).config)
    assert caught.value.key == "rerun"
