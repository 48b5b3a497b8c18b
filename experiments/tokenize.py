"""Tokenize images into one file: `python -m experiments.tokenize tokenizer=RUN_FOLDER data=digits`; inspect=FILE shows such a file."""

import logging

from experiments.config.compose import Composition, main
from experiments.config.errors import ConfigError
from experiments.config.idle import report_idle
from experiments.config.settings import TokenizeSettings
from experiments.runs.model_folder import ModelFolder
from experiments.tokens.cache import TokenCache
from experiments.tokens.checks import check, idle_in_tokenizing
from experiments.tokens.showing import inspect, show

log = logging.getLogger("experiments.tokenize")  # __name__ is __main__ here


def run(composition: Composition) -> int:
    """Write a cache, or show one."""
    check(composition.settings)
    report_idle(composition.overrides, idle_in_tokenizing(composition.settings))
    if composition.settings.inspect:
        inspect(composition.settings)
    else:
        tokenize(composition.settings, str(composition.choices["data"]))
    return 0


def tokenize(settings: TokenizeSettings, data: str) -> None:
    """Write the cache of a tokenizer and data, unless it exists.

    Args:
        settings: checked settings.
        data: chosen file of that group.
    """
    from experiments.data.source import ImageSource
    from experiments.runs.build import build
    from experiments.runs.devices import choose_device
    from experiments.runs.models import digest_of, load_tokenizer
    from experiments.tokens.crops import training_views, view_settings
    from experiments.tokens.writing import Tokenizing, describe_cache, is_written, output_file, tokens_of

    device = choose_device(settings.device)
    folder = ModelFolder(str(settings.tokenizer), "tokenizer")
    source = build(settings.data, "data")
    if not isinstance(source, ImageSource):
        raise ConfigError("data", data, expected="images")
    model = load_tokenizer(folder.path, settings.weights)[0]
    views = view_settings(settings.crops, settings.passes, settings.flip, settings.ten_crop_shares)
    training = training_views(source, views)
    counts = settings.num_tokens or []
    num_tokens = counts * training.views if len(counts) == 1 else counts
    about = describe_cache(
        source,
        tokens_of(model, source, num_tokens),
        views,
        data={"name": data, "config": settings.data},
        tokenizer={"folder": str(settings.tokenizer), "digest": digest_of(model), "weights": settings.weights},
        seed=settings.seed,
        precision=settings.precision,
        num_tokens=num_tokens,
    )
    path = output_file(settings.output, folder, about)
    if is_written(path, about, settings.rerun):
        log.info("%s is done; rerun=true repeats it", path)
    else:
        tokenizing = Tokenizing(model, device, settings.precision, settings.batch_size, settings.workers)
        tokenizing.write(path, source, training, about)
    show(TokenCache(path, "output"))
    log.info("token cache %s", path)


if __name__ == "__main__":
    main("tokenize", run, "Tokenize images into one file, or show such a file.")
