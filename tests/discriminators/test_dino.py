import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from tokenizer.discriminators.dino import DINODiscriminator
from tokenizer.interfaces import Discriminator

TAPS = [2, 5, 8, 11]
TOKENS = 1 + 4 + 4  # class token, registers, patches of 28 x 28 pixels


@pytest.fixture(autouse=True)
def weights(random_weights):
    torch.manual_seed(0)


def dino(input_size: int = 28, taps: list[int] = TAPS, augmentation: tuple[str, ...] = ()) -> DINODiscriminator:
    return DINODiscriminator("dinov2_vits14_reg", input_size, taps, list(augmentation))


def make_images(*shape: int) -> torch.Tensor:
    return torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_the_paper_discriminator_trains_7_386_million_parameters_1_477_a_head():
    with torch.device("meta"):
        discriminator = dino(518)
    assert sum(parameter.numel() for parameter in discriminator.parameters()) == 5 * 1_477_249 == 7_386_245


def test_the_paper_discriminator_has_five_logits_for_each_of_1374_tokens():
    with torch.device("meta"):
        assert dino(518)(torch.empty(2, 3, 128, 128)).shape == (2, 5 * 1374)


def test_a_discriminator_is_its_formula():
    """The transformer's blocks by hand; timm's model gives the layers alone."""
    discriminator = dino(taps=[0, 3])
    for parameter in discriminator.parameters():
        parameter.data.add_(0.05 * torch.randn(parameter.shape))
    vit = discriminator.tokens.network.published.network
    images = make_images(20, 24)
    unit = F.adaptive_avg_pool2d(images / 2 + 0.5, 28)
    normal = (unit - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    patches = F.conv2d(normal, vit.patch_embed.proj.weight, vit.patch_embed.proj.bias, stride=14).flatten(2).transpose(1, 2)
    tokens = torch.cat([vit.cls_token.expand(2, 1, 384), vit.reg_token.expand(2, 4, 384), patches + vit.pos_embed], dim=1)
    tapped = [tokens]
    for number, block in enumerate(vit.blocks[:4]):
        qkv = F.linear(block.norm1(tokens), block.attn.qkv.weight, block.attn.qkv.bias).reshape(2, TOKENS, 3, 6, 64).permute(2, 0, 3, 1, 4)
        mixed = (qkv[0] @ qkv[1].mT / 8).softmax(-1) @ qkv[2]
        tokens = tokens + block.ls1.gamma * block.attn.proj(mixed.transpose(1, 2).flatten(2))
        tokens = tokens + block.ls2.gamma * block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(tokens))))
        if number in (0, 3):
            tapped.append(tokens)

    def normed(x, norm):
        mean, variance = x.mean((0, 2), keepdim=True), x.var((0, 2), keepdim=True, unbiased=False)
        return F.leaky_relu((x - mean) / (variance + 1e-5).sqrt() * norm.weight[:, None] + norm.bias[:, None], 0.2)

    expected = []
    for head, tokens in zip(discriminator.heads, tapped, strict=True):
        weights = dict(head.named_parameters())
        inner = normed(F.conv1d(tokens.mT, weights["inner.0.weight"], weights["inner.0.bias"]), head.inner[1])
        ring = torch.cat([inner[:, :, -4:], inner, inner[:, :, :4]], dim=2)
        outer = normed(F.conv1d(ring, weights["residual.0.weight"], weights["residual.0.bias"]), head.residual[1])
        expected.append(F.conv1d((outer + inner) / 2**0.5, weights["logits.weight"], weights["logits.bias"])[:, 0])
    assert len(expected) == 3
    torch.testing.assert_close(discriminator(images), torch.cat(expected, dim=1), rtol=1e-3, atol=1e-4)


def test_gradients_pass_through_the_transformer_to_the_images_and_leave_it_alone():
    discriminator = dino(augmentation=("color", "translation", "cutout"))
    images = make_images(20, 24).requires_grad_()
    discriminator.requires_grad_(False)
    (-discriminator(images).mean()).backward()
    assert (images.grad.abs().amax((2, 3)) > 0).all()
    assert all(parameter.grad is None for parameter in discriminator.tokens.network.parameters())


def test_the_transformer_is_neither_trained_nor_saved_and_stays_in_eval_mode():
    discriminator = dino().train()
    assert isinstance(discriminator, Discriminator)
    assert {name.partition(".")[0] for name, _ in discriminator.named_parameters()} == {"heads"}
    assert {name.partition(".")[0] for name in discriminator.state_dict()} == {"heads"}
    assert not any(module.training for module in discriminator.tokens.network.modules())


