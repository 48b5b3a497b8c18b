"""Training generators end to end: learning, resuming, rejected configurations, and the contents of the run folder."""

import csv
import logging
import math
import re
import shutil
from dataclasses import asdict

import pytest
import torch

from experiments import export
from experiments.config.compose import compose
from experiments.config.errors import ConfigError, RunFolderError
from experiments.data.loading import ImageData
from experiments.runs.build import build
from experiments.runs.checkpoints import STATE, load_checkpoint
from experiments.runs.folder import identity
from experiments.runs.models import TokenizerGoneError, digest_of, load_generator, load_tokenizer, tokenizer_of
from experiments.training.generator_task import GeneratorTask
from experiments.training.loop import build_task, train
from experiments.training.preparation import check_sizes
from tests.tokens.made_caches import CLASSES, TOKENS
from tests.training.made_models import GENERATOR, recorded, run, write_digits, write_tokenizer, write_tokens
from tokenizer.generators.ar import AutoregressiveGenerator
from tokenizer.interfaces import TokenBatch, TokenSpec


class Killed(BaseException):
    """Stands for a killed process."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A tokenizer and a cache that names it as its tokenizer."""
    folder = tmp_path_factory.mktemp("made")
    write_tokens(folder / "c", write_tokenizer(folder / "tokenizer"))
    return folder


@pytest.fixture(scope="module")
def finished(place):
    """A run with averaged weights and samples."""
    return run(place / "runs", place / "c", "ema_decay=0.5", "samples_shown=4")


def test_a_generator_memorizes_a_small_cache(tmp_path):
    write_tokens(tmp_path / "c", images=40)
    words = ["updates=150", "batch_size=40", "learning_rate=5.0e-3", "generator.dropout=0", "validate_every=150", "checkpoint_every=150"]
    folder = run(tmp_path, tmp_path / "c", "data.seed=0", "log_every=30", *words)
    with open(folder.path / "metrics.csv") as file:
        losses = [float(row["train/loss/nll"]) for row in csv.DictReader(file) if row["train/loss/nll"]]
    assert losses[-1] < 0.75 * 2 * math.log(16)
    assert losses == sorted(losses, reverse=True)


def test_a_result_has_likelihoods_with_cards_and_an_image(finished, place):
    result = finished.result
    assert result["state"] == "done"
    nll, bits = result["metrics"]["val/nll"], result["metrics"]["val/bits_per_pixel"]
    assert bits == pytest.approx(4 * nll / math.log(2) / 16**2)
    assert {key.rpartition("/")[0] for key in result["cards"]} == {"val", "val_raw"}
    digest = digest_of(load_tokenizer(place / "tokenizer")[0])
    card = result["cards"]["val/nll"]
    assert (card["n"], card["subject"], card["weights"], card["reference"]) == (2, "ema", digest, "made")
    assert result["cards"]["val/bits_per_pixel"]["weights"] is None
    generator = load_generator(finished.path)[0]
    assert result["metrics"]["model/parameters"] == sum(p.numel() for p in generator.parameters())
    assert [path.name for path in (finished.path / "images").iterdir()] == ["updates_00000004.png"]


def test_the_likelihood_is_that_of_the_averaged_weights(finished, place):
    source = build(compose("train", [*GENERATOR, f"data.file={place / 'c'}"]).config["data"])
    batch = source.collate(source.val.__getitems__([0, 1]))
    for weights, prefix in (("ema", "val"), ("raw", "val_raw")):
        generator = load_generator(finished.path, weights)[0]
        with torch.no_grad():
            expected = sum(
                -torch.log_softmax(logits, -1).gather(-1, batch.indices[:, :, s : s + 1]).mean()
                for s, logits in enumerate(generator.logits(batch))
            )
        assert finished.result["metrics"][f"{prefix}/nll"] == pytest.approx(float(expected), rel=1e-5)


def test_a_run_records_what_others_have_to_know(finished, place):
    about = recorded(finished)
    assert (about["tokens"], about["classes"]) == ({**TOKENS, "kept": []}, CLASSES)
    assert about["tokenizer"]["folder"] == str(place / "tokenizer")
    assert digest_of(tokenizer_of(finished.path)) == about["tokenizer"]["digest"] == about["contents"]["tokenizer"]


def test_an_export_is_the_same_generator(finished, tmp_path):
    assert export.run(compose("export", [f"run={finished.path}", f"output={tmp_path / 'out'}"])) == 0
    exported = AutoregressiveGenerator.from_pretrained(tmp_path / "out")
    ours = load_generator(finished.path)[0]
    assert asdict(exported.tokens) == asdict(ours.tokens)
    for (name, value), other in zip(ours.state_dict().items(), exported.state_dict().values(), strict=True):
        assert torch.equal(value, other), name
    assert digest_of(tokenizer_of(tmp_path / "out")) == recorded(finished)["tokenizer"]["digest"]
    for folder in (finished.path, tmp_path / "out"):
        with pytest.raises(ConfigError, match="it holds a generator") as caught:
            load_tokenizer(folder)
        assert (caught.value.key, caught.value.value) == ("tokenizer", str(folder))


