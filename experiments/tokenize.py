"""Tokenize pictures into one file: `python -m experiments.tokenize tokenizer=RUN_FOLDER data=digits`; inspect=FILE looks into it."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from experiments.config.checks import check_output, check_setting
from experiments.config.compose import Composition, main
from experiments.config.errors import ConfigError
from experiments.data.files import check_data, check_pictures
from experiments.runs.folder import CONFIG
from experiments.runs.model_folder import check_export
from experiments.tokens.cache import SPLITS, CacheHeader, TokenCache, identity_of, looks_like_cache, read_header, short_hash

log = logging.getLogger("experiments.tokenize")  # __name__ is __main__ here

IMAGE_FOLDER = "experiments.data.image_folder.ImageFolder"
SHOWN_LEFT_OUT = 20


def run(composition: Composition) -> int:
    """Write a cache, or show one."""
    config = composition.config
    _check(config)
    if config["inspect"]:
        return inspect(config)
    from experiments.data.source import ImageSource
    from experiments.runs.build import build
    from experiments.runs.devices import choose_device
    from experiments.runs.models import digest_of, load_tokenizer
    from experiments.tokens.crops import training_views
    from experiments.tokens.writing import Tokenizing, describe_cache, tokens_of

    device = choose_device(config["device"])
    source = build(config["data"])
    if not isinstance(source, ImageSource):
        raise ConfigError(f"data={composition.choices['data']}: expected pictures; change `data`")
    model = load_tokenizer(config["tokenizer"], config["weights"])[0]
    about = describe_cache(
        source,
        tokens_of(model, source),
        _views(config),
        data={"name": composition.choices["data"], "config": config["data"]},
        tokenizer={"folder": config["tokenizer"], "digest": digest_of(model), "weights": config["weights"]},
        seed=config["seed"],
        precision=config["precision"],
    )
    path = _output(config, about)
    if _is_done(path, about, config["rerun"]):
        log.info("%s is done; rerun=true repeats it", path)
    else:
        training = training_views(source, about["views"])
        tokenizing = Tokenizing(model, device, config["precision"], config["batch_size"], config["workers"])
        tokenizing.write(path, source, training, about)
    show(TokenCache(path, "output"))
    log.info("token cache %s", path)
    return 0


def inspect(config: dict[str, Any]) -> int:
    """Print a cache's header; decode one training picture, if the tokenizer is still there."""
    cache = TokenCache(config["inspect"], "inspect")
    show(cache)
    describe(cache.header)
    images = cache.header.arrays["train/labels"].shape[0]
    if not 0 <= config["sample"] < images:
        raise ConfigError(f"sample={config['sample']}: expected a training picture, 0 .. {images - 1}; change `sample`")
    made_by = cache.header.about["tokenizer"]
    if not config["tokenizer"] and not Path(made_by["folder"]).is_dir():
        log.warning("the tokenizer %s is gone, no picture is decoded; tokenizer=FOLDER says where it is", made_by["folder"])
        return 0
    from experiments.evaluation.figures import save_picture
    from experiments.runs.devices import choose_device
    from experiments.runs.models import recorded_tokenizer
    from experiments.tokens.writing import decode_row

    model = recorded_tokenizer(made_by, config["tokenizer"], f"the cache {config['inspect']}")
    picture = Path(config["output"] or f"{config['inspect']}.train{config['sample']}.png")
    save_picture(decode_row(model.to(choose_device(config["device"])), cache, "train", config["sample"]), picture)
    log.info("picture %s", picture)
    return 0


def show(cache: TokenCache) -> None:
    """Print a line for each split on standard output, and what was left out."""
    tokens, table, console = cache.header.tokens, Table(), Console()
    for title in ("split", "images", "views", "tokens", "bits per image", "usage"):
        table.add_column(title, justify="left" if title == "split" else "right")
    bits = tokens["num_tokens"] * tokens["groups"] * np.log2(tokens["codebook_size"])
    for split in SPLITS:
        images, views, number, _ = cache.header.arrays[f"{split}/indices"].shape
        usage = cache.header.about["splits"][split]["codebook_usage"]
        counted = "not counted" if usage is None else f"{100 * usage:.2f} %"
        table.add_row(split, str(images), str(views), str(number), f"{bits:g}", counted)
    console.print(table)
    for split in SPLITS:
        left_out = cache.header.about["splits"][split]["left_out"]
        if left_out:
            names = ", ".join(left_out[:SHOWN_LEFT_OUT]) + (" ..." if len(left_out) > SHOWN_LEFT_OUT else "")
            _line(console, f"{split}: {len(left_out)} left out, could not be read: {names}")
    _classes(console, cache)


