"""Which axis of a feature is which: channels, samples, tokens, places of signals and videos."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
from torch import Tensor, nn

from pursuhint.errors import PursuhintError, PursuhintWarning
from pursuhint.features.extractor import FeatureExtractor
from pursuhint.features.hint_points import HintPoint, find_hint_points
from pursuhint.hints import HintPlan
from pursuhint.similarity import linear_cka


def images(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def read(network: nn.Module, batch: Tensor, **options: bool) -> tuple[Tensor, ...]:
    """The features at all hint points, by name found with warnings as errors."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error", PursuhintWarning)
        points = find_hint_points(network.eval(), batch, **options)
        features = FeatureExtractor(network, points, logits=False)(batch).maps
    for point, values in zip(points, features):
        channels = values.shape[2 if values.ndim == 3 else 1]
        assert channels == point.channels, point
    return features


# ---------------------------------------------------------------------------------------------------------
# Channels


class EitherNorm(nn.LayerNorm):
    """A norm whose argument says which axis it is over, as transformers' ConvNeXt has it."""

    def __init__(self, width: int, channels_first: bool) -> None:
        super().__init__(width)
        self.channels_first = channels_first

    def forward(self, x: Tensor) -> Tensor:
        if self.channels_first:
            return super().forward(x.movedim(1, -1)).movedim(-1, 1)
        return super().forward(x)


class Block(nn.Module):
    """A ConvNeXt block: channels second outside, last inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm = EitherNorm(width, channels_first=False)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm(self.conv(x).movedim(1, -1))
        return x + self.down(self.up(inner).relu()).movedim(-1, 1)


class LastBlock(nn.Module):
    """The same with channels last outside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.block = Block(width)
        self.first = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(self.first(x).movedim(-1, 1)).movedim(1, -1)


def convnext(width: int = 8, last: bool = False) -> nn.Module:
    """Two stages of two blocks; a norm of either order stands behind each stage."""
    kind = LastBlock if last else Block

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, width, 4, 4)
            self.first = nn.Sequential(kind(width), kind(width))
            self.between = EitherNorm(width, channels_first=not last)
            self.down = nn.Conv2d(width, 12, 2, 2)
            self.second = nn.Sequential(kind(12), kind(12))
            self.norm = EitherNorm(12, channels_first=not last)
            self.head = nn.Linear(12, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            x = self.between(self.first(x.movedim(1, -1) if last else x))
            x = self.down(x.movedim(-1, 1) if last else x)
            x = self.norm(self.second(x.movedim(1, -1) if last else x))
            return self.head(x.mean((1, 2) if last else (2, 3)))

    torch.manual_seed(0)
    network = Network()
    with torch.no_grad():  # norms and scales that are not the identity
        for parameter in network.parameters():
            parameter.add_(torch.rand_like(parameter) / 4)
    return network.eval()


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("width", [8, 16])  # 16 channels of 16 x 16 places: no shape tells them apart
def test_a_norm_of_either_order_does_not_move_the_channels_of_the_last_block(last, width):
    network = convnext(width, last)
    batch = images(5, 3, 64, 64)
    found = read(network, batch)
    with torch.no_grad():
        x = network.stem(batch)
        expected = []
        for stage in (network.first, network.second):
            x = x.movedim(1, -1) if last else x
            for block in stage:
                x = block(x)
                expected.append(x.movedim(-1, 1) if last else x)
            if stage is network.first:
                x = network.between(x)
                x = network.down(x.movedim(-1, 1) if last else x)
    assert len(found) == 4
    for seen, wanted in zip(found, expected):
        torch.testing.assert_close(seen, wanted)
    by_hand = linear_cka(expected[1].mean((2, 3)), expected[3].mean((2, 3)))
    seen = linear_cka(found[1].mean((2, 3)), found[3].mean((2, 3)))
    torch.testing.assert_close(seen, by_hand)


@pytest.mark.parametrize("kind", ["ConvNext", "ConvNextV2"])
def test_the_convnexts_of_transformers_have_their_channels_second(kind):
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, f"{kind}Config")(hidden_sizes=[16, 24, 32, 48], depths=[2, 2, 2, 2])
    torch.manual_seed(0)
    network = getattr(transformers, f"{kind}Model")(config).eval()
    batch = images(3, 3, 64, 64)
    with torch.no_grad():
        hidden = network(batch, output_hidden_states=True).hidden_states
    found = read(network, batch)
    assert [values.shape[1] for values in found] == [16, 16, 24, 24, 32, 32, 48, 48]
    for seen, wanted in zip(found[1::2], hidden[1:]):  # what ends a stage
        torch.testing.assert_close(seen, wanted)


class Opaque(nn.Module):
    """A block around which nothing says where the channels are: it has 6 of them in 6 x 6 places."""

    def __init__(self, last: bool) -> None:
        super().__init__()
        self.last = last
        self.one, self.two = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        inner = x * 1 if not self.last else x.movedim(-1, 1)
        inner = self.two(self.one(inner).relu())
        return x + (inner if not self.last else inner.movedim(1, -1))


class OpaqueNetwork(nn.Module):
    def __init__(self, last: bool) -> None:
        super().__init__()
        self.last = last
        self.stem = nn.Conv2d(3, 6, 1)
        self.blocks = nn.Sequential(Opaque(last), Opaque(last))
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.blocks(x.movedim(1, -1) * 1 if self.last else x * 1)
        return self.head(x.mean((1, 2) if self.last else (2, 3)))


