"""From a source to batches: an endless training stream whose whole state is one number, and one exact pass over the validation set."""

import atexit
import itertools
import os
import signal
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from experiments.config.command_line import end_with_parent
from experiments.config.errors import ConfigError, DataError, TesseraError
from experiments.data.source import SHUFFLING, DataSource, Draw, Examples
from experiments.data.time_limits import ANSWER_SECONDS


class EndlessSampler(Sampler[list[Draw]]):
    """Batches of draws without end: permutations of the data, one after the other, cut into batches.

    A batch may straddle two epochs, so every image comes equally often and no batch is short. Batch k holds the same draws
    for every number of processes; each takes its share of it.
    """

    def __init__(self, count: int, batch_size: int, seed: int, start: int = 0, rank: int = 0, world: int = 1) -> None:
        """
        Args:
            count: number of images.
            batch_size: draws of one batch over all processes.
            seed: seed of the order.
            start: batches that were consumed before.
            rank: this process, below `world`, the number of processes.

        Raises:
            RuntimeError: on a second pass, which would repeat the first.
            ConfigError: the batch does not split evenly over the processes.
            DataError: there are no images.
        """
        if count < 1:
            raise DataError(None, "there are no training images", "data.root")
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
        start_batch: batches that were consumed before; set it before training starts, and the stream resumes there.
    """

    def __init__(self, source: DataSource, batch_size: int, seed: int, workers: int = 0) -> None:
        """
        Args:
            source: the data.
            batch_size: images of one training step over all processes; several steps make an update where gradients are accumulated.
            seed: seed of the order.
            workers: reading processes of each training process, 0 reads in the training process.

        Raises:
            ConfigError: a number is out of range.
        """
        super().__init__()
        check_batch_size(batch_size, world=1)
        if workers < 0:
            raise ConfigError("workers", workers, expected="at least 0")
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
        return make_loader(self.source.train, self.source.collate, sampler, self.workers, self.seed, persistent=self.workers > 0)

    def val_dataloader(self) -> DataLoader[Any]:
        """Every validation image once over all processes, in order; all processes get equally many batches, the last may be empty."""
        rank, world = self.place
        check_batch_size(self.batch_size, world)
        batches = evaluation_batches(len(self.source.val), self.batch_size // world, rank, world)
        return make_loader(self.source.val, self.source.collate, batches, self.workers, self.seed)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Start the copy of a batch without waiting for it, from page-locked memory; Lightning waits for batches that are not tensors."""
        return batch.to(device, non_blocking=True)


class WholeBatches(Dataset[Any]):
    """Examples read and collated a batch at a time. An error for the user takes the place of its batch, see `Loader`."""

    def __init__(self, examples: Examples, collate: Callable[[Any], Any]) -> None:
        self.examples = examples
        self.collate = collate

    def __len__(self) -> int:
        return len(self.examples)

    def __getitems__(self, places: list[Any]) -> Any:
        try:
            read_batch = getattr(self.examples, "__getitems__", None)
            return self.collate(read_batch(places) if read_batch else [self.examples[place] for place in places])
        except TesseraError as error:
            return error

    def being_read(self) -> list[str]:
        """Names of the files that are being read at this moment, in any process; empty where the examples have no files."""
        files = getattr(self.examples, "files", None)
        return files.names_where(files.being_read) if files is not None else []


class Loader(DataLoader[Any]):
    """A loader of `WholeBatches` that raises their errors in this process: torch would re-create them from their text, without fields."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        batches = super().__iter__()
        READERS.update(getattr(batches, "_workers", []))
        try:
            while (batch := self._next(batches)) is not None:
                if isinstance(batch, TesseraError):
                    raise batch
                yield batch
        finally:
            # The traceback of an error refers to the iterator, and workers that are alive at exit ignore the request to end.
            failed = isinstance(sys.exc_info()[1], Exception)
            if self.num_workers and (failed or not self.persistent_workers):
                end_readers(batches)

    def _next(self, batches: Iterator[Any]) -> Any:
        """The next batch, None after the last."""
        started = time.monotonic()
        try:
            return next(batches, None)
        except RuntimeError as error:
            # torch has no class for its timeout: it has waited that long, and every reading process is there
            waited = self.num_workers and time.monotonic() - started >= self.timeout
            if not waited or not all(reader.is_alive() for reader in batches._workers):  # type: ignore[attr-defined]
                raise
            names = cast(WholeBatches, self.dataset).being_read()
            reason = f"a reading process has not answered for {self.timeout:g} seconds" + f"; it reads {', '.join(names)}" * bool(names)
            raise DataError(None, reason, "data.root") from error


READERS: weakref.WeakSet[Any] = weakref.WeakSet()  # processes, of which none may outlive this one


def end_readers(batches: Any) -> None:
    """End the reading processes of an iterator; one that is blocked, and ignores the request, is killed."""
    for reader in batches._workers:
        READERS.discard(reader)
    started = [reader for reader in batches._workers if reader.pid is not None]
    try:
        batches._shutdown_workers()
    finally:
        for reader in started:
            if reader.is_alive():
                reader.kill()


@atexit.register
def _kill_readers() -> None:
    """Runs before the exit function of `multiprocessing`, which would wait for a blocked reader without end."""
    for reader in READERS:
        if reader._parent_pid == os.getpid() and reader.is_alive():
            reader.kill()


def make_loader(
    examples: Examples, collate: Callable[[Any], Any], batches: Iterable[list[Any]], workers: int, seed: int = 0, persistent: bool = False
) -> Loader:
    """A loader that leaves the global generator of random numbers untouched and ignores signals.

    Args:
        examples: training or evaluation examples of a source.
        collate: the source's, from examples to a batch.
        batches: indices of the examples of each batch.
        workers: number of reading processes, 0 for none.
        seed: seed of the workers' own generators; examples do not use them.
        persistent: the workers outlive a pass, which only pays for a loader that is used again.
    """
    return Loader(
        WholeBatches(examples, collate),
        batch_sampler=batches,
        num_workers=workers,
        timeout=ANSWER_SECONDS if workers else 0,
        persistent_workers=persistent,
        worker_init_fn=start_reader,
        collate_fn=whole,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(seed),
    )


def whole(batch: Any) -> Any:
    """The batch, which `WholeBatches` collates."""
    return batch


def start_reader(worker: int) -> None:
    """Ignore signals, and end with the training process, however that ends.

    A terminal and a cluster signal all processes; the training process alone responds, and still needs its workers to end well.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()  # also while it is blocked in a file


def check_batch_size(batch_size: int, world: int) -> None:
    """Refuse a batch that does not split evenly.

    Raises:
        ConfigError: it does not.
    """
    if batch_size < 1 or batch_size % world:
        raise ConfigError("batch_size", batch_size, expected=f"a positive multiple of the number of devices, devices={world}")


def evaluation_batches(count: int, batch_size: int, rank: int, world: int) -> list[list[int]]:
    """Indices rank, rank + world, ... below `count` in batches, as many as the fullest rank has."""
    mine = range(count)[rank::world]
    number = -(-len(range(count)[::world]) // batch_size)
    return [list(mine[k * batch_size : (k + 1) * batch_size]) for k in range(number)]
