"""Visual tokenizers and autoregressive generators in PyTorch: encoders, quantizers, decoders, discriminators, losses, sampling.

The names below are imported on first use, so that `import tokenizer` does not load torch. See `tokenizer.interfaces` for axis letters,
tensor layouts and base classes.
"""

from importlib import import_module
from typing import TYPE_CHECKING

_EXPORTS = {
    "AutoregressiveGenerator": "generators.ar",
    "BinarySphericalQuantizer": "quantizers.bsq",
    "ConvDecoder": "backbones.conv",
    "ConvEncoder": "backbones.conv",
    "DINODiscriminator": "discriminators.dino",
    "DepthTransformer": "generators.heads",
    "FiniteScalarQuantizer": "quantizers.fsq",
    "GroupedSphericalQuantizer": "quantizers.gsq",
    "Guidance": "generators.settings",
    "ImageTokenizer": "image_tokenizer",
    "IndexSampler": "generators.sample",
    "LPIPSLoss": "losses.perceptual",
    "LookupFreeQuantizer": "quantizers.lfq",
    "ParallelHeads": "generators.heads",
    "PatchDiscriminator": "discriminators.patchgan",
    "ResidualVectorQuantizer": "quantizers.rvq",
    "Sampling": "generators.settings",
    "StyleGANDiscriminator": "discriminators.stylegan",
    "TokenLayout": "interfaces.values",
    "TokenSpec": "interfaces.values",
    "VectorQuantizer": "quantizers.vq",
    "generate_indices": "generators.sample",
}
__all__ = [*_EXPORTS]

if TYPE_CHECKING:
    from tokenizer.backbones.conv import ConvDecoder as ConvDecoder
    from tokenizer.backbones.conv import ConvEncoder as ConvEncoder
    from tokenizer.discriminators.dino import DINODiscriminator as DINODiscriminator
    from tokenizer.discriminators.patchgan import PatchDiscriminator as PatchDiscriminator
    from tokenizer.discriminators.stylegan import StyleGANDiscriminator as StyleGANDiscriminator
    from tokenizer.generators.ar import AutoregressiveGenerator as AutoregressiveGenerator
    from tokenizer.generators.heads import DepthTransformer as DepthTransformer
    from tokenizer.generators.heads import ParallelHeads as ParallelHeads
    from tokenizer.generators.sample import IndexSampler as IndexSampler
    from tokenizer.generators.sample import generate_indices as generate_indices
    from tokenizer.generators.settings import Guidance as Guidance
    from tokenizer.generators.settings import Sampling as Sampling
    from tokenizer.image_tokenizer import ImageTokenizer as ImageTokenizer
    from tokenizer.interfaces.values import TokenLayout as TokenLayout
    from tokenizer.interfaces.values import TokenSpec as TokenSpec
    from tokenizer.losses.perceptual import LPIPSLoss as LPIPSLoss
    from tokenizer.quantizers.bsq import BinarySphericalQuantizer as BinarySphericalQuantizer
    from tokenizer.quantizers.fsq import FiniteScalarQuantizer as FiniteScalarQuantizer
    from tokenizer.quantizers.gsq import GroupedSphericalQuantizer as GroupedSphericalQuantizer
    from tokenizer.quantizers.lfq import LookupFreeQuantizer as LookupFreeQuantizer
    from tokenizer.quantizers.rvq import ResidualVectorQuantizer as ResidualVectorQuantizer
    from tokenizer.quantizers.vq import VectorQuantizer as VectorQuantizer
else:  # hidden from type checkers, which would accept every name

    def __getattr__(name: str) -> object:
        if name not in _EXPORTS:
            raise AttributeError(f"module 'tokenizer' has no attribute {name!r}")
        return getattr(import_module(f"tokenizer.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return __all__
