"""The finite check: a step with a NaN or infinity is skipped on the device; the host reads about it only when it logs anyway."""

from collections import deque

import torch
from torch import Tensor

from tokenizer.layers.distributed import is_distributed, world_size


class NonFiniteError(ValueError):
    """A loss or a gradient was not finite."""


class FiniteCheck:
    """Remembers, on the device, the first update whose loss or gradient was not finite, with this process's loss terms.

    No module: a data-parallel wrapper would overwrite buffers with those of its first process.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        """Watch the loss terms `names`."""
        self.names = names
        self.first_bad = torch.tensor(-1)
        self.terms_then = torch.zeros(len(names))
        self._keys: deque[tuple[int, list[str]]] = deque(maxlen=10_000)

    def watch(self, update: int, keys: list[str]) -> None:
        """Remember which pictures update number `update` sees, until the next `verify`."""
        self._keys.append((update, keys))

    @torch.no_grad()
    def __call__(self, update: int, terms: dict[str, Tensor], norms: list[Tensor]) -> Tensor:
        """Whether any rank has a loss term or a gradient norm that is not finite.

        Returns:
            () float, 1 if the step must be skipped, in the form that fused optimizers take as `found_inf`.
        """
        device = norms[0].device
        self.first_bad, self.terms_then = self.first_bad.to(device), self.terms_then.to(device)
        zero = self.terms_then.new_zeros(())
        values = torch.stack([terms[name].float() if name in terms else zero for name in self.names])
        bad = (~(torch.isfinite(values).all() & torch.isfinite(torch.stack(norms)).all())).float()
        if is_distributed():
            torch.distributed.all_reduce(bad, torch.distributed.ReduceOp.MAX)
        first = (bad > 0) & (self.first_bad < 0)
        self.first_bad.copy_(torch.where(first, update, self.first_bad))
        self.terms_then.copy_(torch.where(first, values, self.terms_then))
        return bad

    def verify(self) -> None:
        """Read the device; called where the host reads anyway, by all ranks.

        Raises:
            NonFiniteError: names the update, the terms and the pictures of the first bad step, the same on every rank.
        """
        update = int(self.first_bad)
        if update >= 0:
            terms, keys = self._cause(update)
            told = ", ".join(f"{name}={value:.6g}" for name, value in zip(self.names, terms.tolist(), strict=True))
            raise NonFiniteError(
                f"update {update}: a loss or a gradient is not finite; such steps are skipped. Loss terms: {told}. "
                f"Pictures: {', '.join(keys)}. Lower `learning_rate` or `optimizer.clip`, "
                "or look at these pictures; the last checkpoint is good"
            )
        self._keys.clear()

    def _cause(self, update: int) -> tuple[Tensor, list[str]]:
        """Terms of one and pictures of all ranks whose terms were not finite; of any rank if only a gradient was not."""
        own = (self.terms_then.cpu(), [key for number, batch in self._keys if number == update for key in batch])
        ranks = [own] * world_size()
        if is_distributed():
            torch.distributed.all_gather_object(ranks, own)
        guilty = [rank for rank in ranks if not rank[0].isfinite().all()] or ranks
        return guilty[0][0], [key for _, keys in guilty for key in keys]
