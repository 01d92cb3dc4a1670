"""What counts as a sub-block, on networks that are easily misread."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pursuhint.features.extractor import FeatureExtractor
from pursuhint.features.hint_points import HintPoint, find_hint_points, stage_ends


def images(size: int = 32, count: int = 3) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def names(network: nn.Module, size: int = 32) -> list[str]:
    return [point.module for point in find_hint_points(network, images(size))]


def features(network: nn.Module, points: tuple[HintPoint, ...], batch: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        return FeatureExtractor(network.eval(), points)(batch).maps


@pytest.mark.parametrize(
    ("name", "size", "count", "ends", "first", "last"),
    [
        ("legacy_xception", 96, 14, [1, 2, 11, 14], "block1", "conv4"),
        ("xception41p", 96, 13, [1, 2, 11, 13], "blocks.0", "blocks.12"),
        ("hrnet_w18_small", 64, 8, [5, 6, 7, 8], "layer1.0", "incre_modules.3.0"),
        ("cs3darknet_s", 64, 9, [1, 4, 8, 9], "stages.0.blocks.0", "stages.3.blocks.0"),
        ("hgnetv2_b0", 64, 5, [1, 2, 4, 5], "stages.0.blocks.0", "stages.3.blocks.0"),
        ("ese_vovnet19b_slim_dw", 64, 4, [1, 2, 3, 4], "stages.0", "stages.3"),
        ("lcnet_035", 64, 13, [1, 3, 5, 11, 13], "blocks.0.0", "blocks.5.1"),
        ("mobilevit_xxs", 64, 10, [1, 4, 6, 8, 10], "stages.0.0", "stages.4.1"),
        ("mambaout_femto", 64, 18, [3, 6, 15, 18], "stages.0.blocks.0", "stages.3.blocks.2"),
        (
            "rdnet_tiny",
            64,
            21,
            [3, 6, 18, 21],
            "dense_stages.0.0.dense_block0",
            "dense_stages.6.2.dense_block2",
        ),
        ("coat_tiny", 64, 14, [2, 4, 6, 8, 14], "serial_blocks1.0", "parallel_blocks.5"),
    ],
)
def test_networks_that_are_easily_misread(name, size, count, ends, first, last):
    options = {"img_size": size} if name == "coat_tiny" else {}
    points = find_hint_points(timm.create_model(name, **options), images(size))
    assert [len(points), points[0].module, points[-1].module] == [count, first, last]
    assert [point.position for point in stage_ends(points)] == ends


class Residual(nn.Module):
    """Adds its input to what some layers make of it."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def conv(inputs: int, outputs: int | None = None, **options: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs or inputs, 3, padding=1, **options)


def classifier(width: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5)]


class Separable(nn.Module):
    """A factorised convolution, a chain of two layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise, self.pointwise = conv(width, groups=width), nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.pointwise(self.depthwise(x)))


def test_factorised_convolutions_inside_a_residual_block_do_not_take_it_apart():
    blocks = [Residual(Separable(4), Separable(4), Separable(4)) for _ in range(3)]
    assert names(nn.Sequential(conv(3, 4), *blocks, *classifier(4))) == ["1", "2", "3"]


def test_factorised_convolutions_are_the_units_of_a_plain_network():
    network = nn.Sequential(conv(3, 4), nn.ReLU(), *(Separable(4) for _ in range(3)), *classifier(4))
    assert names(network) == ["2", "3", "4"]


class Streams(nn.Module):
    """Two resolutions side by side, each with sub-blocks of its own, that exchange their results."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(Residual(conv(width), conv(width)) for _ in range(2))) for width in (4, 6)
        )
        self.down = nn.Conv2d(4, 6, 1, stride=2)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        fine, coarse = (branch(x) for branch, x in zip(self.branches, maps))
        return [fine, coarse + self.down(fine)]


