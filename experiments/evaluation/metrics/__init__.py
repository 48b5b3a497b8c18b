"""Metrics of reconstructions, of likelihood and of samples, one class each. Imports no torch: reports and sweep files read the classes.

The order is that of the table on the terminal.
"""

from experiments.evaluation.metrics.codebook import CodebookUsage, CodebookUsageProduct, Perplexity, PerplexityPerGroup
from experiments.evaluation.metrics.digits import (
    ClassAccuracy,
    ClassAccuracyReal,
    FrechetDigits,
    FrechetDigitsReal,
    FrechetDigitsTrain,
    NearestDigit,
    NearestDigitReal,
    ShareCopied,
)
from experiments.evaluation.metrics.frechet import GFID, RFID, SFID
from experiments.evaluation.metrics.frechet_lite0 import FrechetLite0, SampleFrechetLite0
from experiments.evaluation.metrics.inception_score import InceptionScore
from experiments.evaluation.metrics.likelihood import NLL, LikelihoodBitsPerPixel
from experiments.evaluation.metrics.metric import Metric
from experiments.evaluation.metrics.precision_recall import Precision, Recall
from experiments.evaluation.metrics.rate import BitsPerPixel, BitsPerToken
from experiments.evaluation.metrics.reconstruction import L1, LPIPS, PSNR, SSIM, BicubicPSNR, ImagePSNR

METRICS: list[type[Metric]] = [
    PSNR,
    ImagePSNR,
    L1,
    BicubicPSNR,
    SSIM,
    LPIPS,
    RFID,
    FrechetLite0,
    InceptionScore,
    CodebookUsage,
    Perplexity,
    CodebookUsageProduct,
    PerplexityPerGroup,
    BitsPerToken,
    BitsPerPixel,
]
LIKELIHOOD_METRICS: list[type[Metric]] = [NLL, LikelihoodBitsPerPixel]
SAMPLE_METRICS: list[type[Metric]] = [
    GFID,
    SFID,
    SampleFrechetLite0,
    InceptionScore,
    Precision,
    Recall,
    ClassAccuracy,
    ClassAccuracyReal,
    FrechetDigits,
    FrechetDigitsTrain,
    FrechetDigitsReal,
    NearestDigit,
    NearestDigitReal,
    ShareCopied,
]