def test_a_gradient_penalty_reaches_every_head_with_the_gradient_that_differences_have():
    discriminator = dino(taps=[1]).double()
    with torch.no_grad():
        discriminator.heads[1].logits.weight.mul_(5)
    images = make_images(28, 28).double().requires_grad_()

    def penalty() -> torch.Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            (gradient,) = torch.autograd.grad(discriminator(images).sum(), images, create_graph=True)
        return gradient.square().sum((1, 2, 3)).mean()

    penalty().backward()
    for head in discriminator.heads:
        weight = head.residual[0].weight
        direction = weight.grad / weight.grad.norm()
        assert weight.grad.norm() > 0
        values = []
        for step in (1e-7, -2e-7):  # small, because every leaky relu has a kink
            weight.data.add_(step * direction)
            values.append(penalty().item())
        assert (values[0] - values[1]) / 2e-7 == pytest.approx(weight.grad.norm().item(), rel=1e-3)
        weight.data.add_(1e-7 * direction)


def test_larger_images_are_cropped_to_a_square():
    discriminator = dino().eval()
    captured = []
    discriminator.tokens.register_forward_pre_hook(lambda module, inputs: captured.append(inputs[0]))
    for shape in ((30, 40), (28, 40), (20, 20)):
        discriminator(make_images(*shape))
    assert [tuple(images.shape[-2:]) for images in captured] == [(28, 28), (28, 40), (20, 20)]
    whole = (make_images(30, 40) / 2 + 0.5).unfold(2, 28, 1).unfold(3, 28, 1)  # every square
    for number in range(2):
        matches = (whole[number] == captured[0][number][:, None, None]).all(-1).all(-1).all(0)
        assert matches.sum() == 1


def test_the_square_is_anywhere_in_the_image():
    discriminator = dino(taps=[0]).eval()
    captured = []
    discriminator.tokens.register_forward_pre_hook(lambda module, inputs: captured.append(inputs[0]))
    rows, columns = torch.meshgrid(torch.arange(30), torch.arange(31), indexing="ij")
    discriminator((torch.stack([rows, columns, rows]) * 2.0 - 1).expand(64, 3, 30, 31))
    corners = {tuple(corner) for corner in captured[0][:, :2, 0, 0].round().int().tolist()}
    assert corners == {(row, column) for row in range(3) for column in range(4)}


def test_augmentation_differs_between_calls_and_precedes_the_resize():
    discriminator = dino(augmentation=("translation",)).eval()
    captured = []
    discriminator.tokens.register_forward_pre_hook(lambda module, inputs: captured.append(inputs[0]))
    white = torch.ones(2, 3, 16, 16)
    discriminator(white)
    discriminator(white)
    assert captured[0].shape == (2, 3, 16, 16)
    assert set(captured[0].unique().tolist()) == {0.0, 1.0}  # black where nothing is
    assert not torch.equal(captured[0], captured[1])


def test_bf16_autocast_gives_about_the_same_logits():
    discriminator = dino().eval()
    images = make_images(28, 28)
    expected = discriminator(images)
    with torch.autocast("cpu", torch.bfloat16):
        logits = discriminator(images.bfloat16())
    assert (logits.float() - expected).abs().mean() < 0.1 * expected.std()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_size": 500}, "discriminator_input_size=500: expected a multiple of 14.*nearest: 490 and 504"),
        ({"taps": []}, r"discriminator.taps is \[\]; expected ascending block numbers from 0 to 11"),
        ({"taps": [5, 2]}, r"discriminator.taps is \[5, 2\]"),
        ({"taps": [-1, 2]}, r"discriminator.taps is \[-1, 2\]"),
        ({"taps": [2, 12]}, r"discriminator.taps is \[2, 12\]"),
        ({"augmentation": ("flip",)}, "discriminator.augmentation has 'flip'"),
    ],
)
def test_a_wrong_choice_is_refused_with_its_key(arguments, message):
    with pytest.raises(ValueError, match=message):
        dino(**arguments)


def test_another_network_is_refused():
    with pytest.raises(ValueError, match=r"discriminator\.network=resnet50_a1, expected one of dinov2_vits14_reg"):
        DINODiscriminator("resnet50_a1", 224, TAPS, [])
