"""The protocol of a probe: its identity, and the folder of the results by it. Imports no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.runs.folder import PATHS
from tokenizer.files import sha256, short_hash

SETTINGS = ("training", "crops", "passes", "flip", "shares", "samples", "guidance", "linear")  # keys of a file of conf/protocol
DIGITS = 6  # of a digest that cards have


def protocol_id(config: Mapping[str, Any], name: str) -> str:
    """Name and digest of a protocol with all that a configuration of experiments.probe changes in it, such as `small 1a2b3c`.

    Args:
        config: resolved configuration of the probe.
        name: chosen file of conf/protocol.
    """
    settings = {key: config[key] for key in SETTINGS}
    return f"{name} {short_hash({**settings, 'precision': config['trainer']['precision']})[:DIGITS]}"


def result_folder(config: Mapping[str, Any], name: str) -> str:
    """Folder of a probe's result below `evaluations/`, by protocol, seed, data and reference; see `protocol_id`."""
    reference = config["reference"] and sha256(Path(config["reference"]))
    data = {key: value for key, value in (config.get("data") or {}).items() if key not in PATHS}
    return f"probe-{name}-{short_hash([protocol_id(config, name), config['seed'], data, reference])}"
