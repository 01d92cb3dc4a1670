"""Try the analysis on many networks and write docs/networks.md, the table of the results.

For every network: find its sub-blocks, read them before and after their last activation, once with the whole
forward pass and once ending it at the deepest point, which must give the same; then analyse it on random
images.

    python benchmarks/networks.py                          # try all, print a line each
    python benchmarks/networks.py swin convnext            # those whose names contain a word
    python benchmarks/networks.py --write docs/networks.md
"""

from __future__ import annotations

import argparse
import itertools
import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from pursuhint.analysis.collection import collect
from pursuhint.data import Batch
from pursuhint.errors import PursuhintError
from pursuhint.features.call_trace import evaluating
from pursuhint.features.extractor import FeatureExtractor
from pursuhint.features.hint_points import Activation, HintPoint, find_hint_points, stage_ends
from pursuhint.models import create_model
from pursuhint.similarity import linear_cka_matrix

SIZES = {
    32: """
        resnet20 resnet110 resnet32x4 ResNet50 wrn_40_2 vgg13 MobileNetV1 MobileNetV2 ShuffleV1 ShuffleV2
    """,
    64: """
        torchvision:alexnet torchvision:vgg11 torchvision:vgg16_bn torchvision:squeezenet1_1
        torchvision:resnet18 torchvision:resnet50 torchvision:wide_resnet50_2 torchvision:resnext50_32x4d
        torchvision:densenet121 torchvision:googlenet torchvision:mobilenet_v2 torchvision:mobilenet_v3_small
        torchvision:mobilenet_v3_large torchvision:mnasnet0_5 torchvision:shufflenet_v2_x1_0
        torchvision:efficientnet_b0 torchvision:efficientnet_v2_s torchvision:regnet_x_400mf
        torchvision:regnet_y_400mf torchvision:convnext_tiny torchvision:swin_t torchvision:swin_v2_t
        timm:vgg11_bn timm:resnet18 timm:resnet50d timm:wide_resnet50_2 timm:resnext50_32x4d timm:seresnet18
        timm:legacy_seresnet18 timm:senet154 timm:skresnet18 timm:resnest14d timm:res2net50_14w_8s
        timm:tresnet_m timm:resnetv2_50 timm:nf_resnet26 timm:dm_nfnet_f0 timm:regnetx_002 timm:regnety_002
        timm:densenet121 timm:rdnet_tiny timm:dpn68 timm:dla34 timm:selecsls42 timm:hrnet_w18_small
        timm:cs3darknet_s timm:cspresnet50 timm:ese_vovnet19b_slim_dw timm:hgnet_tiny timm:hgnetv2_b0
        timm:repvgg_a0 timm:mobileone_s0 timm:gernet_s timm:mobilenetv2_050 timm:mobilenetv3_small_050
        timm:mobilenetv4_conv_small timm:mobilenetv4_hybrid_medium timm:mnasnet_small timm:mixnet_s
        timm:fbnetv3_b timm:hardcorenas_a timm:lcnet_035 timm:ghostnet_050 timm:repghostnet_050
        timm:rexnet_100 timm:efficientnet_b0 timm:tf_efficientnetv2_b0 timm:efficientnetv2_rw_t
        timm:starnet_s050 timm:fasternet_t0 timm:repvit_m0_9 timm:fastvit_t8 timm:convnext_atto
        timm:convnextv2_atto timm:inception_next_atto timm:convmixer_768_32 timm:mambaout_femto
        timm:poolformer_s12 timm:caformer_s18 timm:edgenext_xx_small timm:focalnet_tiny_srf timm:davit_tiny
        timm:efficientvit_b0 timm:mobilevit_xxs timm:mobilevitv2_050 timm:nextvit_small timm:pvt_v2_b0
        timm:shvit_s1 timm:swiftformer_xs
    """,
    96: """
        torchvision:inception_v3 timm:inception_v3 timm:inception_v4 timm:inception_resnet_v2
        timm:legacy_xception timm:xception41 timm:xception41p timm:pnasnet5large timm:nasnetalarge
    """,
    224: """
        torchvision:vit_b_32 torchvision:vit_b_16 torchvision:maxvit_t timm:vit_tiny_patch16_224
        timm:vit_relpos_small_patch16_224 timm:vit_tiny_r_s16_p8_224 timm:deit_tiny_distilled_patch16_224
        timm:beit_base_patch16_224 timm:eva02_tiny_patch14_224 timm:samvit_base_patch16_224
        timm:cait_xxs24_224 timm:convit_tiny timm:xcit_nano_12_p16_224 timm:tnt_s_patch16_224
        timm:volo_d1_224 timm:pit_ti_224 timm:coat_tiny timm:twins_svt_small timm:twins_pcpvt_small
        timm:nest_tiny timm:levit_128s timm:levit_conv_128s timm:hiera_tiny_224 timm:mvitv2_tiny
        timm:swin_tiny_patch4_window7_224 timm:swinv2_cr_tiny_224 timm:tiny_vit_5m_224 timm:gcvit_xxtiny
        timm:coatnet_pico_rw_224 timm:efficientformer_l1 timm:efficientformerv2_s0 timm:efficientvit_m0
        timm:visformer_tiny timm:vitamin_small_224 timm:gmlp_ti16_224 timm:mixer_s32_224 timm:resmlp_12_224
        timm:sequencer2d_s
    """,
    240: "timm:crossvit_tiny_240",
    256: """
        timm:swinv2_tiny_window8_256 timm:lambda_resnet26t timm:maxvit_rmlp_pico_rw_256 timm:hieradet_small
    """,
}