def test_a_generator_begins_with_the_weights_of_another(finished, place, tmp_path, caplog):
    words = [f"init_from={finished.path}", "learning_rate=0.0", "generator_size.depth=1"]
    with caplog.at_level(logging.INFO, "experiments"):
        folder = run(tmp_path, place / "c", *words)
    theirs, ours = load_generator(finished.path)[0].state_dict(), load_generator(folder.path)[0].state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert re.search(r"init_from: \d+ tensors unused: blocks\.1\.", caplog.text)
    assert "init_from: 0 tensors missing there" in caplog.text
    assert "trained on tokens of the tokenizer" not in caplog.text


def test_initializing_from_a_generator_of_a_different_tokenizer_is_logged(finished, tmp_path, caplog):
    other = write_tokenizer(tmp_path / "tokenizer", seed=1)
    write_tokens(tmp_path / "other", other)
    run(tmp_path, tmp_path / "other", f"init_from={finished.path}")
    assert re.search(rf"init_from=.*: it was trained on tokens of the tokenizer \w+, this data has those of {other['digest']}", caplog.text)


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_a_stopped_run_resumes_to_the_same_bits(place, tmp_path, monkeypatch, decay):
    words = ["accumulate=2", f"ema_decay={decay}"]
    whole = run(tmp_path / "whole", place / "c", *words)
    step = GeneratorTask.training_step

    def killed(task, batch, index):
        if task.batches == 5:
            raise Killed
        return step(task, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(GeneratorTask, "training_step", killed)
        with pytest.raises(Killed):
            run(tmp_path / "stopped", place / "c", *words)
    stopped = run(tmp_path / "stopped", place / "c", *words)
    expected, ours = (load_checkpoint(folder.checkpoint_files[-1]) for folder in (whole, stopped))
    assert (ours[STATE]["updates"], ours[STATE]["batches"]) == (4, 8)
    for name, value in expected["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], value), name
    for name, value in (expected[STATE]["average"] or {}).items():
        assert torch.equal(ours[STATE]["average"][name], value), name
    for number, moments in expected["optimizer_states"][0]["state"].items():
        assert all(torch.equal(ours["optimizer_states"][0]["state"][number][name], value) for name, value in moments.items())


def test_recomputed_activations_change_neither_the_identity_nor_the_weights(finished, place, tmp_path, monkeypatch):
    seen = []
    step = GeneratorTask.training_step

    def watched(task, batch, index):
        seen.append(task.generator.blocks.recompute)
        step(task, batch, index)

    monkeypatch.setattr(GeneratorTask, "training_step", watched)
    again = run(tmp_path, place / "c", "ema_decay=0.5", "samples_shown=4", "recompute=true")
    assert seen == [True] * 4
    assert again.path.name == finished.path.name
    ours, theirs = (load_checkpoint(folder.checkpoint_files[-1])["state_dict"] for folder in (again, finished))
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name


def test_the_identity_of_a_run_does_not_depend_on_file_paths(place, tmp_path):
    def identified(*words: str) -> str:
        config = compose("train", [*GENERATOR, *words]).config
        return identity(config, build(config["data"]).contents())

    shutil.copy(place / "c", tmp_path / "moved")
    here = identified(f"data.file={place / 'c'}")
    assert identified(f"data.file={tmp_path / 'moved'}", f"tokenizer={place / 'tokenizer'}", "samples_shown=3") == here
    assert identified(f"data.file={place / 'c'}", "optimizer.clip=2.0") != here
    write_tokens(tmp_path / "other", write_tokenizer(tmp_path / "tokenizer", seed=1))
    assert identified(f"data.file={tmp_path / 'other'}") != here


def test_a_run_does_not_resume_with_tokens_of_a_different_tokenizer(finished, place, tmp_path):
    other = write_tokenizer(tmp_path / "tokenizer", seed=1)
    write_tokens(tmp_path / "other", other)
    words = [*GENERATOR, f"data.file={tmp_path / 'other'}", f"resume={finished.path}", "updates=6", "ema_decay=0.5"]
    with pytest.raises(RunFolderError) as caught:
        train(compose("train", words).config, words, "test")
    assert ("content of tokenizer", finished.contents["tokenizer"], other["digest"]) in caught.value.changes


def test_a_tokenizer_that_did_not_make_the_tokens_is_refused(place, tmp_path):
    other = write_tokenizer(tmp_path / "tokenizer", seed=1)
    ours = digest_of(load_tokenizer(place / "tokenizer")[0])
    words = [*GENERATOR, f"data.file={place / 'c'}", f"tokenizer={tmp_path / 'tokenizer'}", f"runs_folder={tmp_path / 'runs'}"]
    with pytest.raises(ConfigError, match=f"has the digest {other['digest']}, but this data needs the tokenizer {ours}"):
        train(compose("train", words).config, words, "test")
    assert not (tmp_path / "runs").exists()


def test_a_generator_trains_without_the_tokenizer_and_saves_no_images(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "experiments"):
        folder = run(tmp_path, write_tokens(tmp_path / "c"), "samples_shown=4", "validate_every=2")
    assert caplog.text.count("no images of samples") == 1
    assert folder.state == "done"
    assert not (folder.path / "images").exists()
    with pytest.raises(TokenizerGoneError) as caught:
        tokenizer_of(folder.path)
    assert (caught.value.folder, caught.value.digest) == ("runs/a", "abc")


@pytest.mark.parametrize(
    ("words", "key", "where"),
    [
        (["tokens.codebook_size=32"], "tokens.codebook_size", ""),
        (["tokens.kept=[2,4]"], "tokens.kept", ""),
        (["samples_shown=many"], "samples_shown", ""),
        (["recompute=maybe"], "recompute", ""),
        (["quantizer=vq"], "quantizer", ""),
        (["width=3"], "width", ""),
        (["scale=smoke"], "width", "conf/scale/smoke.yaml"),
        (["scale=mini"], "discriminator", "conf/scale/mini.yaml"),
    ],
)
def test_what_a_generator_does_not_have_is_one_error_with_its_key(words, key, where, place, tmp_path):
    overrides = [*GENERATOR, f"data.file={place / 'c'}", f"runs_folder={tmp_path / 'runs'}", *words]
    with pytest.raises(ConfigError) as caught:
        train(compose("train", overrides).config, overrides, "test")
    assert (caught.value.key, caught.value.place) == (key, where)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["generator=ar"], ["generator=ar", "has no group `generator`", "task=generator has it"]),
        (["transformer@generator_size=xl"], ["has no group `transformer@generator_size`", "task=generator has it"]),
        (["tokenizer=runs/a"], ["no key `tokenizer`", "task=generator does"]),
        (["task=generator", "data=digits"], ["data=Digits", "no tokens", "data=indices data.file=FILE"]),
    ],
)
def test_a_generator_is_asked_for_by_its_task(words, parts):
    with pytest.raises(ConfigError) as caught:
        compose("train", words)
    for part in parts:
        assert part in str(caught.value)


