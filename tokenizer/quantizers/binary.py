"""What lookup-free and binary spherical quantization share: one bit a channel, and exact entropies over all 2^D codes.

For codes at the corners of a cube, softmax(-|z - c|^2 / temperature) is a product of independent bits with
P(bit_i) = sigmoid(4 c z_i / temperature). So the entropy of one token is a sum of D binary entropies, and the mean distribution over
a batch is one matrix product of the probabilities of two half-codes: exact, with n 2^(D/2) numbers in place of n 2^D.
"""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from tokenizer.interfaces import Quantizer, QuantizerOutput
from tokenizer.layers.checks import require_at_least
from tokenizer.layers.precision import full_precision
from tokenizer.quantizers.checks import MAXIMUM_BITS, require_indices, require_width
from tokenizer.quantizers.entropy import entropy_of_mean
from tokenizer.quantizers.lookup import scratch_floats
from tokenizer.quantizers.straight_through import straight_through

MAXIMUM_ENTROPY_BITS = 24


class BinaryQuantizer(Quantizer):
    """The sign of each channel; index = sum of 2^i [z_i > 0], first channel least significant, zero counts as negative."""

    def __init__(self, latent_dim: int, on_sphere: bool) -> None:
        """Set width and size of the codes.

        Args:
            latent_dim: D, bits per token.
            on_sphere: codes are {-c, c}^D with c = 1 / sqrt(D), of length 1; otherwise c = 1.

        Raises:
            ValueError: D outside 1 to 62.
        """
        super().__init__()
        require_at_least("latent_dim", latent_dim, 1)
        if latent_dim > MAXIMUM_BITS:
            raise ValueError(f"latent_dim={latent_dim}, expected at most {MAXIMUM_BITS} bits in one index; change latent_dim")
        self.latent_dim = latent_dim
        self.groups = 1
        self.codebook_size = 2**latent_dim
        self.magnitude = latent_dim**-0.5 if on_sphere else 1.0

    def reset_parameters(self) -> None:
        """There is nothing to draw."""

    @abstractmethod
    def compared(self, latents: Tensor) -> Tensor:
        """(B, N, D) fp32 latents to what is held against the codes."""

    def forward(self, latents: Tensor) -> QuantizerOutput:
        """(B, N, D) latents to fp32 `quantized`, with the mean squared error to the code as `commitment`."""
        require_width(latents, self.latent_dim)
        compared = self.compared(latents.float())
        indices = ((compared > 0).long() << self._places(latents.device)).sum(-1, keepdim=True)
        quantized = self._codes(self._bits(indices))
        losses = {"commitment": F.mse_loss(compared, quantized)}
        return QuantizerOutput(straight_through(compared, quantized), indices, compared.unsqueeze(2), losses)

    def indices_to_latents(self, indices: Tensor) -> Tensor:
        """(B, N, 1) to (B, N, D) of -magnitude and magnitude."""
        return self._codes(self.split_indices(indices))

    def split_indices(self, indices: Tensor) -> Tensor:
        """(B, N, 1) to (B, N, D): each channel's bit."""
        return self._bits(require_indices(indices, 1, self.codebook_size))

    def entropies(self, lookup_latents: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """See `Quantizer.entropies`; exact.

        Raises:
            ValueError: more than 24 bits, for which the mean distribution is too large a table.
        """
        if self.latent_dim > MAXIMUM_ENTROPY_BITS:
            raise ValueError(
                f"latent_dim={self.latent_dim}: the exact batch entropy needs a table of 2^latent_dim probabilities, "
                f"at most 2^{MAXIMUM_ENTROPY_BITS}; lower latent_dim or set loss.weights.entropy=0"
            )
        logits = lookup_latents.flatten(0, 2).float() * (4 * self.magnitude / temperature)
        distance_from_even = logits.abs()
        sample = (F.softplus(-distance_from_even) + distance_from_even * (-distance_from_even).sigmoid()).sum(1).mean()
        chunks = torch.split(logits, max(1, scratch_floats(logits.device) >> (self.latent_dim + 1) // 2))
        mass = _joint_mass(chunks[0])  # usually all there is; what follows is computed once more in the backward pass
        for chunk in chunks[1:]:
            mass = mass + checkpoint(_joint_mass, chunk, use_reentrant=False, preserve_rng_state=False)
        return sample, entropy_of_mean(mass, len(logits))

    def _codes(self, bits: Tensor) -> Tensor:
        return (2.0 * bits.float() - 1.0) * self.magnitude

    def _bits(self, indices: Tensor) -> Tensor:
        return indices >> self._places(indices.device) & 1

    def _places(self, device: torch.device) -> Tensor:
        return torch.arange(self.latent_dim, device=device)


def _joint_mass(logits: Tensor) -> Tensor:
    """(n, D) logits of the bits to (2^(D - D//2), 2^(D//2)): the sum over rows of the probability of each code."""
    with full_precision(logits.device):
        half = logits.shape[1] // 2
        return _code_probabilities(logits[:, half:]).t() @ _code_probabilities(logits[:, :half])


def _code_probabilities(logits: Tensor) -> Tensor:
    """(n, k) logits of independent bits to (n, 2^k) probabilities of all codes, first bit least significant."""
    on, off = logits.sigmoid(), (-logits).sigmoid()
    table = logits.new_ones(len(logits), 1)
    for channel in range(logits.shape[1]):
        table = torch.cat([table * off[:, channel, None], table * on[:, channel, None]], 1)
    return table