NOTES = {
    "densenet": "a dense layer returns its new channels alone",
    "rdnet": "a dense block returns its new channels alone",
    "hrnet": "a module of several resolutions is one sub-block, read at the finest; the head has four more",
    "crossvit": "a module of two token streams is one sub-block, read at the stream of small patches",
    "coat_tiny": "a parallel block is read at its finest resolution",
    "cait": "the last two see the class token alone",
    "tnt": "the tokens are read, not the pixels inside them",
    "timm:nest": "axes: blocks of the image, tokens in each",
    "mobilevitv2": "transformer blocks have the axes (pixel in patch, patch)",
    "convmixer": "plain: each depthwise and each pointwise convolution with its activation",
    "gcvit": "the blocks that make global queries count too; `--points 'stages.?.blocks.*'` leaves them out",
    "mobilenetv4_conv": "stages of single convolutions hold no sub-block",
    "tf_efficientnetv2_b0": "the first stage, one single convolution, holds no sub-block",
    "maxvit_t": "the three residual parts of a block count one by one",
    "efficientvit": "the residual parts of a block count one by one",
    "shvit": "the residual parts of a block count one by one",
    "davit": "spatial and channel attention blocks count one by one",
    "timm:vgg": "at images above 224 the two convolutions that lead to the classifier count too",
    "torchvision:shufflenet": "half of the channels pass by the activation, so before it equals after it",
    "pit_ti": "the pooling between stages counts",
    "xcit": "the last two attend from the class token",
    "volo": "the last two attend from the class token",
    "nf_resnet": "no norm follows, so before it equals after it",
    "dm_nfnet": "no norm follows, so before it equals after it",
}


@dataclass(frozen=True)
class Row:
    """The results for one network."""

    name: str
    size: int
    points: tuple[HintPoint, ...]
    before: str

    @property
    def ends(self) -> str:
        return " ".join(str(point.position) for point in stage_ends(self.points))

    @property
    def modules(self) -> str:
        first, last = self.points[0].module, self.points[-1].module
        return f"`{first}` … `{last}`"

    @property
    def layout(self) -> str:
        kinds = (
            "vectors"
            if not point.spatial
            else "tokens"
            if len(point.spatial) == 1
            else "maps, channels last"
            if point.tap.axes == "NHWC"
            else "maps"
            for point in self.points
        )
        return ", then ".join(kind for kind, _ in itertools.groupby(kinds))

    @property
    def note(self) -> str:
        notes = [text for key, text in NOTES.items() if key in self.name]
        return notes[0] if notes else ""

    def cells(self) -> list[str]:
        size = f"{self.size}"
        return [
            f"`{self.name}`",
            size,
            str(len(self.points)),
            self.ends,
            self.modules,
            self.layout,
            self.before,
            self.note,
        ]


HEADER = [
    "network",
    "image",
    "sub-blocks",
    "stage ends at",
    "from … to",
    "features",
    "before the activation",
    "note",
]

INTRODUCTION = """# Networks

What `pursuhint points` finds in networks that it does not know. There is no list of networks in the program:
sub-blocks are found by tracing the calls between modules in one forward pass of two images. This table is
written by `python benchmarks/networks.py --write docs/networks.md`, which for each network

- finds the sub-blocks, and reads all of them after and before their last activation;
- reads them once with the whole forward pass and once ending it after the deepest sub-block, and compares
  bit by bit;
- gathers the moments of 16 random images and computes linear CKA of all pairs of layers, which must be finite
  (random weights, so the values mean nothing).

The families of ResNet, Wide-ResNet, ResNeXt, VGG, DenseNet, MobileNet v2 and v3, ShuffleNet, EfficientNet,
ConvNeXt, RegNet, ViT and Swin are also compared, in torchvision's and timm's form, with features computed by
hand from their submodules (`tests/test_points_families.py`).

- **image**: side of the images, in pixels. Sub-blocks do not depend on it; where stages end does, when maps
  shrink to a single pixel.
- **stage ends at**: positions of the last sub-block of each resolution, the conventional hint points.
- **features**: `maps` are (N, C, H, W), `maps, channels last` (N, H, W, C), `tokens` (N, T, C). Pooling
  handles all of them.
- **before the activation**: `own` where an activation ends the sub-block; `next norm` where the output of the
  norm that follows is read; `same` where there is neither, so that before and after are the same features.
  Numbers say for how many sub-blocks each holds.

Where the choice does not suit you, name modules yourself: `--points 'stages.2.*'`.

## Large networks without a GPU

Whole analyses of torchvision's ViT-B/16 and ConvNeXt-T on 128 pictures of emoji, enlarged to 224 x 224, by
two metrics and with stability. The weights are random, so only time and memory are meaningful.

```
pursuhint analyze --teacher torchvision:vit_b_16 --random-weights --data folder:emoji --image-size 224 \\
    --samples 128 --batch-size 32 --metric cka --metric r2cca --device cpu --out vit
```

- ViT-B/16, 12 blocks of 9,216 features together: 69 s, at most 1.8 GB of memory.
- ConvNeXt-T, 18 blocks of 6,624 features together: 27 s, at most 1.4 GB of memory.

Times are for one thread on one core, from the start of Python to the report. Most of it is the forward pass,
which grows with the number of images; the rest estimates the stability of the choice, and `--no-stability`
leaves it out.

## What is found

"""


