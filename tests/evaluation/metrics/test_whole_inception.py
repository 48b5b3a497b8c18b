"""rFID and inception score from images to numbers, against torch-fidelity as a whole."""

import types

import pytest
import torch

from experiments.evaluation.metrics.tokenizer import TokenizerMetrics
from tokenizer.interfaces import DecoderOutput, EncoderOutput, QuantizerOutput, TokenizerOutput, TokenLayout
from tokenizer.weights import FILES


def make_batch(count, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, 32, 32, generator=generator) * 2 - 1
    reconstruction = images + 0.5 * torch.randn(images.shape, generator=generator)
    latents, indices = torch.zeros(count, 16, 4), torch.zeros(count, 16, 2, dtype=torch.long)
    quantized = QuantizerOutput(latents, indices, latents.unflatten(-1, (2, 2)))
    return images, TokenizerOutput(EncoderOutput(latents, TokenLayout((4, 4))), quantized, DecoderOutput(reconstruction))


def random_inception(path):
    """A file with Inception's own keys and shapes and random values."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Untrained(FeatureExtractorInceptionV3):
        def load_state_dict(self, *arguments, **options):
            return None

    torch.save({}, path)
    torch.manual_seed(0)
    network = Untrained("inception", ["2048"], feature_extractor_weights_path=str(path))
    for module in network.modules():  # torch's default makes each layer's output smaller than its input
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    torch.nn.init.normal_(network.fc.weight)
    torch.save(network.state_dict(), path)


@pytest.mark.slow
def test_rfid_of_the_whole_pipeline_is_the_one_of_torch_fidelity(tmp_path, monkeypatch):
    from torch_fidelity import calculate_metrics

    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path))
    path = FILES["inception"].path
    random_inception(path)
    batches = [make_batch(10, seed) for seed in range(2)]
    state = torch.get_rng_state()
    metrics = TokenizerMetrics(
        types.SimpleNamespace(groups=2, codebook_size=8, bits_per_token=6.0), 8, 32, "ema", seed=1, transform="crop", reference="noise"
    )
    for batch in batches:
        metrics.update(*batch)
    results = metrics.compute()
    assert torch.equal(torch.get_rng_state(), state)

    class Images(torch.utils.data.Dataset):
        def __init__(self, images):
            in_order_of_splits = torch.cat([torch.cat(images)[split::10] for split in range(10)])
            self.images = ((in_order_of_splits.clamp(-1, 1) / 2 + 0.5) * 255).round().to(torch.uint8)

        def __len__(self):
            return len(self.images)

        def __getitem__(self, index):
            return self.images[index]

    expected = calculate_metrics(
        input1=Images([output.decoder.reconstruction for _, output in batches]), input2=Images([images for images, _ in batches]),
        fid=True, isc=True, cuda=False, samples_shuffle=False, save_cpu_ram=True, verbose=False, cache=False,
        feature_extractor_weights_path=str(path),
    )  # fmt: skip
    assert results.values["rfid"] > 0.1
    assert results.values["inception_score"] > 1.005
    assert results.values["rfid"] == pytest.approx(expected["frechet_inception_distance"], abs=1e-3)
    assert results.values["inception_score"] == pytest.approx(expected["inception_score_mean"], rel=1e-5)
