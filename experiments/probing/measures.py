"""Measurements of a candidate other than samples: reconstruction, and linear probes of tokenizer and generator.

Features, GigaTok (arXiv:2504.08736), section 5: the generator's residual stream after half of its blocks, conditioned on the null class,
so that no label leaks in; the tokens of the tokenizer's encoder, before their projection to latents. Both are means over the tokens.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.data.loading import ImageData, evaluation_batches, make_loader
from experiments.data.source import NO_LABEL
from experiments.data.transforms import normalize
from experiments.evaluation.cards import Card
from experiments.evaluation.linear import ProbeSettings, linear_accuracy
from experiments.evaluation.reconstruction import evaluate
from experiments.evaluation.results import Results, Skipped
from experiments.evaluation.subjects import make_subject
from experiments.probing.candidates import Candidate
from experiments.tokens.cached import CachedTokens
from experiments.tokens.crops import EvaluationViews, Views
from tokenizer.interfaces import Generator, ImageBatch, TokenBatch

log = logging.getLogger(__name__)

TOO_FEW_CLASSES = Skipped("the data has fewer than two classes")
Part = tuple[Tensor, Tensor]  # features (n, views, W) and labels (n,)


def reconstruction(candidate: Candidate, config: Mapping[str, Any], device: torch.device) -> Results:
    """The numbers of `experiments.evaluate`, by their own names."""
    source, seed = candidate.source, config["seed"]
    subject = make_subject("val", candidate.model.to(device), source, seed, candidate.weights, None)
    results = evaluate([subject], ImageData(source, config["batch_size"], seed, config["workers"]).val_dataloader(), device, shown=1)
    return Results(results.values, results.cards, {f"val/{name}": why for name, why in results.skipped.items()})


def card(candidate: Candidate, metric: str, n: int, subject: str, seed: int, aggregate: str) -> Card:
    """Card of a number that this code computes from tokens or features of the evaluation images."""
    source = candidate.source
    return Card(
        metric=metric,
        backend="tessera",
        network=None,
        weights=None,
        resize=None,
        transform=source.transform,
        image_size=source.image_size,
        reference=source.reference,
        n=n,
        aggregate=aggregate,
        dtype="float32",
        subject=subject,
        guidance=None,
        losses=None,
        seed=seed,
    )


def linear_of_generator(
    candidate: Candidate, generator: Generator, cache: Path, subject: str, config: Mapping[str, Any], device: torch.device
) -> Results:
    """acc1 of a linear probe on the generator's features."""
    if len(candidate.source.classes or []) < 2:
        return Results(skipped={"acc1": TOO_FEW_CLASSES})
    block, most = generator.depth // 2, config["linear"]["views"]
    if block == 0:
        return Results(skipped={"acc1": Skipped("the generator has one block, its probe needs two at least")})
    stored = CachedTokens(str(cache), config["seed"])
    parts = []
    for split in (stored.train, stored.val):
        views = min(most, split.indices.shape[1])
        features = torch.empty(len(split), views, generator.width, device=device)  # filled in place: two of ImageNet's do not fit
        for rows in torch.split(torch.arange(len(split)), config["batch_size"]):
            batch = split.batch(np.repeat(rows.numpy(), views), np.tile(np.arange(views), len(rows)))
            features[rows] = _of_tokens(generator, batch.to(device), block).view(len(rows), views, -1)
        parts.append((features, torch.from_numpy(split.labels.astype(np.int64)).to(device)))
    return _accuracy(candidate, parts[0], parts[1], f"features of {subject} after block {block}, no class, mean over tokens", config)


@torch.no_grad()
def _of_tokens(generator: Generator, batch: TokenBatch, block: int) -> Tensor:
    """(B, W), without the classes."""
    unlabeled = replace(batch, labels=torch.full_like(batch.labels, NO_LABEL))
    return generator.eval().features(unlabeled, block).float().mean(1)


def linear_of_tokenizer(candidate: Candidate, views: Views, config: Mapping[str, Any], device: torch.device) -> Results:
    """acc1 of a linear probe on the features of the tokenizer's encoder, before their projection to latents.

    Args:
        candidate: tokenizer.
        views: views of the training images, as in the token cache.
        config: configuration of the probe.
        device: device of the tokenizer.
    """
    if len(candidate.source.classes or []) < 2:
        return Results(skipped={"acc1": TOO_FEW_CLASSES})
    parts = [_of_images(candidate, each, config, device) for each in (views, EvaluationViews(candidate.source.val))]
    return _accuracy(candidate, parts[0], parts[1], "features of the encoder before the projection to latents, mean over tokens", config)


@torch.no_grad()
def _of_images(candidate: Candidate, views: Views, config: Mapping[str, Any], device: torch.device) -> Part:
    batches = evaluation_batches(len(views), max(1, config["batch_size"] // views.views), rank=0, world=1)
    loader = make_loader(views, candidate.source.collate, batches, config["workers"])
    encoder, features, labels = candidate.model.to(device).eval().encoder, [], []
    for batch in loader:
        assert isinstance(batch, ImageBatch)
        if not batch.keys:
            continue
        images = batch.images[:, : config["linear"]["views"]]
        tokens = encoder(normalize(images.flatten(0, 1).to(device))).features["tokens"]
        features.append(tokens.float().mean(1).view(*images.shape[:2], -1))
        labels.append(batch.labels.to(device))
    return torch.cat(features), torch.cat(labels)


def _with_labels(part: Part) -> Part:
    """The images with a label, without a copy if all have one."""
    features, labels = part
    known = labels >= 0
    return part if bool(known.all()) else (features[known], labels[known])


def _accuracy(candidate: Candidate, train: Part, val: Part, subject: str, config: Mapping[str, Any]) -> Results:
    """Accuracy of a probe on the images with a label; the card counts the others, if there are any."""
    all_labels = train[1], val[1]
    (train_features, train_labels), (val_features, val_labels) = _with_labels(train), _with_labels(val)
    settings = {key: value for key, value in config["linear"].items() if key != "views"}
    classes = candidate.tokens.num_classes
    trained = ProbeSettings(**settings, seed=config["seed"])
    accuracy = linear_accuracy((train_features, train_labels), (val_features[:, 0], val_labels), classes, trained)
    aggregate = f"top-1; LARS {trained.learning_rate:g} for 256 rows, trust {trained.trust:g}, batch {trained.batch_size}, "
    aggregate += f"{trained.epochs} epochs; {train_features.shape[1]} views of {len(train_labels)} images, models in eval mode"
    counts = [f"{len(known)} of {len(each)}" for known, each in zip((train_labels, val_labels), all_labels, strict=True)]
    if len(train_labels) + len(val_labels) < sum(map(len, all_labels)):
        labeled = f"{counts[0]} training and {counts[1]} evaluation images have a label"
        log.warning("%s: acc1 is of the labeled images alone: %s", candidate.location.name, labeled)
        aggregate += f"; {labeled}"
    about = card(candidate, "acc1", len(val_labels), subject, config["seed"], aggregate)
    return Results({"acc1": accuracy}, {"acc1": about.to_dict()})
