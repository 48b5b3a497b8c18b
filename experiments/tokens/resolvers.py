"""Resolvers that read run folders, exports and token caches: `image_size: ${trained_with:model,image_size}`. Imports no torch."""

from typing import Any

from omegaconf import Container, ListConfig

from experiments.config.errors import ConfigError
from experiments.config.resolvers import select, whole_number
from experiments.runs.model_folder import ModelFolder

NOT_KEPT: dict[str, Any] = {"kept": []}  # of tokens that are not merged; files of earlier versions do not have this field


def trained_with(key: str, setting: str, cache: str = "", *, _root_: Container) -> Any:
    """A setting of the run folder or the export that the value of `key` names; of several the first.

    Where that is null, of the token cache that the key `cache` names, if there is such a key.
    """
    value = select(_root_, key)
    if isinstance(value, ListConfig) and value:
        value = value[0]
    if value is None and cache:
        file = select(_root_, cache)
        if file is None:
            advice = f"change `{key}` or `{cache}`"
            raise ConfigError(key, None, expected=f"a run folder or an exported tokenizer, or {cache}=FILE", advice=advice)
        from experiments.tokens.cache import read_header  # imports numpy

        return read_header(str(file), cache).about[setting]
    return folder_of(key, value).setting(setting)


def tokens_of(field: str, *, _root_: Container) -> Any:
    """A field of the TokenSpec of `data`, or its `image_size`.

    Read from the cache `data.file`, or from the tokenizer `data.tokenizer`, a run folder or an export. Classes are those of the images,
    not of the tokenizer: where there is no cache, `data.num_classes` is their number, and `data.num_tokens` that of the tokens, unless it
    is null.
    """
    data = select(_root_, "data")
    if "file" in data:
        from experiments.tokens.cache import read_header

        header = read_header(str(data["file"]))
        return header.about[field] if field == "image_size" else (NOT_KEPT | header.tokens)[field]
    if "tokenizer" not in data:
        name = str(data.get("_target_")).rpartition(".")[2]
        raise ConfigError(
            "data", name, reason="it has no tokens", expected="data=indices data.file=FILE or data=online data.tokenizer=FOLDER"
        )
    if field == "num_classes":
        return whole_number(_root_, "data.num_classes", 0)
    folder = folder_of("data.tokenizer", data["tokenizer"])
    if field == "image_size":
        return folder.setting(field)
    tokens = NOT_KEPT | folder.tokens
    if data.get("num_tokens") is not None:
        count = whole_number(_root_, "data.num_tokens", 1)
        tokens |= {"num_tokens": count, "kept": [count] if tokens["kind"] == "merged" else []}
    return tokens[field]


def folder_of(key: str, value: Any) -> ModelFolder:
    """The folder that the value of a key names.

    Raises:
        ConfigError: the value is no path.
    """
    if not isinstance(value, str):
        raise ConfigError(key, value, expected="a run folder or an export")
    return ModelFolder(value, key)
