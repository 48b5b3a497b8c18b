"""Base class of lookup-free and binary spherical quantization: one bit per channel, and exact entropies over all 2^D codes.

For codes at the corners of a cube, softmax(-|z - c|^2 / temperature) is a product of independent bits with
P(bit_i) = sigmoid(4 c z_i / temperature). So the entropy of one token is a sum of D binary entropies, and the mean distribution over
a batch is a matrix product of the probabilities of two half-codes: exact, with n 2^(D/2) instead of n 2^D numbers.
"""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from tokenizer.interfaces import Quantizer, QuantizerOutput
from tokenizer.layers.checks import ArgumentError, require_at_least, require_indices
from tokenizer.layers.precision import compute_dtype, full_precision
from tokenizer.quantizers.checks import MAXIMUM_BITS, require_width
from tokenizer.quantizers.entropy import entropy_of_mean
from tokenizer.quantizers.lookup import max_temp_elements
from tokenizer.quantizers.straight_through import straight_through

MAXIMUM_ENTROPY_BITS = 24


class BinaryQuantizer(Quantizer):
    """Sign of each channel; index = sum of 2^i [z_i > 0], first channel least significant, zero counts as negative.

    Args:
        latent_dim: D, bits per token.
        on_sphere: codes {-c, c}^D with c = 1 / sqrt(D), of length 1; otherwise c = 1.

    Raises:
        ValueError: D outside 1 to 62.
    """

    def __init__(self, latent_dim: int, on_sphere: bool) -> None:
        super().__init__()
        require_at_least("latent_dim", latent_dim, 1)
        if latent_dim > MAXIMUM_BITS:
            raise ArgumentError("latent_dim", latent_dim, f"at most {MAXIMUM_BITS} bits in one index")
        self.latent_dim = latent_dim
        self.groups = 1
        self.codebook_size = 2**latent_dim
        self.magnitude = latent_dim**-0.5 if on_sphere else 1.0

    def reset_parameters(self) -> None:
        """No parameters."""

    @abstractmethod
    def compared(self, latents: Tensor) -> Tensor:
        """Latents (B, N, D) as they are compared with the codes."""

    def forward(self, latents: Tensor) -> QuantizerOutput:
        """Quantize (B, N, D), with the mean squared error to the code as `commitment`."""
        require_width(latents, self.latent_dim)
        compared = self.compared(latents.to(compute_dtype(latents)))
        indices = ((compared > 0).long() << self._positions(latents.device)).sum(-1, keepdim=True)
        quantized = self._codes(self._bits(indices)).to(compared.dtype)
        losses = {"commitment": F.mse_loss(compared, quantized)}
        return QuantizerOutput(straight_through(compared, quantized).to(latents.dtype), indices, compared.unsqueeze(2), losses)

    def indices_to_latents(self, indices: Tensor) -> Tensor:
        """(B, N, 1) to (B, N, D) in fp32 with values -c and c."""
        return self._codes(self.split_indices(indices))

    def split_indices(self, indices: Tensor) -> Tensor:
        """(B, N, 1) to (B, N, D), the bit of each channel."""
        return self._bits(require_indices(indices, 1, self.codebook_size))

    def entropies(self, lookup_latents: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """See `Quantizer.entropies`; exact.

        Raises:
            ValueError: more than 24 bits; the table of the mean distribution would be too large.
        """
        if self.latent_dim > MAXIMUM_ENTROPY_BITS:
            raise ValueError(
                f"latent_dim={self.latent_dim}: the exact batch entropy needs a table of 2^latent_dim probabilities, "
                f"at most 2^{MAXIMUM_ENTROPY_BITS}; lower latent_dim or set loss.weights.entropy=0"
            )
        logits = lookup_latents.flatten(0, 2).to(compute_dtype(lookup_latents)) * (4 * self.magnitude / temperature)
        distance_from_even = logits.abs()
        sample = (F.softplus(-distance_from_even) + distance_from_even * (-distance_from_even).sigmoid()).sum(1).mean()
        chunks = torch.split(logits, max(1, max_temp_elements(logits.device) >> (self.latent_dim + 1) // 2))
        mass = _joint_mass(chunks[0])  # usually all there is; what follows is computed once more in the backward pass
        for chunk in chunks[1:]:
            mass = mass + checkpoint(_joint_mass, chunk, use_reentrant=False, preserve_rng_state=False)
        return sample, entropy_of_mean(mass, len(logits))

    def _codes(self, bits: Tensor) -> Tensor:
        return (2.0 * bits.float() - 1.0) * self.magnitude

    def _bits(self, indices: Tensor) -> Tensor:
        return indices >> self._positions(indices.device) & 1

    def _positions(self, device: torch.device) -> Tensor:
        return torch.arange(self.latent_dim, device=device)


def _joint_mass(logits: Tensor) -> Tensor:
    """Sum over rows of the probability of each code, (2^(D - D//2), 2^(D//2)), from logits of the bits (n, D)."""
    with full_precision(logits.device):
        half = logits.shape[1] // 2
        return _code_probabilities(logits[:, half:]).t() @ _code_probabilities(logits[:, :half])


def _code_probabilities(logits: Tensor) -> Tensor:
    """Probabilities (n, 2^k) of all codes, first bit least significant, from logits of independent bits (n, k)."""
    on, off = logits.sigmoid(), (-logits).sigmoid()
    table = logits.new_ones(len(logits), 1)
    for channel in range(logits.shape[1]):
        table = torch.cat([table * off[:, channel, None], table * on[:, channel, None]], 1)
    return table
