"""Tokens are the patches of the image that a convolution cuts, behind class and register tokens."""

from __future__ import annotations

import json

import pytest
import timm
import torch
from torch import Tensor, nn

from pursuhint.data.batch import Batch
from pursuhint.distillation import Distiller
from pursuhint.errors import PursuhintError
from pursuhint.features.extractor import FeatureExtractor
from pursuhint.features.hint_points import HintPoint, find_hint_points
from pursuhint.features.pooling import ClassToken
from pursuhint.hints import HintPlan


def images(height: int, width: int, samples: int = 3) -> Tensor:
    return torch.randn(samples, 3, height, width, generator=torch.Generator().manual_seed(0))


class Mixer(nn.Module):
    """A residual block of two layers that takes each place by itself."""

    def __init__(self, width: int, maps: bool) -> None:
        super().__init__()
        make = (lambda: nn.Conv2d(width, width, 1)) if maps else (lambda: nn.Linear(width, width))
        self.one, self.two = make(), make()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.two(self.one(x).relu())


class Patches(nn.Module):
    """Patches of 4 x 4 pixels through two blocks, as a map, or as tokens behind some that are learned."""

    def __init__(self, maps: bool, prefix: int = 0, unfold: bool = False) -> None:
        super().__init__()
        self.maps, self.prefix = maps, prefix
        self.cut = nn.Linear(48, 6) if unfold else nn.Conv2d(3, 6, 4, 4)
        self.extra = nn.Parameter(torch.randn(1, prefix, 6))
        self.blocks = nn.Sequential(Mixer(6, maps), Mixer(6, maps))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.cut, nn.Linear):
            x = self.cut(nn.functional.unfold(x, 4, stride=4).transpose(1, 2))
        elif self.maps:
            x = self.cut(x)
        else:
            x = self.cut(x).flatten(2).transpose(1, 2)
        if not self.maps:
            x = torch.cat([self.extra.expand(len(x), -1, -1), x], 1)
        x = self.blocks(x)
        return self.head(x.mean((2, 3)) if self.maps else x.mean(1))


def with_weights_of(tokens: nn.Module) -> nn.Module:
    network = Patches(maps=True)
    weights = {name: value for name, value in tokens.state_dict().items() if name != "extra"}
    shapes = network.state_dict()
    network.load_state_dict(
        {name: value.reshape(shapes[name].shape) for name, value in weights.items()}, strict=False
    )
    return network


def distiller(student: nn.Module, teacher: nn.Module, batch: Tensor, loss: str = "at") -> Distiller:
    plan = HintPlan.explicit(find_hint_points(teacher, batch), [1, 2])
    plan = plan.with_student(find_hint_points(student, batch))
    return Distiller.build(
        student,
        teacher,
        losses={loss: 1.0, "ce": 0.0},
        plan=plan,
        num_classes=3,
        num_samples=9,
        example=batch,
    )


@pytest.mark.parametrize("prefix", [0, 1, 2, 5])
@pytest.mark.parametrize("size", [(8, 32), (16, 16), (12, 20)])  # 16 patches of 2 x 8; 16; 15 of 3 x 5
def test_tokens_and_a_map_with_the_same_weights_have_the_same_attention(prefix, size):
    torch.manual_seed(0)
    teacher = Patches(maps=False, prefix=prefix)
    batch = images(*size)
    rows, columns = size[0] // 4, size[1] // 4
    points = find_hint_points(teacher, batch)
    assert [point.grid for point in points] == [(rows, columns)] * 2
    assert [point.spatial for point in points] == [(prefix + rows * columns,)] * 2
    built = distiller(with_weights_of(teacher), teacher, batch).train()
    losses = built(Batch(batch, torch.zeros(3, dtype=torch.long), torch.arange(3)))
    assert float(losses.parts["at"]) == pytest.approx(0, abs=1e-10)
    other = distiller(Patches(maps=True), teacher, batch).train()
    assert float(other(Batch(batch, torch.zeros(3, dtype=torch.long), torch.arange(3))).parts["at"]) > 1e-4