def _classes(console: Console, cache: TokenCache) -> None:
    """Names of classes with how many pictures of each split have them."""
    classes = cache.header.about["classes"]
    if classes:
        counts = [np.bincount(cache.array(f"{split}/labels") + 1, minlength=len(classes) + 1)[1:] for split in SPLITS]
        pairs = [f"{name} {' + '.join(str(count[number]) for count in counts)}" for number, name in enumerate(classes)]
        shown = ", ".join(pairs[:SHOWN_LEFT_OUT]) + (" ..." if len(pairs) > SHOWN_LEFT_OUT else "")
        _line(console, f"{len(classes)} classes, train + val: {shown}")


def describe(header: CacheHeader) -> None:
    """Print the arrays and everything else that a header says."""
    table, console = Table(), Console()
    for title in ("array", "dtype", "shape", "offset"):
        table.add_column(title)
    for name, array in header.arrays.items():
        table.add_row(name, array.dtype, " x ".join(map(str, array.shape)), str(array.offset))
    console.print(table)
    for name, value in header.about.items():
        if name not in ("classes", "splits"):
            _line(console, f"{name}: {value if isinstance(value, str | int) else json.dumps(value)}")


def _line(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False, markup=False)


def _check(config: dict[str, Any]) -> None:
    """What can be judged without torch."""
    check_setting(config, "device", choices=("auto", "cpu", "cuda"))
    for key, minimum in {"batch_size": 1, "passes": 1, "workers": 0, "seed": 0}.items():
        check_setting(config, key, minimum=minimum)
    for key, choices in {"weights": ("ema", "raw"), "precision": ("fp32", "bf16"), "crops": ("as_data", "ten_crop")}.items():
        check_setting(config, key, choices=choices)
    if config["output"]:
        check_output(Path(config["output"]), is_file=True)
    if config["inspect"]:
        return
    if config["tokenizer"] is None:
        raise ConfigError("tokenizer=null: expected a run folder or an exported tokenizer, or inspect=FILE; change `tokenizer`")
    check_export(Path(config["tokenizer"]).expanduser(), config["weights"])
    check_pictures(config["data"])
    check_data(config["data"])
    if config["crops"] == "as_data":
        return
    if config["data"]["_target_"] != IMAGE_FOLDER:
        raise ConfigError("crops=ten_crop: it cuts whole pictures, which data=image_folder alone has; change `crops` or `data`")
    if config["flip"] or config["passes"] != 1:
        raise ConfigError("crops=ten_crop: it has the mirror images, and one pass shows all; leave `flip` and `passes` out")
    shares = config["ten_crop_shares"]
    if not isinstance(shares, list) or not shares or any(not isinstance(share, int | float) or share < 1 for share in shares):
        raise ConfigError(
            f"ten_crop_shares={shares}: expected a list of numbers of at least 1, such as [1.1,1.05]; change `ten_crop_shares`"
        )


def _views(config: Mapping[str, Any]) -> dict[str, Any]:
    """How training pictures are cut, and nothing that has no effect on it."""
    if config["crops"] == "ten_crop":
        return {"crops": "ten_crop", "shares": config["ten_crop_shares"]}
    return {"crops": "as_data", "passes": config["passes"], "flip": config["flip"]}


def _output(config: Mapping[str, Any], about: Mapping[str, Any]) -> Path:
    """A file of its own for every tokenizer, data and way to cut."""
    if config["output"]:
        return Path(config["output"])
    tokenizer = Path(config["tokenizer"]).expanduser()
    inside = (tokenizer / CONFIG).is_file()
    folder = tokenizer / "tokens" if inside else Path("runs", "tokens", *tokenizer.resolve().parts[-2:])
    return folder / f"{short_hash(identity_of(about))}.safetensors"


def _is_done(path: Path, about: Mapping[str, Any], rerun: bool) -> bool:
    """Whether the file is there already and shall not be written anew.

    Raises:
        ConfigError: a file is there that holds something else; with `rerun` too if it was never a cache, even a damaged one.
    """
    if not path.exists():
        return False
    if rerun:
        if not looks_like_cache(path):
            raise ConfigError(f"output={path}: it holds something else, not tokens; change `output`")
        return False
    theirs, ours = (identity_of(header) for header in (read_header(path, "output").about, about))
    if theirs == ours:
        return True
    differing = ", ".join(name for name in ours if theirs[name] != ours[name])
    raise ConfigError(f"output={path}: it is a cache of another {differing}; change `output`, or rerun=true writes it anew")


if __name__ == "__main__":
    main("tokenize", run, "Tokenize pictures into one file, or look into such a file.")
