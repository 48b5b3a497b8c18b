"""From a source to batches: an endless training stream whose whole state is one number, and one exact pass over the validation set."""

import itertools
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Sampler

from experiments.data.source import SHUFFLING, DataSource, Draw


class EndlessSampler(Sampler[list[Draw]]):
    """Batches of draws without end: permutations of the collection, one after the other, cut into batches.

    A batch may straddle two epochs, so every picture comes equally often and no batch is short. Batch k holds the same draws
    for every number of processes; each takes its share of it.
    """

    def __init__(self, count: int, batch_size: int, seed: int, start: int = 0, rank: int = 0, world: int = 1) -> None:
        """
        Args:
            count: pictures in the collection.
            batch_size: draws of one batch over all processes.
            seed: of the order.
            start: batches that were consumed before.
            rank: this process, below `world`, the number of processes.

        Raises:
            RuntimeError: on a second pass, which would repeat the first.
            ValueError: there are no pictures, or the batch does not split evenly over the processes.
        """
        if count < 1:
            raise ValueError("the data has no pictures to train on; check data.root")
        check_batch_size(batch_size, world)
        self.count = count
        self.batch_size = batch_size
        self.seed = seed
        self.start = start
        self.started = False
        self.rank = rank
        self.world = world

    def __iter__(self) -> Iterator[list[Draw]]:
        if self.started:
            raise RuntimeError("the training stream has no second pass; let one epoch of the trainer last for the whole training")
        self.started = True
        epoch, order = -1, np.empty(0, dtype=np.int64)
        for number in itertools.count(self.start):
            draws = []
            for position in range(number * self.batch_size, (number + 1) * self.batch_size):
                if position // self.count != epoch:
                    epoch = position // self.count
                    order = self.order(epoch)
                draws.append(Draw(epoch, int(order[position % self.count])))
            yield draws[self.rank :: self.world]

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The permutation of one epoch."""
        return np.random.default_rng([self.seed, SHUFFLING, epoch]).permutation(self.count)


class ImageData(LightningDataModule):
    """Loaders over a `DataSource` of images or tokens. Needs a trainer with `use_distributed_sampler=False`.

    Attributes:
        start_batch: batches that were consumed before; set it before training starts, and the stream goes on from there.
    """

    def __init__(self, source: DataSource, batch_size: int, seed: int, workers: int = 0) -> None:
        """
        Args:
            source: what is read; it says how examples become a batch.
            batch_size: pictures of one training step over all processes; several steps make an update where gradients are accumulated.
            seed: of the order.
            workers: reading processes of each training process, 0 reads in the training process.

        Raises:
            ValueError: a number is out of range.
        """
        super().__init__()
        check_batch_size(batch_size, world=1)
        if workers < 0:
            raise ValueError(f"workers={workers} must be at least 0")
        self.source = source
        self.batch_size = batch_size
        self.seed = seed
        self.workers = workers
        self.start_batch = 0

    @property
    def place(self) -> tuple[int, int]:
        """Rank of this process and number of processes; (0, 1) without a trainer."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches without end, the first one being number `start_batch`. One epoch of the trainer is all of it."""
        rank, world = self.place
        sampler = EndlessSampler(len(self.source.train), self.batch_size, self.seed, self.start_batch, rank, world)
        return self.loader(self.source.train, sampler, persistent=self.workers > 0)

    def val_dataloader(self) -> DataLoader[Any]:
        """Every validation picture once over all processes, in order; all processes get equally many batches, the last may be empty."""
        rank, world = self.place
        check_batch_size(self.batch_size, world)
        return self.loader(self.source.val, evaluation_batches(len(self.source.val), self.batch_size // world, rank, world))

    def loader(self, dataset: Any, batches: Any, persistent: bool = False) -> DataLoader[Any]:
        """The settings of both loaders; the loader's own generator leaves the global one untouched.

        Args:
            dataset: of examples.
            batches: what a batch is made of.
            persistent: keep the workers after a pass, which only pays for a loader that is used again.
        """
        return DataLoader(
            dataset,
            batch_sampler=batches,
            num_workers=self.workers,
            persistent_workers=persistent,
            worker_init_fn=leave_signals_to_training,
            collate_fn=self.source.collate,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(self.seed),
        )


def leave_signals_to_training(worker: int) -> None:
    """A terminal and a cluster signal all processes; the training process alone answers, and still needs its readers to end well."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def check_batch_size(batch_size: int, world: int) -> None:
    """Refuse a batch that does not split evenly.

    Raises:
        ValueError: as said.
    """
    if batch_size < 1 or batch_size % world:
        raise ValueError(f"batch_size={batch_size} must be a positive multiple of the number of devices, devices={world}")


def evaluation_batches(count: int, batch_size: int, rank: int, world: int) -> list[list[int]]:
    """Indices rank, rank + world, ... below `count` in batches, as many as the fullest rank has."""
    mine = range(count)[rank::world]
    number = -(-len(range(count)[::world]) // batch_size)
    return [list(mine[k * batch_size : (k + 1) * batch_size]) for k in range(number)]
