"""Which form of statistics is chosen, and what the user is told when none fits."""

from __future__ import annotations

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.similarity import LayerMoments, PooledFeatures, get_metric
from pursuhint.similarity.accumulators import choose as forms_module
from pursuhint.similarity.accumulators.choose import choose_layout, default_memory_limit
from pursuhint.similarity.accumulators.multi_pass import MultiPassMoments
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
        (RESNET110, CKA, 1000, GB, "rows"),  # fewer samples than features
        (RESNET110, RBF, 10_000, GB, "rows"),
        (RESNET50, CKA, 20_000, 8 * GB, "moments"),
        (RESNET50, CKA, 10_000, 8 * GB, "rows"),
        (RESNET50, CKA, 20_000, 2 * GB, "rows"),  # features fit, second moments do not
        (RESNET50, R2CCA, 1_000_000, 2 * GB, "blocks"),
        (RESNET50, CKA, None, 2 * GB, "blocks"),
    ],
)
def test_the_cheapest_that_fits(widths, metric, samples, limit, kind):
    form = choose_layout(widths, [metric], samples=samples, memory_limit=limit)
    assert form.kind == kind
    assert form.bytes <= limit
    assert (form.passes > 1) == (kind == "blocks")


@pytest.mark.parametrize(
    ("widths", "samples", "kind", "megabytes"),
    [
        (RESNET50, 50_000, "moments", 2320),
        (RESNET50, 10_000, "rows", 1110),
        (VIT_B_16, 50_000, "moments", 793),
        (VIT_B_16, 5_000, "rows", 302),
        (CONVNEXT_T, 50_000, "moments", 432),
        (CONVNEXT_T, 5_000, "rows", 221),
    ],
)
def test_large_networks_on_a_machine_of_24_gigabytes(widths, samples, kind, megabytes):
    form = choose_layout(widths, [CKA, R2CCA], samples=samples, memory_limit=12 * GB)
    assert form.kind == kind
    assert form.bytes / 1e6 == pytest.approx(megabytes, rel=0.01)


@pytest.mark.parametrize("passes", [1, 2])
def test_moments_take_the_memory_that_was_announced_whatever_the_number_of_samples(passes):
    widths = [8, 40, 24, 60]
    limit = 10**8 if passes == 1 else 260_000
    form = choose_layout(widths, [CKA, get_metric("debiased-cka"), R2CCA], memory_limit=limit)
    assert form.passes == passes
    generator = torch.Generator().manual_seed(0)
    held = []
    for count in (100, 3000):
        statistics = form.start(widths)
        for gathered in statistics.passes() if isinstance(statistics, MultiPassMoments) else [statistics]:
            for _ in range(count // 100):
                batch = torch.randn(100, sum(widths), generator=generator)
                gathered.update(batch.split(widths, dim=1))
            held.append(held_by(gathered))
    assert held[:passes] == held[passes:]
    assert max(held) <= form.bytes


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
    blocks = choose_layout(RESNET50, [CKA], memory_limit=2 * GB)
    assert str(blocks) == f"second moments in {blocks.passes} passes, 2.00 GB"


def test_too_little_memory_says_what_would_be_needed():
    with pytest.raises(
        PursuhintError,
        match=r"rbf-cka must keep the pooled features of all 1,000,000 samples .*: 12\.39 GB, and the memory "
        r"limit is 1\.00 GB; raise the limit, use about 80,000 samples, or choose other metrics",
    ):
        choose_layout(RESNET110, [CKA, RBF], samples=1_000_000, memory_limit=GB)
    assert choose_layout(RESNET110, [RBF], samples=80_000, memory_limit=GB).bytes <= GB
    with pytest.raises(
        PursuhintError,
        match=r"second moments of 15,104 features take 2\.32 GB, or (.*) MB in several passes .* limit is "
        r"500\.00 MB; raise the limit or look at fewer layers",
    ) as caught:
        choose_layout(RESNET50, [CKA], memory_limit=GB // 2)
    least = float(str(caught.value).split(", or ")[1].split(" MB")[0])
    assert choose_layout(RESNET50, [CKA], memory_limit=int((least + 0.01) * GB / 1000)).kind == "blocks"
    with pytest.raises(
        PursuhintError, match=r"of 112 features take 215\.04 KB and the memory limit is 20\.00 KB"
    ):
        choose_layout([16, 32, 64], [CKA], memory_limit=20_000)
    with pytest.raises(PursuhintError, match="rbf-cka needs the number of samples beforehand"):
        choose_layout(RESNET110, [RBF])
    with pytest.raises(PursuhintError, match="memory_limit must be a positive number of bytes, got 0"):
        choose_layout(RESNET110, [CKA], memory_limit=0)


def test_forms_start_their_statistics_and_agree():
    layers = hard_set("ordinary")
    widths = [layer.shape[1] for layer in layers]
    matrices = []
    for limit, samples, expected in (
        (10**8, None, LayerMoments),
        (80_000, None, MultiPassMoments),
        (10**8, 80, PooledFeatures),
    ):
        form = choose_layout(widths, [R2CCA], samples=samples, memory_limit=limit)
        statistics = form.start(widths, names=list("abcd"))
        assert type(statistics) is expected
        for gathered in statistics.passes() if isinstance(statistics, MultiPassMoments) else [statistics]:
            for batch in batches(layers, [100]):
                gathered.update(batch)
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
