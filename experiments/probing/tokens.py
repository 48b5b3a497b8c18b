"""The token cache that a probe trains on: the file of `experiments.tokenize`, named by what decides its indices."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from experiments.probing.candidates import Entrant
from experiments.tokens.cache import identity_of
from experiments.tokens.crops import Views, training_views
from experiments.tokens.writing import Tokenizing, describe_cache
from tokenizer.files import short_hash

log = logging.getLogger(__name__)

PRECISION: Literal["fp32"] = "fp32"


def views_of(entrant: Entrant, config: Mapping[str, Any]) -> Views:
    """The views of the training pictures that generator and linear probes learn from."""
    return training_views(entrant.source, _views(config))


def token_cache(entrant: Entrant, config: Mapping[str, Any], folder: Path, device: torch.device) -> Path:
    """The file in `folder`, written if it is not there."""
    source = entrant.source
    about = describe_cache(
        source,
        entrant.tokens,
        _views(config),
        data={"name": entrant.place.data["_target_"].rpartition(".")[2], "config": entrant.place.data},
        tokenizer={"folder": str(entrant.place.folder.resolve()), "digest": entrant.digest, "weights": entrant.weights},
        seed=config["seed"],
        precision=PRECISION,
    )
    path = folder / f"{short_hash(identity_of(about))}.safetensors"
    if not path.is_file():
        views = views_of(entrant, config)
        log.info("%s: tokenizing %d pictures", entrant.place.name, len(source.train) + len(source.val))
        writer = Tokenizing(entrant.model, device, PRECISION, config["batch_size"], config["workers"])
        writer.write(path, source, views, about)
    return path


def _views(config: Mapping[str, Any]) -> dict[str, Any]:
    """As a cache's header has them."""
    if config["crops"] == "ten_crop":
        return {"crops": "ten_crop", "shares": config["shares"]}
    return {"crops": "as_data", "passes": config["passes"], "flip": config["flip"]}
