"""Candidates of public networks: their number, names, widths, sizes and patches, as their definitions say."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn
from torchvision.models.swin_transformer import (
    PatchMergingV2,
    SwinTransformer,
    SwinTransformerBlockV2,
)

from pursuhint.errors import PursuhintWarning
from pursuhint.features.extractor import FeatureExtractor
from pursuhint.features.hint_points import HintPoint, find_hint_points

Make = Callable[[], nn.Module]


def tv(name: str, **options: Any) -> Make:
    return lambda: torchvision.models.get_model(name, weights=None, num_classes=3, **options)


def tm(name: str, **options: Any) -> Make:
    return lambda: timm.create_model(name, num_classes=3, **options)


def hf(kind: str, **options: Any) -> Make:
    def make() -> nn.Module:
        transformers = pytest.importorskip("transformers")
        if not hasattr(transformers, f"{kind}Model"):
            pytest.skip(f"this version of transformers has no {kind}")
        config = getattr(transformers, f"{kind}Config")(**options)
        network: nn.Module = getattr(transformers, f"{kind}Model")(config)
        return network

    return make


def maxvit() -> nn.Module:
    sizes = {"block_channels": [8, 16], "block_layers": [1, 1], "head_dim": 4, "partition_size": 2}
    return torchvision.models.MaxVit((64, 64), 8, stochastic_depth_prob=0.1, num_classes=3, **sizes)


def swin_v2() -> nn.Module:
    kinds = {"block": SwinTransformerBlockV2, "downsample_layer": PatchMergingV2}
    return SwinTransformer([4, 4], 24, [2, 2], [2, 4], [4, 4], **kinds)


def wide(layers: int = 3) -> dict[str, int]:
    return {
        "hidden_size": 16, "num_hidden_layers": layers, "num_attention_heads": 2, "intermediate_size": 32
    }  # fmt: skip


STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [2, 1, 1, 2]}
SIZE = {"img_size": 64}
IMAGE = {"image_size": 64}
PATCHES = {"image_size": 64, "patch_size": 16}

# Network: candidates, first and last name, then width@size of both; "=" says the grid of patches.
TABLE: dict[str, tuple[Make, int, str, str, str, str]] = {
    "torchvision alexnet": (tv("alexnet"), 5, "features.1", "features.11", "64@15x15", "256@3x3"),
    "torchvision squeezenet": (
        tv("squeezenet1_1"), 8, "features.3", "features.12", "128@15x15", "512@3x3"),
    "torchvision googlenet": (
        tv("googlenet", init_weights=False, aux_logits=False),
        9, "inception3a", "inception5b", "256@8x8", "1024@2x2"),
    "torchvision mnasnet": (tv("mnasnet0_5"), 16, "layers.8.0", "layers.13.0", "16@16x16", "160@2x2"),
    "torchvision maxvit": (
        maxvit, 6, "blocks.0.layers.0.layers.MBconv", "blocks.1.layers.0.layers.grid_attention",
        "8@16x16", "16@8x8"),
    "torchvision swin v2": (swin_v2, 4, "features.1.0", "features.3.1", "24@16x16", "48@8x8"),
    "timm mixer": (tm("mixer_s16_224", **SIZE), 8, "blocks.0", "blocks.7", "512@16=4x4", "512@16=4x4"),
    "timm resmlp": (
        tm("resmlp_12_224", **SIZE), 12, "blocks.0", "blocks.11", "384@16=4x4", "384@16=4x4"),
    "timm poolformer": (
        tm("poolformer_s12"), 12, "stages.0.blocks.0", "stages.3.blocks.1", "64@16x16", "512@2x2"),
    "timm pvt v2": (
        tm("pvt_v2_b0"), 8, "stages.0.blocks.0", "stages.3.blocks.1", "32@256=16x16", "256@4=2x2"),
    "timm edgenext": (
        tm("edgenext_xx_small"), 12, "stages.0.blocks.0", "stages.3.blocks.1", "24@16x16", "168@2x2"),
    "timm swin v2": (
        tm("swinv2_cr_tiny_224", window_size=2, embed_dim=24, depths=(2, 2), num_heads=(2, 2), **SIZE),
        4, "stages.0.blocks.0", "stages.1.blocks.1", "24@16x16", "48@8x8"),
    "timm focalnet": (
        lambda: timm.models.focalnet.FocalNet(num_classes=3, embed_dim=24, depths=(1, 2, 1, 1)),
        5, "layers.0.blocks.0", "layers.3.blocks.0", "24@16x16", "192@2x2"),
    "timm mambaout": (
        tm("mambaout_femto"), 18, "stages.0.blocks.0", "stages.3.blocks.2", "48@16x16", "288@2x2"),
    "timm inception next": (
        tm("inception_next_atto"), 12, "stages.0.blocks.0", "stages.3.blocks.1", "40@16x16", "320@2x2"),
    "timm xcit": (
        tm("xcit_nano_12_p16_224", **SIZE),
        14, "blocks.0", "cls_attn_blocks.1", "128@16=4x4", "128@17=4x4"),
    "timm cait": (
        tm("cait_xxs24_224", depth=4, **SIZE),
        6, "blocks.0", "blocks_token_only.1", "192@16=4x4", "192@1=1x1"),
    "transformers vit": (hf("ViT", **IMAGE, **wide()), 3, "*layer*.0", "*layer*.2", "16@17=4x4", "16@17=4x4"),
    "transformers deit": (
        hf("DeiT", **IMAGE, **wide()), 3, "*layer*.0", "*layer*.2", "16@18=4x4", "16@18=4x4"),
    "transformers dinov3": (
        hf("DINOv3ViT", num_register_tokens=4, **PATCHES, **wide()),
        3, "*layer*.0", "*layer*.2", "16@21=4x4", "16@21=4x4"),
    "transformers clip": (
        hf("CLIPVision", **PATCHES, **wide()), 3, "*layer*.0", "*layer*.2", "16@17=4x4", "16@17=4x4"),
    "transformers siglip": (
        hf("SiglipVision", **PATCHES, **wide()), 3, "*layer*.0", "*layer*.2", "16@16=4x4", "16@16=4x4"),
    "transformers resnet": (
        hf("ResNet", embedding_size=8, layer_type="basic", **STAGES),
        6, "encoder.stages.0.layers.0", "encoder.stages.3.layers.1", "8@16x16", "32@2x2"),
    "transformers regnet": (
        hf("RegNet", embedding_size=8, groups_width=8, **STAGES),
        6, "encoder.stages.0.layers.0", "encoder.stages.3.layers.1", "8@16x16", "32@2x2"),
    "transformers pvt": (
        hf("Pvt", num_attention_heads=[1, 2, 2, 2], **IMAGE, **STAGES),
        6, "encoder.block.0.0", "encoder.block.3.1", "8@256=16x16", "32@5=2x2"),
    "transformers poolformer": (
        hf("PoolFormer", **STAGES), 6, "encoder.block.0.0", "encoder.block.3.1", "8@16x16", "32@2x2"),
}  # fmt: skip


def described(point: HintPoint) -> str:
    size = "x".join(map(str, point.spatial))
    return f"{point.channels}@{size}" + ("" if point.grid is None else "=" + "x".join(map(str, point.grid)))


@pytest.mark.parametrize("name", TABLE)
def test_candidates_are_the_blocks_of_the_definition(name):
    make, count, first, last, first_size, last_size = TABLE[name]
    torch.manual_seed(0)
    network = make().eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error", PursuhintWarning)  # where the channels are is certain
        points = find_hint_points(network, images)
    assert len(points) == count, [point.module for point in points]
    for point, wanted, size in ((points[0], first, first_size), (points[-1], last, last_size)):
        # Versions of transformers differ in what stands before the number of a layer.
        kind = "layer" if wanted.startswith("*") else wanted
        assert kind in point.module
        assert point.module.endswith(wanted.rpartition("*")[2])
        assert described(point) == size
    with torch.no_grad():
        features = FeatureExtractor(network, points, logits=False)(images).maps
    for point, values in zip(points, features):
        channels = (point.channels,)
        sizes = (*point.spatial, *channels) if len(point.spatial) == 1 else (*channels, *point.spatial)
        assert values.shape == (2, *sizes), point