def test_a_tokenizer_does_not_learn_from_tokens(place):
    config = compose("train", ["data=indices", f"data.file={place / 'c'}"]).config
    with pytest.raises(ConfigError) as caught:
        check_sizes(config, build(config["data"]))
    assert (caught.value.key, caught.value.value) == ("data.file", str(place / "c"))


def test_images_tokenized_during_training_give_the_tokens_of_the_cache(place, tmp_path):
    file = write_digits(tmp_path / "digits", place / "tokenizer")
    online = ["data=online", "data@data.images=digits", f"data.tokenizer={place / 'tokenizer'}", "data.num_classes=10"]
    words = {"cached": [f"data.file={file}"], "online": online}
    configs = {name: compose("train", [*GENERATOR, *more]).config for name, more in words.items()}
    sources = {name: build(config["data"]) for name, config in configs.items()}
    seen: dict[str, list[TokenBatch]] = {}
    for name, source in sources.items():
        check_sizes(configs[name], source)
        task = build_task(configs[name], source)
        data = ImageData(source, configs[name]["batch_size"], configs[name]["seed"], workers=0)
        batches = [next(iter(loader)) for loader in (data.train_dataloader(), data.val_dataloader())]
        seen[name] = [task.as_tokens(batch) for batch in batches]
    for cached, encoded in zip(seen["cached"], seen["online"], strict=True):
        assert torch.equal(cached.indices, encoded.indices)
        assert torch.equal(cached.labels, encoded.labels)
        assert cached.layout == encoded.layout
    assert sources["online"].tokens == sources["cached"].tokens == TokenSpec(16, 2, 4, (2, 2), "raster", 10)
    assert sources["online"].contents()["tokenizer"] == sources["cached"].contents()["tokenizer"]


def test_a_generator_trains_on_images(place, tmp_path):
    online = ["data=online", "data@data.images=digits", f"data.tokenizer={place / 'tokenizer'}", "data.num_classes=10"]
    words = [*GENERATOR, *online, f"runs_folder={tmp_path}", "updates=2", "batch_size=64", "samples_shown=2"]
    assert train(compose("train", words).config, words, "test") == 0
    (path,) = (tmp_path / "test").iterdir()
    assert set(load_checkpoint(path / "checkpoints" / "updates_00000002.ckpt")["state_dict"]) == {
        f"generator.{name}" for name in load_generator(path)[0].state_dict()
    }
    assert digest_of(tokenizer_of(path)) == digest_of(load_tokenizer(place / "tokenizer")[0])
