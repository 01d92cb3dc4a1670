"""Which layout of statistics is chosen, and what the user is told when none fits."""

from __future__ import annotations

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.similarity import LayerMoments, PooledFeatures, get_metric
from pursuhint.similarity.accumulators import choose as forms_module
from pursuhint.similarity.accumulators.choose import choose_layout, default_memory_limit
from tests.helpers.hard_features import hard_set
from tests.helpers.statistics_layouts import batches

RESNET110 = [16] * 18 + [32] * 18 + [64] * 18
RESNET50 = [256] * 3 + [512] * 4 + [1024] * 6 + [2048] * 3
VIT_B_16 = [768] * 12
CONVNEXT_T = [96] * 3 + [192] * 3 + [384] * 9 + [768] * 3
CKA, R2CCA, RBF = get_metric("cka"), get_metric("r2cca"), get_metric("rbf-cka")
GB = 10**9


@pytest.mark.parametrize(
    ("widths", "metric", "samples", "limit", "kind"),
    [
        (RESNET110, CKA, 10_000, GB, "moments"),
        (RESNET110, CKA, 1_000_000, GB, "moments"),
        (RESNET110, CKA, None, GB, "moments"),
        (RESNET110, CKA, 1000, GB, "rows"),  # fewer samples than half of the features
        (RESNET110, CKA, 1008, GB, "moments"),
        (RESNET110, RBF, 10_000, GB, "rows"),
        (RESNET50, CKA, 20_000, 8 * GB, "moments"),
        (RESNET50, CKA, 7000, 8 * GB, "rows"),
        (RESNET50, CKA, 10_000, 8 * GB, "moments"),
        (RESNET50, CKA, 10_000, 2 * GB, "rows"),
        (RESNET50, CKA, 20_000, 2 * GB, "rows"),  # features fit, second moments do not
    ],
)
def test_the_cheapest_that_fits(widths, metric, samples, limit, kind):
    layout = choose_layout(widths, [metric], samples=samples, memory_limit=limit)
    assert layout.kind == kind
    assert layout.bytes <= limit


@pytest.mark.parametrize(
    ("widths", "samples", "kind", "megabytes"),
    [
        (RESNET50, 50_000, "moments", 2320),
        (RESNET50, 5_000, "rows", 806),
        (VIT_B_16, 50_000, "moments", 793),
        (VIT_B_16, 4_000, "rows", 265),
        (CONVNEXT_T, 50_000, "moments", 432),
        (CONVNEXT_T, 3_000, "rows", 165),
    ],
)
def test_large_networks_on_a_machine_of_24_gigabytes(widths, samples, kind, megabytes):
    layout = choose_layout(widths, [CKA, R2CCA], samples=samples, memory_limit=12 * GB)
    assert layout.kind == kind
    assert layout.bytes / 1e6 == pytest.approx(megabytes, rel=0.01)


