"""Resolvers that read run folders, exports and token caches: `image_size: ${trained_with:model,image_size}`. Imports no torch."""

from typing import Any

from omegaconf import Container, ListConfig

from experiments.config.errors import ConfigError
from experiments.config.resolvers import at_least, select
from experiments.runs.model_folder import recorded


def trained_with(key: str, setting: str, cache: str = "", *, _root_: Container) -> Any:
    """A setting of the run folder or of the exported model that the value of `key` names; of several the first.

    Where that is null, of the token cache that the key `cache` names, if there is such a key.
    """
    value = select(_root_, key)
    if isinstance(value, ListConfig) and value:
        value = value[0]
    if value is None and cache:
        file = select(_root_, cache)
        if file is None:
            raise ConfigError(f"{key}=null: expected a run folder or an exported tokenizer, or {cache}=FILE; change `{key}` or `{cache}`")
        from experiments.tokens.cache import read_header  # imports numpy

        return read_header(str(file), cache).about[setting]
    return recorded(key, value, setting)


def tokens_of(field: str, *, _root_: Container) -> Any:
    """A field of the TokenSpec of `data`, or the `image_size` that it is for.

    Read from the cache `data.file`, or from the tokenizer `data.tokenizer`, a run folder or an export. Classes are the pictures', not the
    tokenizer's: `data.num_classes` says how many there are where there is no cache.
    """
    data = select(_root_, "data")
    if "file" in data:
        from experiments.tokens.cache import read_header

        header = read_header(str(data["file"]))
        return header.about[field] if field == "image_size" else header.tokens[field]
    if "tokenizer" not in data:
        name = str(data.get("_target_")).rpartition(".")[2]
        raise ConfigError(f"data={name}: it has no tokens; expected data=indices data.file=FILE or data=online data.tokenizer=FOLDER")
    if field == "num_classes":
        return at_least("data.num_classes", 0, _root_=_root_)
    if field == "image_size":
        return recorded("data.tokenizer", data["tokenizer"], field)
    return recorded("data.tokenizer", data["tokenizer"], "tokens")[field]