def networks(words: Sequence[str] = ()) -> Iterable[tuple[str, int]]:
    """Names and image sizes of the networks; only of those that contain one of the words, if given."""
    for size, names in SIZES.items():
        for name in names.split():
            if not words or any(word in name for word in words):
                yield name, size


def attempt(name: str, size: int) -> Row:
    """Run all tests of docs/networks.md on a network.

    Raises:
        PursuhintError: one of them failed.
    """
    torch.manual_seed(0)
    network = create_model(name, num_classes=10).train()
    images = torch.randn(16, 3, size, size, generator=torch.Generator().manual_seed(1))
    give_statistics(network, images)
    found: dict[Activation, tuple[HintPoint, ...]] = {}
    for activation in ("post", "pre"):
        points = found[activation] = find_hint_points(network, images, activation=activation)
        with evaluating(network), torch.no_grad():
            whole = FeatureExtractor(network, points)(images[:2]).maps
            ended = FeatureExtractor(network, points, logits=False)(images[:2]).maps
        check(name, points, whole, ended)
    batches = [
        Batch(some, torch.zeros(len(some), dtype=torch.int64), torch.arange(len(some)))
        for some in images.split(4)
    ]
    matrix = linear_cka_matrix(collect([(network, found["post"])], batches))
    if not torch.isfinite(matrix).all():
        raise PursuhintError(f"{name}: the similarity of some layers is not finite")
    return Row(name, size, found["post"], before_the_activation(found["pre"], found["post"]))


def give_statistics(network: nn.Module, images: Tensor) -> None:
    """Set the batch-norm statistics of a network with random weights to those of these images.

    Otherwise features can grow or vanish with depth until those of all images are equal.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
    if norms:
        with torch.no_grad():
            network(images)


def check(name: str, points: Sequence[HintPoint], whole: Sequence[Tensor], ended: Sequence[Tensor]) -> None:
    for point, features, again in zip(points, whole, ended):
        shape = (2, *point.spatial, point.channels) if len(point.spatial) == 1 else None
        shape = shape or (2, point.channels, *point.spatial)
        if features.shape != shape:
            raise PursuhintError(f"{name}: {point} has shape {tuple(features.shape)}, expected {shape}")
        if not torch.equal(features, again):
            raise PursuhintError(f"{name}: {point} changes when the forward pass ends early")


def before_the_activation(before: Sequence[HintPoint], after: Sequence[HintPoint]) -> str:
    """Count the sub-blocks that end in an activation, and what is read of the others."""
    kinds = []
    for pre, post in zip(before, after):
        inside = pre.tap.module == post.module or pre.tap.module.startswith(f"{post.module}.")
        plain = pre.tap.module.rpartition(".")[0] == post.module.rpartition(".")[0]
        kinds.append("same" if pre.tap == post.tap else "own" if inside or plain else "next norm")
    counts = {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}
    if len(counts) == 1:
        return kinds[0]
    return ", ".join(f"{kind} {count}" for kind, count in counts.items())


def table(rows: Iterable[Row]) -> str:
    lines = [HEADER, ["---", "--:", "--:", *["---"] * 5], *(row.cells() for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="only networks whose names contain one of these")
    parser.add_argument("--write", type=Path, help="file for the table")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    rows, failures = [], 0
    for name, size in networks(arguments.words):
        try:
            row = attempt(name, size)
        except Exception as error:
            failures += 1
            print(f"{name}: FAILED: {error}", flush=True)
            continue
        rows.append(row)
        print(
            f"{name}: {len(row.points)} sub-blocks, stage ends at {row.ends}, {row.layout}, "
            f"before the activation: {row.before}",
            flush=True,
        )
    if arguments.write and not failures:
        arguments.write.write_text(f"{INTRODUCTION}{len(rows)} networks:\n\n{table(rows)}")
        print(f"{len(rows)} networks -> {arguments.write}", file=sys.stderr)
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
