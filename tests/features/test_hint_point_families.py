"""What is read of each family of networks equals what its submodules give, called one by one.

Each function below runs a network by hand, without its blocks' own ``forward``, and returns for every
sub-block what it returns and, where an activation ends it, what enters that activation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import convnext, resnet, swin_transformer, vgg, vision_transformer

from pursuhint.features.extractor import FeatureExtractor
from pursuhint.features.hint_points import find_hint_points


class Expected(NamedTuple):
    """The features of one sub-block; ``pre`` is None where no activation ends it."""

    post: Tensor
    pre: Tensor | None = None


ByHand = Callable[[nn.Module, Tensor], Iterator[Expected]]


def through(x: Tensor, *modules: nn.Module) -> Tensor:
    for module in modules:
        x = module(x)
    return x


def relu_after(pre: Tensor) -> Expected:
    return Expected(F.relu(pre), pre)


# ---------------------------------------------------------------------------------------------------------
# torchvision


def tv_resnet(network: nn.Module, x: Tensor) -> Iterator[Expected]:
    x = network.maxpool(F.relu(network.bn1(network.conv1(x))))
    for block in [*network.layer1, *network.layer2, *network.layer3, *network.layer4]:
        inner = F.relu(block.bn1(block.conv1(x)))
        inner = block.bn2(block.conv2(inner))
        if isinstance(block, resnet.Bottleneck):
            inner = block.bn3(block.conv3(F.relu(inner)))
        found = relu_after(inner + (x if block.downsample is None else block.downsample(x)))
        x = found.post
        yield found


def plain_units(network: nn.Module, x: Tensor) -> Iterator[Expected]:
    """VGG of both libraries: convolution, perhaps a norm, ReLU; pooling belongs to no unit."""
    for module in network.features:
        if isinstance(module, nn.ReLU):
            found = relu_after(x)
            x = found.post
            yield found
        else:
            x = module(x)


def densenet(network: nn.Module, x: Tensor) -> Iterator[Expected]:
    """Both libraries: a dense layer returns its new channels alone."""
    parts = network.features
    x = F.relu(parts.norm0(parts.conv0(x)))
    x = parts.pool0(x)
    for number in range(1, 5):
        for layer in parts.get_submodule(f"denseblock{number}").children():
            new = layer.conv2(F.relu(layer.norm2(layer.conv1(F.relu(layer.norm1(x))))))
            x = torch.cat([x, new], 1)
            yield Expected(new)
        if number < 4:
            step = parts.get_submodule(f"transition{number}")
            x = step.pool(step.conv(F.relu(step.norm(x))))


def tv_mobilenet_v2(network: nn.Module, x: Tensor) -> Iterator[Expected]:
    x = network.features[0](x)
    for block in network.features[1:-1]:
        inner = through(x, *block.conv)
        x = x + inner if inner.shape == x.shape and block.stride == 1 else inner
        yield Expected(x)


def tv_mobilenet_v3(network: nn.Module, x: Tensor) -> Iterator[Expected]:
    x = network.features[0](x)
    for block in network.features[1:-1]:
        inner = through(x, *block.block)
        x = x + inner if inner.shape == x.shape else inner
        yield Expected(x)


def tv_shufflenet(network: nn.Module, x: Tensor) -> Iterator[Expected]:
    x = network.maxpool(network.conv1(x))
    for block in [*network.stage2, *network.stage3, *network.stage4]:
        if block.stride == 1:
            kept, changed = x.chunk(2, 1)
        else:
            kept, changed = through(x, *block.branch1), x
        changed = through(changed, *block.branch2)
        x = torch.stack([kept, changed], 2).flatten(1, 2)
        yield Expected(x)


def tv_efficientnet(network: nn.Module, x: Tensor) -> Iterator[Expected]:
    x = network.features[0](x)
    for stage in network.features[1:-1]:
        for block in stage:
            inner = through(x, *block.block)
            x = x + inner if block.use_res_connect else inner
            yield Expected(x)


def tv_convnext(network: nn.Module, x: Tensor) -> Iterator[Expected]:
    for stem, stage in zip(network.features[::2], network.features[1::2]):
        x = through(x, *stem)
        for block in stage:
            x = x + block.layer_scale * through(x, *block.block)
            yield Expected(x)


def tv_regnet(network: nn.Module, x: Tensor) -> Iterator[Expected]:
    x = through(x, *network.stem)
    for stage in network.trunk_output:
        for block in stage:
            inner = through(x, *block.f)
            found = relu_after(inner + (x if block.proj is None else through(x, *block.proj)))
            x = found.post
            yield found


def tv_vit(network: nn.Module, x: Tensor) -> Iterator[Expected]:
    patches = network.conv_proj(x).flatten(2).transpose(1, 2)
    x = torch.cat([network.class_token.expand(len(x), -1, -1), patches], 1) + network.encoder.pos_embedding
    for block in network.encoder.layers:
        normed = block.ln_1(x)
        x = x + block.self_attention(normed, normed, normed)[0]
        x = x + through(block.ln_2(x), *block.mlp)
        yield Expected(x)


def tv_swin(network: nn.Module, x: Tensor) -> Iterator[Expected]:
    x = network.features[0](x)
    for stage in network.features[1:]:
        if not isinstance(stage, nn.Sequential):
            x = stage(x)  # merges patches
            continue
        for block in stage:
            x = x + block.attn(block.norm1(x))
            x = x + through(block.norm2(x), *block.mlp)
            yield Expected(x.movedim(-1, 1))


# ---------------------------------------------------------------------------------------------------------
# timm


def timm_resnet(network: nn.Module, x: Tensor) -> Iterator[Expected]:
    x = network.maxpool(F.relu(network.bn1(network.conv1(x))))
    for block in [*network.layer1, *network.layer2, *network.layer3, *network.layer4]:
        inner = block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x)))))
        if hasattr(block, "conv3"):
            inner = block.bn3(block.conv3(F.relu(inner)))
        if block.se is not None:
            inner = block.se(inner)
        found = relu_after(inner + (x if block.downsample is None else block.downsample(x)))
        x = found.post
        yield found


def timm_efficientnet(network: nn.Module, x: Tensor) -> Iterator[Expected]:
    """EfficientNet, MobileNet v2 and v3, which share their blocks."""
    x = network.bn1(network.conv_stem(x))
    for stage in network.blocks:
        for block in stage:
            inner = x
            if hasattr(block, "conv_pwl"):  # inverted residual
                inner = block.bn2(block.conv_dw(block.bn1(block.conv_pw(inner))))
                inner = block.bn3(block.conv_pwl(block.se(inner)))
            elif hasattr(block, "conv_dw"):  # depthwise and pointwise
                inner = block.bn2(block.conv_pw(block.se(block.bn1(block.conv_dw(inner)))))
            else:
                x = block(x)  # the last convolution of a MobileNet v3, part of no sub-block
                continue
            x = x + inner if block.has_skip else inner
            yield Expected(x)


def timm_convnext(network: nn.Module, x: Tensor) -> Iterator[Expected]:
    x = network.stem(x)
    for stage in network.stages:
        x = stage.downsample(x)
        for block in stage.blocks:
            inner = block.conv_dw(x)
            if block.use_conv_mlp:
                inner = block.mlp(block.norm(inner))
            else:
                inner = block.mlp(block.norm(inner.movedim(1, -1))).movedim(-1, 1)
            x = x + block.gamma[:, None, None] * inner
            yield Expected(x)


def timm_regnet(network: nn.Module, x: Tensor) -> Iterator[Expected]:
    x = network.stem(x)
    for stage in (network.s1, network.s2, network.s3, network.s4):
        for block in stage.children():
            inner = block.conv3(block.se(block.conv2(block.conv1(x))))
            found = relu_after(inner + block.downsample(x))
            x = found.post
            yield found


def timm_vit(network: nn.Module, x: Tensor) -> Iterator[Expected]:
    patches = network.patch_embed(x)
    x = torch.cat([network.cls_token.expand(len(x), -1, -1), patches], 1) + network.pos_embed
    for block in network.blocks:
        x = x + block.attn(block.norm1(x))
        x = x + block.mlp(block.norm2(x))
        yield Expected(x)


def timm_swin(network: nn.Module, x: Tensor) -> Iterator[Expected]:
    x = network.patch_embed(x)
    for layer in network.layers:
        x = layer.downsample(x)
        for block in layer.blocks:
            x = x + block._attn(block.norm1(x))
            x = x + block.mlp(block.norm2(x))
            yield Expected(x.movedim(-1, 1))


# ---------------------------------------------------------------------------------------------------------


def tv(name: str) -> nn.Module:
    return torchvision.models.get_model(name, weights=None, num_classes=7)


def tv_bottlenecks(**options: int) -> nn.Module:
    """ResNeXt and Wide-ResNet as torchvision builds them, with few blocks."""
    return resnet.ResNet(resnet.Bottleneck, [1, 2, 1, 1], num_classes=7, **options)


def tv_small_vgg(batch_norm: bool = False) -> nn.Module:
    layers = vgg.make_layers([8, "M", 16, "M", 16, 16, "M", 512, "M"], batch_norm=batch_norm)
    network = vgg.VGG(layers, num_classes=7, init_weights=False)
    network.classifier = nn.Linear(512 * 49, 7)
    return network


def tv_small_vit() -> nn.Module:
    return vision_transformer.VisionTransformer(64, 16, num_layers=3, num_heads=2, hidden_dim=16, mlp_dim=32)


def tv_small_swin() -> nn.Module:
    return swin_transformer.SwinTransformer([4, 4], 24, [2, 2], [2, 4], [4, 4])


def tv_small_convnext() -> nn.Module:
    settings = [convnext.CNBlockConfig(24, 32, 2), convnext.CNBlockConfig(32, None, 1)]
    return convnext.ConvNeXt(settings)


def timm_small_vgg() -> nn.Module:
    return timm.models.vgg.VGG([8, "M", 16, "M", 16, 16, "M", 16, "M"], num_classes=7, mlp_ratio=0.01)


def timm_small(name: str, **options: Any) -> nn.Module:
    return timm.create_model(name, num_classes=7, **options)


SHORT = {"layers": (1, 2, 1, 1)}
SWIN = {"img_size": 64, "window_size": 4, "depths": (2, 2), "embed_dim": 24, "num_heads": (2, 4)}

FAMILIES: dict[str, tuple[Callable[[], nn.Module], ByHand, int]] = {
    "torchvision resnet18": (lambda: tv("resnet18"), tv_resnet, 8),
    "torchvision resnet50": (lambda: tv("resnet50"), tv_resnet, 16),
    "torchvision wide resnet": (lambda: tv_bottlenecks(width_per_group=128), tv_resnet, 5),
    "torchvision resnext": (lambda: tv_bottlenecks(groups=32, width_per_group=4), tv_resnet, 5),
    "torchvision vgg": (tv_small_vgg, plain_units, 5),
    "torchvision vgg with norms": (lambda: tv_small_vgg(batch_norm=True), plain_units, 5),
    "torchvision densenet": (lambda: tv("densenet121"), densenet, 58),
    "torchvision mobilenet v2": (lambda: tv("mobilenet_v2"), tv_mobilenet_v2, 17),
    "torchvision mobilenet v3": (lambda: tv("mobilenet_v3_small"), tv_mobilenet_v3, 11),
    "torchvision shufflenet": (lambda: tv("shufflenet_v2_x0_5"), tv_shufflenet, 16),
    "torchvision efficientnet": (lambda: tv("efficientnet_b0"), tv_efficientnet, 16),
    "torchvision efficientnet v2": (lambda: tv("efficientnet_v2_s"), tv_efficientnet, 40),
    "torchvision convnext": (lambda: tv("convnext_tiny"), tv_convnext, 18),
    "torchvision regnet": (lambda: tv("regnet_y_400mf"), tv_regnet, 16),
    "torchvision vit": (tv_small_vit, tv_vit, 3),
    "torchvision swin": (tv_small_swin, tv_swin, 4),
    "timm resnet": (lambda: timm_small("resnet18"), timm_resnet, 8),
    "timm wide resnet": (lambda: timm_small("wide_resnet50_2", **SHORT), timm_resnet, 5),
    "timm resnext": (lambda: timm_small("seresnext50_32x4d", **SHORT), timm_resnet, 5),
    "timm vgg": (timm_small_vgg, plain_units, 5),
    "timm densenet": (lambda: timm_small("densenet121"), densenet, 58),
    "timm mobilenet v2": (lambda: timm_small("mobilenetv2_050"), timm_efficientnet, 17),
    "timm mobilenet v3": (lambda: timm_small("mobilenetv3_small_050"), timm_efficientnet, 11),
    "timm efficientnet": (lambda: timm_small("efficientnet_b0"), timm_efficientnet, 16),
    "timm convnext": (lambda: timm_small("convnext_atto"), timm_convnext, 12),
    "timm regnet": (lambda: timm_small("regnety_002"), timm_regnet, 13),
    "timm vit": (lambda: timm_small("vit_tiny_patch16_224", img_size=64, depth=3), timm_vit, 3),
    "timm swin": (lambda: timm_small("swin_tiny_patch4_window7_224", **SWIN), timm_swin, 4),
}


def lively(network: nn.Module) -> nn.Module:
    """In evaluation mode, with norms and scales that are not the identity."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if value.ndim == 1 or name.endswith("layer_scale"):
                value.add_(torch.rand(value.shape, generator=generator) / 2)
        for name, value in network.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                value.add_(torch.rand(value.shape, generator=generator) / 2)
    return network.eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_features_equal_those_computed_by_hand(family):
    build, by_hand, count = FAMILIES[family]
    torch.manual_seed(0)
    network = lively(build())
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = list(by_hand(network, images))
        assert len(expected) == count
        for activation in ("post", "pre"):
            points = find_hint_points(network, images, activation=activation)
            # Without logits the forward pass ends at the deepest point, which must change nothing.
            for logits in (True, False):
                features = FeatureExtractor(network, points, logits=logits)(images).maps
                assert len(features) == count
                for point, seen, found in zip(points, features, expected):
                    wanted = found.post if activation == "post" or found.pre is None else found.pre
                    torch.testing.assert_close(seen, wanted, msg=lambda text, p=point: f"{p}: {text}")