def test_moments_take_the_memory_that_was_announced_whatever_the_number_of_samples():
    widths = [8, 40, 24, 60]
    layout = choose_layout(widths, [CKA, get_metric("debiased-cka"), R2CCA], memory_limit=10**8)
    generator = torch.Generator().manual_seed(0)
    held = []
    for count in (100, 3000):
        statistics = layout.start(widths)
        for _ in range(count // 100):
            statistics.update(torch.randn(100, sum(widths), generator=generator).split(widths, dim=1))
        held.append(held_by(statistics))
    assert held[0] == held[1]
    assert held[0] <= layout.bytes


def held_by(statistics: LayerMoments) -> int:
    """Bytes of all tensors that statistics have as attributes, or in lists."""
    values = [
        item
        for value in vars(statistics).values()
        for item in (value if isinstance(value, list) else [value])
    ]
    return sum(value.nbytes for value in values if isinstance(value, torch.Tensor))


def test_a_million_samples():
    widths = [4, 12, 8]
    batch = [layer.float() for layer in hard_set("ordinary")][:3]
    batch = [layer[:, :width].repeat(40, 1)[:10_000] for layer, width in zip(batch, widths)]
    few, many = LayerMoments(widths), LayerMoments(widths)
    few.update(batch)
    for _ in range(100):
        many.update(batch)
    assert many.count == 1_000_000
    assert held_by(many) == held_by(few)
    for name in ("cka", "r2cca", "gcd", "svcca", "pwcca", "procrustes"):
        matrix = get_metric(name).matrix
        torch.testing.assert_close(matrix(many), matrix(few), rtol=0, atol=1e-10)


def test_one_metric_that_compares_samples_decides_for_all():
    assert choose_layout(RESNET110, [CKA, RBF], samples=10_000, memory_limit=GB).kind == "rows"


def test_says_what_it_does():
    rows = choose_layout(RESNET110, [RBF], samples=10_000, memory_limit=GB)
    assert str(rows) == "the pooled features of 10,000 samples, 125.90 MB"
    assert str(choose_layout(RESNET110, [CKA], memory_limit=GB)) == "second moments, 34.58 MB"
    assert str(choose_layout([4, 6], [CKA], memory_limit=GB)) == "second moments, 1.76 KB"


def test_too_little_memory_says_what_would_be_needed():
    with pytest.raises(
        PursuhintError,
        match=r"rbf-cka must keep the pooled features of all 1,000,000 samples .*: 12\.39 GB, and the memory "
        r"limit is 1\.00 GB; raise the limit, use about 80,000 samples, or choose other metrics",
    ):
        choose_layout(RESNET110, [CKA, RBF], samples=1_000_000, memory_limit=GB)
    assert choose_layout(RESNET110, [RBF], samples=80_000, memory_limit=GB).bytes <= GB
    for samples, needed in ((None, r"2\.32 GB"), (10_000, r"1\.11 GB")):
        with pytest.raises(
            PursuhintError,
            match=rf"similarities of 16 layers with 15,104 features in all need {needed}, and the memory "
            r"limit is 500\.00 MB; use fewer layers \(--include\), pooled narrower, or more memory "
            r"\(--memory-limit\)",
        ):
            choose_layout(RESNET50, [CKA], samples=samples, memory_limit=GB // 2)
    least = choose_layout(RESNET50, [CKA], memory_limit=3 * GB).bytes
    assert choose_layout(RESNET50, [CKA], memory_limit=least).kind == "moments"
    with pytest.raises(PursuhintError, match="similarities of 16 layers"):
        choose_layout(RESNET50, [CKA], memory_limit=least - 1)
    with pytest.raises(PursuhintError, match="rbf-cka needs the number of samples beforehand"):
        choose_layout(RESNET110, [RBF])
    with pytest.raises(PursuhintError, match="memory_limit must be a positive number of bytes, got 0"):
        choose_layout(RESNET110, [CKA], memory_limit=0)


def test_layouts_start_their_statistics_and_agree():
    layers = hard_set("ordinary")
    widths = [layer.shape[1] for layer in layers]
    matrices = []
    for limit, samples, expected in (
        (10**8, None, LayerMoments),
        (10**8, sum(widths) // 2 - 1, PooledFeatures),
    ):
        layout = choose_layout(widths, [R2CCA], samples=samples, memory_limit=limit)
        statistics = layout.start(widths, names=list("abcd"))
        assert type(statistics) is expected
        for batch in batches(layers, [100]):
            statistics.update(batch)
        matrices.append(R2CCA.matrix(statistics))
        assert statistics.names == tuple("abcd")
    for matrix in matrices:
        torch.testing.assert_close(matrix, matrices[0], rtol=0, atol=1e-9)


def test_default_limit_is_a_part_of_the_memory():
    assert 1 << 28 < default_memory_limit() < 1 << 45


def test_default_limit_where_the_system_does_not_say(monkeypatch):
    def unknown(name):
        raise ValueError(name)

    monkeypatch.setattr(forms_module.os, "sysconf", unknown)
    assert default_memory_limit() == 4 << 30


def test_single_precision_products_only_where_double_is_slow_and_metrics_allow_it(monkeypatch):
    capability = [(8, 9)]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability[0])

    def products(*metrics):
        return choose_layout(RESNET110, metrics, memory_limit=GB, device="cuda").products

    assert products(CKA) == torch.float32
    assert products(CKA, R2CCA) == torch.float64
    capability[0] = (9, 0)
    assert products(CKA) == torch.float64
    assert choose_layout(RESNET110, [CKA], memory_limit=GB).products == torch.float64
