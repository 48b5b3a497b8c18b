import torch

from tokenizer.layers.attention import SpatialAttention


def test_spatial_attention_is_its_formula():
    torch.manual_seed(0)
    layer = SpatialAttention(channels=8, norm_groups=4)
    x = torch.randn(2, 8, 3, 5)
    tokens = layer.norm(x).flatten(2).transpose(1, 2)
    query, key, value = (tokens @ layer.qkv.weight[:, :, 0, 0].T + layer.qkv.bias).split(8, dim=-1)
    attended = torch.softmax(query @ key.transpose(1, 2) / 8**0.5, dim=-1) @ value
    mixed = attended @ layer.out.weight[:, :, 0, 0].T + layer.out.bias
    torch.testing.assert_close(layer(x), x + mixed.transpose(1, 2).reshape(2, 8, 3, 5), rtol=1e-4, atol=1e-5)