def test_tokens_beside_as_many_tokens_stay_tokens():
    torch.manual_seed(0)
    batch = images(8, 32)
    built = distiller(Patches(False, 1), Patches(False, 1), batch)
    losses = built(Batch(batch, torch.zeros(3, dtype=torch.long), torch.arange(3)))
    assert float(losses.parts["at"]) > 0


def test_unknown_patches_of_an_image_that_is_no_square_are_refused():
    torch.manual_seed(0)
    teacher = Patches(maps=False, unfold=True)
    for size, known in (((16, 16), True), ((8, 32), False)):  # 16 tokens each
        batch = images(*size)
        assert [point.grid for point in find_hint_points(teacher, batch)] == [None, None]
        if known:
            distiller(Patches(maps=True), teacher, batch)
        else:
            with pytest.raises(PursuhintError, match="16 tokens of an image that is no square"):
                distiller(Patches(maps=True), teacher, batch)


def test_a_point_as_a_map_reads_the_patches():
    torch.manual_seed(0)
    network = Patches(maps=False, prefix=2).eval()
    batch = images(8, 12)
    point = find_hint_points(network, batch)[1]
    (tokens,), (found,) = (
        FeatureExtractor(network, [chosen])(batch).maps for chosen in (point, point.as_map())
    )
    assert (point.as_map().spatial, found.shape) == ((2, 3), (3, 6, 2, 3))
    for row in range(2):
        for column in range(3):
            torch.testing.assert_close(found[:, :, row, column], tokens[:, 2 + 3 * row + column])
    assert HintPoint.from_dict(json.loads(json.dumps(point.as_map().to_dict()))) == point.as_map()


def test_a_class_token_is_known_by_the_patches_behind_it():
    network = Patches(maps=False, prefix=1)
    points = find_hint_points(network, images(12, 20))  # 3 x 5 patches and a class token: 16 is a square
    ClassToken().check(points)
    with pytest.raises(PursuhintError, match="has 15 tokens, 3 x 5 patches and no class token"):
        ClassToken().check(find_hint_points(Patches(maps=False), images(12, 20)))


@pytest.mark.parametrize(
    ("name", "prefix", "options"),
    [
        ("vit_tiny_patch16_224", 1, {}),
        ("deit_tiny_distilled_patch16_224", 2, {}),
        ("vit_small_patch14_reg4_dinov2", 5, {"patch_size": 16, "embed_dim": 48, "num_heads": 2}),
        ("vit_tiny_patch16_224", 0, {"class_token": False, "global_pool": "avg"}),
    ],
)
def test_patches_of_the_transformers_of_timm(name, prefix, options):
    network = timm.create_model(name, num_classes=3, img_size=(32, 64), depth=2, **options)
    points = find_hint_points(network, images(32, 64))
    assert [(point.spatial, point.grid) for point in points] == [((prefix + 8,), (2, 4))] * 2


def test_patches_that_are_merged_from_stage_to_stage():
    transformers = pytest.importorskip("transformers")
    config = transformers.SwinConfig(
        image_size=(32, 64), patch_size=4, embed_dim=12, depths=[2, 2], num_heads=[2, 2], window_size=4
    )
    points = find_hint_points(transformers.SwinModel(config), images(32, 64))
    assert [point.grid for point in points] == [(8, 16), (8, 16), (4, 8), (4, 8)]


def test_patches_of_the_transformers_of_transformers():
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    for kind, prefix in (("ViT", 1), ("DeiT", 2), ("Dinov2WithRegisters", 5)):
        options = {"num_register_tokens": 4} if prefix == 5 else {}
        config = getattr(transformers, f"{kind}Config")(image_size=64, patch_size=16, **sizes, **options)
        points = find_hint_points(getattr(transformers, f"{kind}Model")(config), images(64, 64))
        assert [(point.spatial, point.grid) for point in points] == [((prefix + 16,), (4, 4))] * 2, kind