def test_maps_as_high_as_they_have_channels_keep_their_layout():
    """Nothing in the shape (N, 24, 24, 24) tells where the channels are."""
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        swin = lively(tv_small_swin())
        features = FeatureExtractor(swin, find_hint_points(swin, images))(images).maps
        for seen, expected in zip(features, tv_swin(swin, images)):
            torch.testing.assert_close(seen, expected.post)
        convnext = lively(tv_small_convnext())
        points = find_hint_points(convnext, images)
        assert (points[0].channels, points[0].spatial) == (24, (24, 24))
        for seen, expected in zip(
            FeatureExtractor(convnext, points)(images).maps, tv_convnext(convnext, images)
        ):
            torch.testing.assert_close(seen, expected.post)


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "vit_tiny_patch16_224", "mobilenetv2_100"])
def test_a_network_without_its_classifier_keeps_its_deepest_block(name):
    size = {"img_size": 64} if name.startswith("vit") else {}
    example = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
    whole, headless = (
        find_hint_points(timm.create_model(name, num_classes=classes, **size), example) for classes in (10, 0)
    )
    assert [point.module for point in headless] == [point.module for point in whole]


def test_a_sequence_of_the_children_of_a_network_keeps_its_deepest_block():
    network = torchvision.models.resnet18()
    example = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
    children = nn.Sequential(*list(network.children())[:-2])
    assert len(find_hint_points(children, example)) == len(find_hint_points(network, example)) == 8
    assert find_hint_points(children, example)[-1].module == "7.1"


def test_a_convolution_that_classifies_is_still_no_hint_point():
    example = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
    points = find_hint_points(torchvision.models.squeezenet1_1(), example)
    assert points[-1].module == "features.12"
