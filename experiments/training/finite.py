"""The finite check: a step with a NaN or infinity is skipped on the device; the host reads the result only when it logs anyway."""

from collections import deque
from pathlib import Path

import torch
from torch import Tensor

from experiments.config.errors import NonFinite
from tokenizer.layers.distributed import is_distributed, world_size


class FiniteCheck:
    """Records, on the device, the first update whose loss or gradient was not finite, with this process's loss terms.

    Not a module, because its tensors differ between processes and are in no checkpoint.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        """Watch the loss terms `names`."""
        self.names = names
        self.first_bad = torch.tensor(-1)
        self.terms_then = torch.zeros(len(names))
        self.checkpoint: Path | None = None  # the last one, for the message
        self._keys: deque[tuple[int, list[str]]] = deque(maxlen=10_000)
        self._computed: deque[tuple[int, list[str]]] = deque(maxlen=10_000)  # names of the terms of an update

    def watch(self, update: int, keys: list[str]) -> None:
        """Record the images of an update, until the next `verify`."""
        self._keys.append((update, keys))

    @torch.no_grad()
    def __call__(self, update: int, terms: dict[str, Tensor], norms: list[Tensor]) -> Tensor:
        """Whether any rank has a loss term or a gradient norm that is not finite.

        Returns:
            () float, 1 if the step must be skipped, in the form that fused optimizers take as `found_inf`.
        """
        self._computed.append((update, list(terms)))
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
            NonFinite: names the update, the terms and the images of the first bad step, the same on every rank.
        """
        update = int(self.first_bad)
        if update >= 0:
            values, keys = self._cause(update)
            computed = next((names for number, names in self._computed if number == update), list(self.names))
            terms = {name: value for name, value in zip(self.names, values.tolist(), strict=True) if name in computed}
            saved = f"the last checkpoint, {self.checkpoint}, is good" if self.checkpoint else "there is no checkpoint yet"
            reason = (
                "a loss or a gradient is not finite; such steps are skipped. "
                f"Loss terms: {', '.join(f'{name}={value:.6g}' for name, value in terms.items())}. Images: {', '.join(keys)}. "
                f"Lower `learning_rate` or raise its warm-up, or look at these images; {saved}"
            )
            raise NonFinite(reason, update, terms, tuple(keys))
        self._keys.clear()
        self._computed.clear()

    def _cause(self, update: int) -> tuple[Tensor, list[str]]:
        """Terms of one and images of all ranks whose terms were not finite; of any rank if only a gradient was not."""
        here = (self.terms_then.cpu(), [key for number, batch in self._keys if number == update for key in batch])
        ranks = [here] * world_size()
        if is_distributed():
            torch.distributed.all_gather_object(ranks, here)
        bad = [rank for rank in ranks if not rank[0].isfinite().all()] or ranks
        return bad[0][0], [key for _, keys in bad for key in keys]
