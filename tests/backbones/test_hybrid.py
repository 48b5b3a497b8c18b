from dataclasses import replace

import pytest
import torch
from torch import nn

from experiments.config.compose import compose
from experiments.runs.build import build
from tokenizer.backbones.hybrid import CellDecoder, CellEncoder, QueryDecoder, QueryEncoder, pool, pooling_levels
from tokenizer.backbones.vqgan import ImageToMap, MapToImage
from tokenizer.interfaces import TokenLayout

SIZES = {"s": (512, 6, 8), "b": (768, 12, 12), "l": (1024, 24, 16), "xl": (1280, 36, 20), "xxl": (1536, 48, 24)}
CODEBOOK = 16384 * 8


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def projector(width: int, teacher: int = 768) -> int:
    """Parameters of the three linear layers from the decoder's width to the teacher's, by hand."""
    return width * 4 * width + 4 * width + (4 * width) ** 2 + 4 * width + 4 * width * teacher + teacher


def published(kind: str, encoder: str, decoder: str) -> int:
    """Parameters of the encoder and the decoder of a published model, out of the configuration files."""
    words = [f"backbone={kind}", f"transformer@encoder_size={encoder}", f"transformer@decoder_size={decoder}", "image_size=256"]
    config = compose("train", [*words, "quantizer=vq", "latent_dim=8", "data=image_folder", "data.root=."]).config["backbone"]
    with torch.device("meta"):
        return sum(parameters(build(config[part])) for part in ("encoder", "decoder"))


# arXiv:2504.08736 gives 136, 232, 533, 622 and 2896 million for the 1-D tokenizers with codebook and projector.
@pytest.mark.parametrize(
    ("kind", "encoder", "decoder", "expected"),
    [
        ("hybrid_1d", "s", "s", 136_073_227),
        ("hybrid_1d", "s", "b", 232_399_627),
        ("hybrid_1d", "s", "l", 532_849_163),
        ("hybrid_1d", "b", "l", 621_637_131),
        ("hybrid_1d", "xl", "xxl", 2_893_970_443),
        ("hybrid_2d", "s", "s", 122_928_651),
        ("hybrid_2d", "s", "b", 197_132_555),
        ("hybrid_2d", "b", "l", 491_410_187),
    ],
)
def test_parameters_are_the_published_ones(kind, encoder, decoder, expected):
    assert published(kind, encoder, decoder) + CODEBOOK + projector(SIZES[decoder][0]) == expected


@pytest.mark.parametrize(
    ("size", "of_query_encoder", "of_query_decoder", "of_cell_encoder", "of_cell_decoder"),
    [("s", 26.01, 26.80, 19.31, 20.36), ("b", 114.80, 115.78, 85.65, 87.22), ("l", 405.22, 406.27, 303.10, 305.20)],
)
def test_transformers_have_the_published_sizes(size, of_query_encoder, of_query_decoder, of_cell_encoder, of_cell_decoder):
    """Without the convolutional networks and the projections of the latents."""
    with torch.device("meta"):
        stem, head = ImageToMap(256, 3, 32, [1], 1), MapToImage(256, 32, [1], 1, True, True)
        parts = [
            QueryEncoder(8, stem, *SIZES[size], [16, 16], 256),
            QueryDecoder(8, head, *SIZES[size], [16, 16], 256),
            CellEncoder(8, stem, *SIZES[size], [16, 16]),
            CellDecoder(8, head, *SIZES[size], [16, 16]),
        ]
    rest = [parameters(stem) + 256 * 8 + 8, parameters(head) + 8 * 256 + 256] * 2
    millions = [round((parameters(part) - other) / 1e6, 2) for part, other in zip(parts, rest, strict=True)]
    assert millions == [of_query_encoder, of_query_decoder, of_cell_encoder, of_cell_decoder]


def small(num_tokens: int = 8, grid: tuple[int, int] = (4, 4)) -> tuple[QueryEncoder, QueryDecoder]:
    torch.manual_seed(0)
    stem, head = ImageToMap(6, 3, 8, [1, 2], 1, norm_groups=4), MapToImage(6, 8, [1, 2], 1, True, True, norm_groups=4)
    return QueryEncoder(3, stem, 16, 2, 2, list(grid), num_tokens), QueryDecoder(3, head, 16, 2, 2, list(grid), num_tokens)


