"""The token cache of a candidate: a file as written by `experiments.tokenize`, named by what determines its indices."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from experiments.probing.candidates import Candidate
from experiments.tokens.cache import identity_of
from experiments.tokens.crops import Views, training_views
from experiments.tokens.writing import Tokenizing, describe_cache
from tokenizer.files import short_hash

log = logging.getLogger(__name__)

PRECISION: Literal["fp32"] = "fp32"


def views_of(candidate: Candidate, config: Mapping[str, Any]) -> Views:
    """Views of the training images for generator and linear probes."""
    return training_views(candidate.source, _views(config))


def token_cache(candidate: Candidate, config: Mapping[str, Any], folder: Path, device: torch.device) -> Path:
    """The cache file in `folder`, written if it is absent."""
    source = candidate.source
    about = describe_cache(
        source,
        candidate.tokens,
        _views(config),
        data={"name": candidate.location.data["_target_"].rpartition(".")[2], "config": candidate.location.data},
        tokenizer={"folder": str(candidate.location.folder.resolve()), "digest": candidate.digest, "weights": candidate.weights},
        seed=config["seed"],
        precision=PRECISION,
    )
    path = folder / f"{short_hash(identity_of(about))}.safetensors"
    if not path.is_file():
        views = views_of(candidate, config)
        log.info("%s: tokenizing %d images", candidate.location.name, len(source.train) + len(source.val))
        writer = Tokenizing(candidate.model, device, PRECISION, config["batch_size"], config["workers"])
        writer.write(path, source, views, about)
    return path


def _views(config: Mapping[str, Any]) -> dict[str, Any]:
    """Views as the header of a cache describes them."""
    if config["crops"] == "ten_crop":
        return {"crops": "ten_crop", "shares": config["shares"]}
    return {"crops": "as_data", "passes": config["passes"], "flip": config["flip"]}
