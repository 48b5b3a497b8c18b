"""Checkpoint files: damage of any kind is noticed and named, faults of the system stay what they are."""

import errno
import os
import pickle
import random
from pathlib import Path

import pytest
import torch

from experiments.config.errors import DamagedFile
from experiments.runs.checkpoints import STATE, check_parts, load_checkpoint, newest_checkpoint, save_checkpoint, sound_checkpoints
from experiments.runs.integrity import list_checkpoints


def made_checkpoint(updates: int = 3) -> dict:
    weights = {"tokenizer.weight": torch.arange(4000.0), "tokenizer.bias": torch.ones(8)}
    moments = {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(4000), "exp_avg_sq": torch.ones(4000)}}
    return {
        "state_dict": weights,
        "optimizer_states": [{"state": moments, "param_groups": []}, {"state": {}, "param_groups": []}],
        "lr_schedulers": [],
        "loops": {"fit_loop": {"batches": 3}},
        STATE: {"updates": updates, "batches": updates, "seconds": 1.0, "average": dict(weights)},
    }


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "updates_00000003.ckpt"
    save_checkpoint(made_checkpoint(), path)
    return path


def test_a_whole_checkpoint_is_read_as_it_was_written(file):
    checkpoint = load_checkpoint(file)
    check_parts(checkpoint, file)
    assert torch.equal(checkpoint["state_dict"]["tokenizer.weight"], torch.arange(4000.0))


def test_every_flipped_bit_and_every_cut_is_noticed(file):
    """In the padding between tensors too, which no checksum of an archive's entries includes."""
    whole = file.read_bytes()
    draws = random.Random(0)
    for number in range(200):
        place = draws.randrange(len(whole))
        damaged = bytearray(whole)
        damaged[place] ^= 1 << draws.randrange(8)
        write(file, bytes(damaged) if number % 4 else whole[:place], number)
        with pytest.raises(DamagedFile) as caught:
            load_checkpoint(file)
        assert caught.value.path == file
        assert "\n" not in str(caught.value)


def write(file: Path, content: bytes, number: int) -> None:
    file.write_bytes(content)
    os.utime(file, ns=(number, number))  # of one size, and perhaps at one time


def test_a_checkpoint_of_an_older_version_is_verified_by_the_checksums_of_its_entries(file):
    checkpoint = made_checkpoint()
    torch.save(checkpoint, file)
    check_parts(load_checkpoint(file), file)
    content = file.read_bytes()
    start = content.index(torch.arange(4000.0).numpy().tobytes())
    write(file, content[: start + 100] + bytes([content[start + 100] ^ 4]) + content[start + 101 :], 1)
    with pytest.raises(DamagedFile):
        load_checkpoint(file)


@pytest.mark.parametrize("content", [b"", b"half", pickle.dumps({"state_dict": {}})], ids=["empty", "text", "another format"])
def test_what_is_no_checkpoint_is_named(content, file):
    file.write_bytes(content)
    with pytest.raises(DamagedFile) as caught:
        load_checkpoint(file)
    assert caught.value.path == file


class Payload:
    def __reduce__(self):
        return os.system, ("touch PROOF",)


def test_code_is_refused_in_one_line_without_advice_to_run_it(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    torch.save({**made_checkpoint(), "more": Payload()}, file)
    with pytest.raises(DamagedFile) as caught:
        load_checkpoint(file)
    assert "weights_only" not in str(caught.value)
    assert not Path("PROOF").exists()


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (lambda checkpoint: checkpoint.pop("state_dict"), "state_dict"),
        (lambda checkpoint: checkpoint.pop("loops"), "loops"),
        (lambda checkpoint: checkpoint.pop(STATE), STATE),
        (lambda checkpoint: checkpoint[STATE].pop("average"), "average"),
        (lambda checkpoint: checkpoint[STATE].pop("batches"), "batches"),
        (lambda checkpoint: checkpoint["optimizer_states"].clear(), "optimizer_states"),
        (lambda checkpoint: checkpoint["optimizer_states"][0]["state"].clear(), "optimizer_states"),
        (lambda checkpoint: checkpoint["optimizer_states"][0]["state"][0].pop("exp_avg_sq"), "optimizer_states"),
        (lambda checkpoint: checkpoint["state_dict"].pop("tokenizer.bias"), "state_dict"),
        (lambda checkpoint: checkpoint[STATE]["average"].pop("tokenizer.bias"), "average"),
        (lambda checkpoint: checkpoint[STATE].update(average=None), "average"),
        (lambda checkpoint: checkpoint.update(optimizer_states=5), "optimizer_states"),
        (lambda checkpoint: checkpoint["optimizer_states"][0].pop("param_groups"), "optimizer_states"),
        (lambda checkpoint: checkpoint["optimizer_states"][0]["state"][0].update(exp_avg=torch.zeros(3999)), "optimizer_states"),
        (lambda checkpoint: checkpoint["state_dict"].update({"tokenizer.bias": torch.ones(7)}), "state_dict"),
        (lambda checkpoint: checkpoint[STATE]["average"].update({"tokenizer.bias": torch.ones(8).double()}), "average"),
        (lambda checkpoint: checkpoint["loops"]["fit_loop"].clear(), "loops"),
        (lambda checkpoint: checkpoint.pop("lr_schedulers"), "lr_schedulers"),
        (lambda checkpoint: checkpoint.update({STATE: None}), STATE),
    ],
)
def test_a_part_that_is_absent_or_of_another_size_is_named(damage, part, file):
    checkpoint = load_checkpoint(file)
    damage(checkpoint)
    with pytest.raises(DamagedFile) as caught:
        check_parts(checkpoint, file)
    assert part in caught.value.reason


def test_the_newest_undamaged_checkpoint_is_found_and_only_on_request_others_are_set_aside(file, caplog):
    newer = file.with_name("updates_00000004.ckpt")
    newer.write_bytes(file.read_bytes()[:-100])
    assert newest_checkpoint(file.parent) == file
    assert str(newer) in caplog.text
    assert newer.is_file()
    assert list(sound_checkpoints(file.parent, set_aside=True)) == [file]
    assert {path.name for path in file.parent.iterdir()} == {file.name, f"{newer.name}.bad"}


@pytest.mark.parametrize("function", ["open", "os.listdir"], ids=["a file", "the folder"])
def test_a_fault_of_the_system_is_no_damage(function, file, monkeypatch):
    def fail(*arguments):
        raise PermissionError(errno.EACCES, "Permission denied", str(arguments[0]))

    monkeypatch.setattr(f"experiments.runs.integrity.{function}", fail, raising=False)
    with pytest.raises(PermissionError):
        list(sound_checkpoints(file.parent, set_aside=True))
    monkeypatch.undo()
    assert list(file.parent.iterdir()) == [file]


def test_other_files_beside_checkpoints_are_none_and_order_is_that_of_the_numbers(tmp_path):
    names = ["updates_100000000.ckpt", "updates_99999999.ckpt", "updates_best.ckpt", "updates_00000001.ckpt.bad", "last.ckpt"]
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in list_checkpoints(tmp_path)] == names[1::-1]
    assert list_checkpoints(tmp_path / "absent") == []