def images(height: int = 8, width: int = 8) -> torch.Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_levels_of_256_tokens_are_those_of_the_paper():
    levels = pooling_levels(256)
    assert levels == [(1, 1), (1, 1), (1, 2), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16)]
    assert [rows * columns for rows, columns in levels] == [1, 1, 2, 4, 8, 16, 32, 64, 128]
    for exponent in range(10):
        assert sum(rows * columns for rows, columns in pooling_levels(2**exponent)) == 2**exponent


def test_queries_are_averages_over_parts_of_the_map():
    ramp = torch.arange(256.0).view(1, 256, 1)  # of 16 x 16 cells in raster order
    queries = pool(ramp, (16, 16), pooling_levels(256))[0, :, 0]
    assert queries.shape == (256,)
    assert queries[:2].tolist() == [127.5, 127.5]
    assert queries[2:4].tolist() == [123.5, 131.5]  # the left and the right half
    assert queries[4:8].tolist() == [59.5, 67.5, 187.5, 195.5]
    grid = ramp.view(16, 16)
    torch.testing.assert_close(queries[128:].view(8, 16), (grid[::2] + grid[1::2]) / 2)  # two rows, one column


def test_the_decoder_begins_with_the_first_token_in_every_cell():
    _, decoder = small()
    seen = []
    decoder.blocks[0].register_forward_hook(lambda block, inputs, output: seen.extend(inputs))
    decoder(torch.randn(2, 8, 3), TokenLayout((4, 4), "sequence"))
    queries, positions, memory, token_positions = seen
    assert torch.equal(queries, memory[:, :1].expand(2, 16, 16))
    assert (positions is decoder.cell_positions, token_positions is decoder.token_positions) == (True, True)


def test_the_map_of_the_decoder_gives_its_image():
    encoder, decoder = small()
    out = encoder(images())
    decoded = decoder(out.latents, out.layout, taps=(1,))
    assert torch.equal(decoder.paint(decoded.features["map"]), decoded.reconstruction)
    assert decoded.features["map"].shape == out.features["map"].shape == (2, 6, 4, 4)
    assert decoded.features["block1"].shape == (2, 16, 16)


def test_a_sequence_has_its_number_of_tokens_at_every_image_size():
    encoder, decoder = small(num_tokens=8)  # the finest level has 2 x 2 parts
    for height, width in ((8, 8), (16, 8), (12, 20)):
        out = encoder(images(height, width))
        assert out.latents.shape == (2, 8, 3)
        assert out.layout == replace(out.layout, grid=(height // 2, width // 2), kind="sequence")
        assert decoder(out.latents, out.layout).reconstruction.shape == (2, 3, height, width)
    with pytest.raises(ValueError, match=r"map of 3 x 4 cells .* 2 x 2 parts of 8 tokens; .* height is a multiple of 4 .* one of 4 pixels"):
        encoder(images(6, 8))


def test_latents_of_the_other_kind_are_refused():
    _, decoder = small()
    with pytest.raises(ValueError, match="needs a sequence of 8 tokens; got 8 of kind raster"):
        decoder(torch.randn(1, 8, 3), TokenLayout((2, 4)))
    with pytest.raises(ValueError, match="needs a sequence of 8 tokens; got 4 of kind sequence"):
        decoder(torch.randn(1, 4, 3), TokenLayout((2, 2), "sequence"))


@pytest.mark.parametrize(
    ("argument", "value"), [("num_tokens", 12), ("num_tokens", 0), ("num_tokens", None), ("grid", [4]), ("depth", 0), ("width", 0)]
)
def test_an_argument_out_of_range_is_named(argument, value):
    arguments = {"width": 16, "depth": 1, "attention_heads": 2, "grid": [4, 3], "num_tokens": 8, argument: value}
    with pytest.raises(ValueError, match=f"{argument}="):
        QueryEncoder(3, ImageToMap(6, 3, 8, [1, 2], 1, norm_groups=4), **arguments)


def test_initial_values_are_those_of_the_paper():
    torch.manual_seed(0)
    stem = ImageToMap(64, 3, 64, [1, 1], 1)
    encoder = QueryEncoder(8, stem, 64, 1, 2, [16, 16], 256)
    for layer in (*[m for m in stem.modules() if isinstance(m, nn.Conv2d)], encoder.entry[1], encoder.query, encoder.exit):
        assert abs(layer.weight.std() / 0.02 - 1) < 0.1
        assert not layer.bias.any()
    for table in (encoder.cell_positions, encoder.token_positions):
        assert abs(table.std() / 64**-0.5 - 1) < 0.02
    assert encoder.head.bias.any()  # torch's default