@pytest.mark.parametrize("last", [False, True])
def test_where_both_readings_fit_it_is_said_and_the_caller_decides(last):
    network = OpaqueNetwork(last).eval()
    batch = images(4, 3, 6, 6)
    with pytest.warns(PursuhintWarning, match=r"'blocks\.0' and 1 more blocks.*could be in the second or"):
        find_hint_points(network, batch)
    with torch.no_grad():
        x = network.stem(batch)
        x = network.blocks(x.movedim(1, -1) * 1 if last else x * 1)
    expected = x.movedim(-1, 1) if last else x
    torch.testing.assert_close(read(network, batch, channels_last=last)[1], expected)
    network.channels_last = last  # as analysis and training find it
    torch.testing.assert_close(read(network, batch)[1], expected)


def test_plans_of_earlier_versions_are_read(tmp_path):
    for last in (False, True):
        points = find_hint_points(convnext(last=last), images(1, 3, 64, 64))
        plan = HintPlan.explicit(points, [1, 3])
        plan.save(tmp_path / "hints.json")
        stored = json.loads((tmp_path / "hints.json").read_text())
        for pair in stored["pairs"]:
            del pair["teacher"]["grid"], pair["teacher"]["tap"]["grid"], pair["teacher"]["tap"]["axes"]
            pair["teacher"]["tap"]["channels_last"] = last
        (tmp_path / "hints.json").write_text(json.dumps(stored))
        assert HintPlan.load(tmp_path / "hints.json").pairs == plan.pairs
    point = points[0]
    assert point.tap.axes == "NHWC"
    values = point.to_dict()
    del values["tap"]["axes"]
    values["tap"]["channels_last"] = True
    assert HintPoint.from_dict(values) == point


# ---------------------------------------------------------------------------------------------------------
# Signals and videos


def test_signals_are_averaged_over_their_length():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv1d(2, 5, 3), nn.BatchNorm1d(5), nn.ReLU(), nn.Conv1d(5, 7, 3, stride=2), nn.ReLU(),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(7, 3),
    ).eval()  # fmt: skip
    batch = images(4, 2, 20)
    found = read(network, batch)
    with torch.no_grad():
        expected = network[:3](batch), network[:5](batch)
    assert [tuple(values.shape) for values in found] == [(4, 5, 1, 18), (4, 7, 1, 8)]
    for seen, wanted in zip(found, expected):
        torch.testing.assert_close(seen[:, :, 0], wanted)


def test_frames_of_videos_stand_below_each_other():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv3d(1, 4, 3), nn.ReLU(), nn.Conv3d(4, 6, 3), nn.ReLU(),
        nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(6, 2),
    ).eval()  # fmt: skip
    batch = images(2, 1, 8, 9, 10)
    found = read(network, batch)
    with torch.no_grad():
        expected = network[:2](batch), network[:4](batch)
    assert [tuple(values.shape) for values in found] == [(2, 4, 6 * 7, 8), (2, 6, 4 * 5, 6)]
    for seen, wanted in zip(found, expected):
        torch.testing.assert_close(seen, wanted.flatten(2, 3))


def test_the_embedding_of_a_signal_network_that_ends_in_a_convolution_is_averaged_over_length():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv1d(2, 5, 3), nn.ReLU(), nn.Conv1d(5, 3, 1)).eval()
    batch = images(4, 2, 5)
    embedding = FeatureExtractor(network, embedding=True, logits=False)(batch).embedding
    assert embedding is not None
    torch.testing.assert_close(embedding, network[:2](batch).mean(2))


# ---------------------------------------------------------------------------------------------------------
# Samples


class Transformer(nn.Module):
    """Two encoder layers over 16 patches (or fewer), with samples or tokens in the first axis inside."""

    def __init__(self, batch_first: bool, patch: int = 4) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.patches = nn.Conv2d(3, 8, patch, patch)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(8, 2, 16, dropout=0, batch_first=batch_first) for _ in range(2)
        )
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2)
        x = x.permute(0, 2, 1) if self.batch_first else x.permute(2, 0, 1)
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(1 if self.batch_first else 0))


@pytest.mark.parametrize("samples", [1, 2, 5, 16])
@pytest.mark.parametrize("size", [16, (8, 4)])  # 16 tokens, 2 tokens
def test_tokens_in_the_first_axis_give_the_features_of_tokens_in_the_second(samples, size):
    first, second = Transformer(False), Transformer(True)
    second.load_state_dict(first.state_dict())
    height, width = (size, size) if isinstance(size, int) else size
    batch = images(samples, 3, height, width)
    seen, expected = read(first, batch), read(second, batch)
    assert len(seen) == len(expected) == 2
    for values, wanted in zip(seen, expected):
        assert values.shape == (samples, height * width // 16, 8)
        torch.testing.assert_close(values, wanted)


def test_windows_in_the_first_axis_are_no_samples():
    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.two(self.one(x).relu())

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
            self.windows = nn.Sequential(Windows(), Windows())
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(self.stem(x))
            windows = x.flatten(2).transpose(1, 2).reshape(-1, 2, 4)  # two tokens a window
            return self.head(self.windows(windows).reshape(len(x), -1, 4).mean(1))

    network = Network().eval()
    names = [point.module for point in find_hint_points(network, images(2, 3, 4, 4))]
    assert not any(name.startswith("windows") for name in names)
    with pytest.raises(PursuhintError, match=r"module 'windows\.1' returns .* for 2 images.*choose another"):
        find_hint_points(network, images(2, 3, 4, 4), include=["windows.1"])


def test_a_network_that_squeezes_is_looked_at_with_two_images():
    class Squeezing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(
                nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
            )
            self.norm, self.head = nn.BatchNorm1d(5), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.norm(self.features(x).squeeze()))

    network = Squeezing().eval()
    points = find_hint_points(network, images(1, 3, 8, 8))
    assert [point.module for point in points] == ["features.1", "features.3"]
    extractor = FeatureExtractor(network, points, embedding=True)
    assert extractor(images(4, 3, 8, 8)).embedding.shape == (4, 5)