class TwoStreams(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stems = nn.ModuleList([conv(3, 4), conv(3, 6, stride=2)])
        self.modules_ = nn.ModuleList(Streams() for _ in range(2))
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        maps = [stem(x) for stem in self.stems]
        for module in self.modules_:
            maps = module(maps)
        return self.fc(maps[1].mean((2, 3)))


def test_parallel_streams_are_one_sub_block_read_at_their_first_output():
    network, batch = TwoStreams(), images()
    points = find_hint_points(network, batch)
    assert [point.module for point in points] == ["modules_.0", "modules_.1"]
    with torch.no_grad():
        maps = network.modules_[0]([stem(batch) for stem in network.stems])
    torch.testing.assert_close(features(network, points, batch)[0], maps[0])


class Pieces(nn.Module):
    """Returns all pieces of all images in one axis, and then one vector an image (TNT)."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        pieces, whole = state
        pieces = pieces + self.inner(pieces)
        return pieces, whole + self.outer(whole + pieces.reshape(len(whole), -1, 6).mean(1, keepdim=True))


class PiecesNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 4, stride=4)
        self.blocks = nn.ModuleList(Pieces() for _ in range(2))
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        state = tokens.reshape(-1, 4, 6), tokens
        for block in self.blocks:
            state = block(state)
        return self.fc(state[1].mean(1))


def test_of_several_outputs_the_one_with_an_entry_a_sample_is_read():
    network, batch = PiecesNetwork(), images()
    points = find_hint_points(network, batch)
    assert [(point.module, point.spatial) for point in points] == [("blocks.0", (64,)), ("blocks.1", (64,))]
    assert [tensor.shape for tensor in features(network, points, batch)] == [(3, 64, 6)] * 2


class Folding(nn.Module):
    """Mixes a map with what blocks make of its places, each image's cut into four sequences (MobileViT)."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(Residual(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4)) for _ in range(2))
        )
        self.mix = conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        folded = self.blocks(x.reshape(n, c, 4, -1).permute(0, 2, 3, 1).flatten(0, 1))
        unfolded = folded.reshape(n, 4, -1, c).permute(0, 3, 1, 2).reshape(n, c, h, w)
        return self.mix(torch.cat([x, unfolded], 1))


def test_blocks_that_mix_up_the_samples_are_no_candidates():
    network = nn.Sequential(conv(3, 4), Folding(), Folding(), *classifier(4))
    assert names(network) == ["1", "2"]


class UsesShared(nn.Module):
    def __init__(self, shared: nn.Module) -> None:
        super().__init__()
        self.first, self.second, self.shared = conv(4), conv(4), shared

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.shared(self.first(x)))


class Reused(nn.Module):
    """Blocks that share a module that would be a sub-block by itself (relative positions in CoaT)."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = Residual(conv(4), conv(4))
        self.stem = conv(3, 4)
        self.blocks = nn.ModuleList(UsesShared(self.shared) for _ in range(3))
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.fc(x.mean((2, 3)))


def test_what_runs_inside_sub_blocks_only_is_none():
    assert names(Reused()) == ["blocks.0", "blocks.1", "blocks.2"]


class Stem(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = conv(3, 2), conv(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.left(x), self.right(x)], 1)


def test_the_module_that_takes_the_image_is_the_stem_unless_there_are_more_of_its_kind():
    blocks = [Residual(conv(4), conv(4)) for _ in range(2)]
    assert names(nn.Sequential(Stem(), *blocks, *classifier(4))) == ["1", "2"]
    alike = [Residual(conv(3), conv(3)) for _ in range(2)]
    assert names(nn.Sequential(*alike, *classifier(3))) == ["0", "1"]


def test_layers_of_the_classifier_are_no_candidates_even_as_convolutions():
    network = nn.Sequential(
        conv(3, 4), nn.ReLU(), nn.MaxPool2d(8), conv(4), nn.ReLU(),
        nn.Conv2d(4, 9, 4), nn.ReLU(), nn.Conv2d(9, 9, 1), nn.ReLU(), nn.Flatten(), nn.Linear(9, 5),
    )  # fmt: skip
    assert names(network) == ["1", "4"]


class Concatenating(nn.Module):
    """Many channels, the last of which come from a layer as wide as the map."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.left, self.right = conv(inputs, 24), conv(inputs, 16)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.left(x), self.right(x)], 1)


def test_a_layer_as_wide_as_the_map_does_not_move_the_channels():
    network = nn.Sequential(conv(3, 4), Concatenating(4), Concatenating(40), *classifier(40))
    for activation in ("post", "pre"):
        points = find_hint_points(network, images(16), activation=activation)
        assert [(point.channels, point.spatial) for point in points] == [(40, (16, 16))] * 2


def test_a_single_block_stands_among_the_units_of_a_plain_network():
    network = nn.Sequential(
        conv(3, 4), nn.ReLU(), Residual(conv(4), conv(4)), conv(4), nn.ReLU(), *classifier(4)
    )
    assert names(network) == ["1", "2", "4"]
