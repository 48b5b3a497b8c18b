"""Words of a command line: which need no quotes, and the word to type for those that do."""

import shlex

import pytest

from experiments.config.compose import compose
from experiments.config.errors import ConfigError
from experiments.config.overrides import expand, parse, value_of
from experiments.data.files import check_data

PLAIN = [
    "my photos", "a#b", "ä", "été/Zürich", "图/片", "x=1/lr=1e-3", "~/photos", "a;b&c", "a!b", "a<b>", "`a`", "a^b|c", "фото", "é",
]  # fmt: skip
WITH_BRACKETS = ["my photos (2024)", "it's", 'a"b', "a ä, b", "x{y}é", "[raw]ä", "back\\ä\\", "lr=1e-3,b=4 (é)", "a,b"]


def refusal(*words: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        compose("train", list(words))
    return caught.value


@pytest.mark.parametrize("text", PLAIN)
def test_text_without_brackets_quotes_and_commas_needs_no_quotes(text, monkeypatch):
    assert value_of(parse([f"data.root={text}"])[0]) == text
    monkeypatch.setenv("HOME", "/home/somebody")
    root = compose("train", ["data=image_folder", f"data.root={text}"]).config["data"]["root"]
    assert root == text.replace("~", "/home/somebody")


@pytest.mark.parametrize("text", WITH_BRACKETS)
def test_the_word_to_type_for_any_text_is_in_the_message_and_works(text):
    advice = refusal(f"runs_folder={text}").advice
    typed = next(word for word in shlex.split(advice) if word.startswith('runs_folder="'))
    assert compose("train", [typed]).config["runs_folder"] == text


def test_the_values_of_multirun_need_no_quotes_either():
    jobs = expand(["data.root=ä,ö x,~/y", "seed=1,2"])
    assert [[value_of(override) for override in parse(job)] for job in jobs] == [
        [root, seed] for root in ("ä", "ö x", "~/y") for seed in (1, 2)
    ]


def test_a_text_that_reads_as_something_else_has_the_word_to_type():
    for text in ("2024_01", "[raw]", "1e3", "true"):
        error = refusal(f"runs_folder={text}")
        assert error.key == "runs_folder"
        assert error.advice == f"as text it is written 'runs_folder=\"{text}\"'"


def test_a_missing_value_of_hydra_is_refused():
    assert [refusal(f"{key}=???").key for key in ("seed", "data.image_size", "task.tokenizer")] == [
        "seed",
        "data.image_size",
        "task.tokenizer",
    ]


@pytest.mark.parametrize("word", ["=3", "=", "==a"])
def test_a_word_without_a_key_is_refused(word):
    assert (refusal(word).key, refusal(word).expected) == (word, "key=value")


@pytest.mark.parametrize("key", ["runs_folder", "init_from", "resume"])
def test_an_empty_path_is_refused(key):
    assert (refusal(f"{key}=").key, refusal(f"{key}=").value) == (key, "")


@pytest.mark.parametrize("root", ["[raw]", "2024", ""])
def test_a_folder_of_images_is_text(root):
    composition = compose("train", ["data=image_folder", f"data.root={root}"])
    with pytest.raises(ConfigError) as caught:
        check_data(composition.config["data"])
    error = composition.draft.explain(caught.value)
    assert error.key == "data.root"
    assert (f'data.root="{root}"' in error.advice) == bool(root)


@pytest.mark.parametrize("key", ["seed", "log_every", "validate_every", "keep_checkpoints"])
def test_a_whole_number_beyond_64_bits_is_refused(key):
    assert refusal(f"{key}={2**63}").key == key
    assert compose("train", [f"{key}={2**63 - 1}"]).config[key] == 2**63 - 1
