"""What is measured of a tokenizer beside its samples: reconstructions, likelihood, and linear probes of both models.

Features, GigaTok (arXiv:2504.08736), section 5: of the generator the residual stream after half of its blocks, with the null class for a
condition, so that no label leaks in; of the tokenizer the latents before quantization. Both are means over the tokens.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from experiments.data.loading import ImageData, leave_signals_to_training
from experiments.data.source import NO_LABEL
from experiments.data.transforms import normalize
from experiments.evaluation.cards import Card
from experiments.evaluation.linear import ProbeSettings, linear_accuracy
from experiments.evaluation.reconstruction import evaluate
from experiments.evaluation.results import Results, Skipped
from experiments.evaluation.subjects import make_subject
from experiments.probing.candidates import Entrant
from experiments.tokens.cache import TokenCache
from experiments.tokens.crops import EvaluationViews, Views
from tokenizer.interfaces import Generator, ImageBatch, TokenBatch

TOO_FEW_CLASSES = Skipped("the data has fewer than two classes")
Part = tuple[Tensor, Tensor]
"""Features (n, views, W) and labels (n,)."""


def reconstruction(entrant: Entrant, config: Mapping[str, Any], device: torch.device) -> Results:
    """The numbers that `experiments.evaluate` gives, by their own names."""
    source, seed = entrant.source, config["seed"]
    subject = make_subject("val", entrant.model.to(device), source, seed, entrant.weights, None)
    found = evaluate([subject], ImageData(source, config["batch_size"], seed, config["workers"]).val_dataloader(), device, shown=1)
    return Results(found.values, found.cards, {f"val/{name}": why for name, why in found.skipped.items()})


def card(entrant: Entrant, metric: str, n: int, subject: str, seed: int, aggregate: str) -> Card:
    """Of a number that this code computes from tokens or features of the evaluation pictures."""
    source = entrant.source
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
    entrant: Entrant, generator: Generator, cache: Path, subject: str, config: Mapping[str, Any], device: torch.device
) -> Results:
    """acc1 of a linear probe on the generator's features."""
    if len(entrant.source.classes or []) < 2:
        return Results(skipped={"acc1": TOO_FEW_CLASSES})
    block, most = generator.depth // 2, config["linear"]["views"]
    if block == 0:
        return Results(skipped={"acc1": Skipped("the generator has one block, its probe needs two at least")})
    stored = TokenCache(cache)
    parts = []
    for split in ("train", "val"):
        indices, labels = stored.array(f"{split}/indices")[:, :most], torch.from_numpy(stored.array(f"{split}/labels").astype(np.int64))
        features = torch.empty(*indices.shape[:2], generator.width, device=device)  # filled in place: of ImageNet there is no room for two
        for rows in torch.split(torch.arange(len(indices)), config["batch_size"]):
            features[rows] = _of_indices(entrant, generator, indices[rows.numpy()], block, device)
        parts.append((features, labels.to(device)))
    return _accuracy(entrant, parts[0], parts[1], f"features of {subject} after block {block}, no class, mean over tokens", config)


@torch.no_grad()
def _of_indices(entrant: Entrant, generator: Generator, indices: Any, block: int, device: torch.device) -> Tensor:
    """(B, views, N, G) to (B, views, W)."""
    count, views = indices.shape[:2]
    flat = torch.from_numpy(indices.astype(np.int64)).to(device).flatten(0, 1)
    no_labels = torch.full((len(flat),), NO_LABEL, device=device)
    features = generator.eval().features(TokenBatch(flat, no_labels, entrant.tokens.layout), block)
    return features.float().mean(1).view(count, views, -1)


def linear_of_tokenizer(entrant: Entrant, views: Views, config: Mapping[str, Any], device: torch.device) -> Results:
    """acc1 of a linear probe on the tokenizer's latents.

    Args:
        entrant: whose latents.
        views: of the training pictures, those of the cache.
        config: of the verb.
        device: where to compute.
    """
    if len(entrant.source.classes or []) < 2:
        return Results(skipped={"acc1": TOO_FEW_CLASSES})
    parts = [_of_pictures(entrant, each, config, device) for each in (views, EvaluationViews(entrant.source.val))]
    return _accuracy(entrant, parts[0], parts[1], "latents before quantization, mean over tokens", config)


@torch.no_grad()
def _of_pictures(entrant: Entrant, views: Views, config: Mapping[str, Any], device: torch.device) -> Part:
    loader = DataLoader(
        views,
        batch_size=max(1, config["batch_size"] // views.views),
        num_workers=config["workers"],
        worker_init_fn=leave_signals_to_training,
        collate_fn=entrant.source.collate,
        generator=torch.Generator(),  # the global one stays untouched
    )
    encoder, features, labels = entrant.model.to(device).eval().encoder, [], []
    for batch in loader:
        assert isinstance(batch, ImageBatch)
        if not batch.keys:
            continue
        images = batch.images[:, : config["linear"]["views"]]
        latents = encoder(normalize(images.flatten(0, 1).to(device))).latents
        features.append(latents.float().mean(1).view(*images.shape[:2], -1))
        labels.append(batch.labels.to(device))
    return torch.cat(features), torch.cat(labels)


def _labelled(part: Part) -> Part:
    """The pictures that have a label; nothing is copied if all have."""
    features, labels = part
    known = labels >= 0
    return part if bool(known.all()) else (features[known], labels[known])


def _accuracy(entrant: Entrant, train: Part, val: Part, subject: str, config: Mapping[str, Any]) -> Results:
    """Of a probe on those pictures that have a label."""
    (train_features, train_labels), (val_features, val_labels) = _labelled(train), _labelled(val)
    settings = {key: value for key, value in config["linear"].items() if key != "views"}
    classes = entrant.tokens.num_classes
    trained = ProbeSettings(**settings, seed=config["seed"])
    accuracy = linear_accuracy((train_features, train_labels), (val_features[:, 0], val_labels), classes, trained)
    said = f"top-1; LARS {trained.learning_rate:g} for 256 rows, trust {trained.trust:g}, batch {trained.batch_size}, "
    said += f"{trained.epochs} epochs; {train_features.shape[1]} kept views of {len(train_labels)} pictures, models in eval mode"
    about = card(entrant, "acc1", len(val_labels), subject, config["seed"], said)
    return Results({"acc1": accuracy}, {"acc1": about.to_dict()})
