"""How losses are built, and how they get their tensors."""

from __future__ import annotations

import subprocess
import sys
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from pursuhint.data.batch import Batch
from pursuhint.errors import PursuhintError
from pursuhint.features.extractor import Features
from pursuhint.losses import LOSSES, get_loss
from pursuhint.losses.at import AttentionTransferLoss
from pursuhint.losses.base import EmbeddingLoss, HintLoss, HintsLoss, HintSum, LogitLoss, Loss, WarmUp
from pursuhint.losses.context import FeatureShape, LossContext
from pursuhint.losses.kd import SoftTargetLoss


def context(pairs=1, **changes) -> LossContext:
    shape = FeatureShape(3, (4, 4), "post", "block")
    values = {"num_classes": 10, "num_samples": 50, "student_embedding": 6, "teacher_embedding": 7} | changes
    return LossContext(((shape, shape),) * pairs, **values)


BATCH = Batch(torch.zeros(2, 3, 8, 8), labels=torch.tensor([1, 4]), indices=torch.tensor([30, 31]))
FEATURES = tuple(torch.randn(2, 3, 4, 4) for _ in range(3))


def test_listing_names_imports_no_torch():
    code = "import sys, pursuhint.losses as l; assert len(l.LOSSES) and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_table_cannot_be_changed():
    with pytest.raises(TypeError):
        LOSSES["mine"] = "module:Mine"


def test_unknown_name_gets_a_suggestion():
    with pytest.raises(PursuhintError, match="no loss named 'fitnets'; did you mean 'fitnet'"):
        get_loss("fitnets")


# -- building ---------------------------------------------------------------------------------------------


def test_unknown_hyperparameter_gets_a_suggestion():
    with pytest.raises(
        PursuhintError, match="KD has no hyperparameter 'temprature'; did you mean 'temperature'"
    ):
        SoftTargetLoss.build(context(), temprature=3.0)


def test_sizes_are_no_hyperparameters():
    with pytest.raises(PursuhintError, match="FitNet has no hyperparameter 'student_channels'"):
        get_loss("fitnet").build(context(), student_channels=3)


@pytest.mark.parametrize("value", ["4", True, None, float("inf"), float("nan")])
def test_a_number_must_be_a_number(value):
    with pytest.raises(PursuhintError, match=r"KD: temperature must be a .*number.*got"):
        SoftTargetLoss.build(context(), temperature=value)


def test_a_whole_number_will_do_for_a_real_one_but_not_the_reverse():
    assert SoftTargetLoss.build(context(), temperature=4).temperature == 4
    with pytest.raises(PursuhintError, match=r"AT: p must be a valid integer, got 1\.5"):
        AttentionTransferLoss.build(context(), p=1.5)


def test_a_temperature_below_zero_is_refused():
    with pytest.raises(PursuhintError, match="temperature must be positive, got -1"):
        SoftTargetLoss.build(context(), temperature=-1.0)


def test_a_temperature_whose_square_is_infinite_is_refused():
    assert SoftTargetLoss.build(context(), temperature=1e18).temperature == 1e18
    with pytest.raises(PursuhintError, match=r"temperature must be at most 1e\+18, got 1e\+300"):
        SoftTargetLoss.build(context(), temperature=1e300)


class Chosen(EmbeddingLoss):
    """With hyperparameters of other kinds."""

    info = EmbeddingLoss.info.replace(title="Chosen")

    def __init__(
        self, width: int = 1, *, levels: tuple[int, ...] = (4, 2), mode: Literal["a", "b"] = "a"
    ) -> None:
        super().__init__()
        self.width, self.levels, self.mode = width, levels, mode

    @classmethod
    def arguments(cls, context):
        return {"width": context.student_embedding}


def test_arguments_come_from_the_context_and_from_the_user():
    loss = Chosen.build(context(), levels=[8, 4], mode="b")
    assert (loss.width, loss.levels, loss.mode) == (6, (8, 4), "b")


def test_choices_and_lists_are_checked():
    with pytest.raises(PursuhintError, match="Chosen: mode must be 'a' or 'b', got 'c'"):
        Chosen.build(context(), mode="c")
    with pytest.raises(PursuhintError, match="Chosen: levels must be a valid integer"):
        Chosen.build(context(), levels=[8, "4"])


def test_hint_losses_need_hints():
    with pytest.raises(PursuhintError, match="AT compares hint points, but there are none; give a hint plan"):
        AttentionTransferLoss.build(context(pairs=0))


def test_logit_losses_need_the_same_classes():
    with pytest.raises(PursuhintError, match="teacher has 100 classes, student 10; KD compares logits"):
        SoftTargetLoss.build(context(teacher_classes=100))
    SoftTargetLoss.build(context(teacher_classes=10))


def test_losses_that_use_the_teachers_classifier_need_one():
    class UsesClassifier(EmbeddingLoss):
        info = EmbeddingLoss.info.replace(
            title="UsesClassifier",
            needs_teacher_classifier=True,
        )

    with pytest.raises(PursuhintError, match="UsesClassifier uses the teacher's classifier"):
        UsesClassifier.build(context())
    UsesClassifier.build(context(teacher_classifier=nn.Linear(2, 2)))


# -- computing --------------------------------------------------------------------------------------------


class Everything(Loss):
    """Takes all there is."""

    info = Loss.info.replace(
        inputs=(
            "student_embedding",
            "teacher_embedding",
            "labels",
            "indices",
            "teacher_logits",
            "student_maps",
            "images",
        ),
    )

    def forward(self, *inputs):
        self.seen = inputs
        return torch.zeros(())


def test_a_loss_gets_what_it_takes_in_order():
    student = Features(torch.ones(2, 10), torch.ones(2, 6), FEATURES)
    teacher = Features(torch.ones(2, 10).half(), torch.ones(2, 7), ())
    loss = Everything()
    loss.compute(student, teacher, BATCH)
    assert loss.seen[0] is student.embedding
    assert loss.seen[1] is teacher.embedding
    assert loss.seen[2] is BATCH.labels
    assert loss.seen[3] is BATCH.indices
    assert loss.seen[4].dtype == torch.float32
    assert isinstance(loss.seen[5], list)
    assert all(a is b for a, b in zip(loss.seen[5], FEATURES))
    assert loss.seen[6] is BATCH.images


def test_inputs_of_different_precision_meet_in_the_higher():
    loss = Everything()
    loss.compute(
        Features(embedding=torch.ones(2, 6).half()),
        Features(torch.ones(2, 10), torch.ones(2, 7).double()),
        BATCH,
    )
    assert {tensor.dtype for tensor in loss.seen[:2]} == {torch.float64}
    assert loss.seen[2].dtype == torch.int64


def test_a_missing_record_is_named():
    with pytest.raises(PursuhintError, match="KD compares the teacher's logits, but there is no teacher"):
        SoftTargetLoss().compute(Features(torch.zeros(2, 10)), None, BATCH)
    with pytest.raises(
        PursuhintError, match="KD compares the teacher's logits, but the teacher's record lacks it"
    ):
        SoftTargetLoss().compute(Features(torch.zeros(2, 10)), Features(), BATCH)


class Counting(HintLoss):
    """One weight a pair; has an opinion on every hook."""

    info = HintLoss.info.replace(
        title="Counting",
        paper="Nobody, 2000",
        default_weight=7.0,
        warm_up_only=True,
        no_grad_parameters=("unused",),
    )

    def __init__(self, channels: int, *, factor: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), factor))
        self.unused = nn.Parameter(torch.zeros(1))
        self.stage: str | None = "?"

    @classmethod
    def pair_arguments(cls, student, teacher):
        return {"channels": teacher.channels}

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return (self.weight[:, None, None] * (student - teacher)).sum()

    def prepare(self, student):
        return nn.Sequential(student, nn.Identity())

    def export(self, student):
        return student[0]

    def transform_logits(self, logits):
        return 2 * logits

    def stages(self):
        return [WarmUp("first", 3, trains_student=True)]

    def begin_stage(self, stage):
        self.stage = stage


def test_one_hint_loss_a_pair_and_their_sum():
    loss = Counting.build(context(pairs=3), factor=2.0)
    assert isinstance(loss, HintSum)
    students = [torch.full((1, 3, 4, 4), float(i)) for i in range(3)]
    teachers = [torch.zeros(1, 3, 4, 4)] * 3
    assert loss(students, teachers).item() == 2 * 48 * (0 + 1 + 2)
    assert [term.item() for term in loss.terms(students, teachers).values()] == [0, 96, 192]
    assert list(loss.terms(students, teachers)) == ["hint_0", "hint_1", "hint_2"]


def test_a_sum_of_hints_describes_itself_as_its_hints_do():
    loss = Counting.build(context(pairs=2))
    assert (loss.info.title, loss.info.paper, loss.info.default_weight) == ("Counting", "Nobody, 2000", 7.0)
    assert loss.info.warm_up_only
    assert loss.info.no_grad_parameters == ("hints.0.unused", "hints.1.unused")
    assert set(loss.info.no_grad_parameters) < {name for name, _ in loss.named_parameters()}


def test_a_sum_of_hints_passes_hooks_on():
    loss = Counting.build(context(pairs=2))
    student = nn.Identity()
    prepared = loss.prepare(student)
    assert prepared[0][0] is student
    assert loss.export(prepared) is student
    assert loss.transform_logits(torch.ones(1)).item() == 4
    assert [stage.name for stage in loss.stages()] == ["first"]
    loss.begin_stage("first")
    assert [hint.stage for hint in loss.hints] == ["first", "first"]


def test_number_of_features_must_fit():
    loss = Counting.build(context(pairs=2))
    with pytest.raises(
        PursuhintError, match="built for 2 pairs of hint points, but got features of 3 student and 3"
    ):
        loss.compute(Features(maps=FEATURES), Features(maps=FEATURES), BATCH)


def test_a_single_hint_loss_computes_as_well():
    student, teacher = (Features(maps=(features,)) for features in FEATURES[:2])
    loss = AttentionTransferLoss()
    torch.testing.assert_close(loss.compute(student, teacher, BATCH), loss(*FEATURES[:2]))


class Measuring(HintLoss):
    """Records the largest difference of its pair."""

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        difference = (student - teacher).abs()
        self.extra_metrics = {"largest": difference.max().detach()}
        return difference.mean()


def test_metrics_of_the_pairs_are_averaged():
    loss = Measuring.build(context(2))
    assert loss.extra_metrics == {}
    zeros = [torch.zeros(2, 3), torch.zeros(2, 3)]
    loss(zeros, [torch.ones(2, 3), 4 * torch.ones(2, 3)])
    assert {name: value.item() for name, value in loss.extra_metrics.items()} == {"largest": 2.5}


def test_all_traits_of_the_pairs_are_those_of_the_sum():
    changed = {"needs_teacher": False, "at_last_map": True, "extra_taps": ("x",), "minimum": None}
    first = Measuring()
    first.info = first.info.replace(**changed, learns="nothing", batch_coupled=True)
    assert HintSum([first]).info == first.info


def test_a_trait_outside_of_the_record_is_refused():
    with pytest.raises(PursuhintError, match=r"Stray: learns is a trait .* info = LogitLoss\.info\.replace"):

        class Stray(LogitLoss):
            learns = "something"


def test_a_loss_of_terms_is_their_sum():
    class Two(EmbeddingLoss):
        def terms(self, student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
            return {"own": student.sum(), "other": teacher.sum()}

    assert Two()(torch.ones(2, 3), torch.ones(2, 4)).item() == 14


def test_a_loss_that_computes_nothing_says_so():
    class Nothing(EmbeddingLoss):
        pass

    with pytest.raises(PursuhintError, match="Nothing computes nothing: write forward or terms"):
        Nothing()(torch.ones(2, 3), torch.ones(2, 4))


def test_sizes_that_the_constructor_names_are_filled_in():
    class Embedding(EmbeddingLoss):
        def __init__(self, num_samples, teacher_width, student_width=0, *, labels=None) -> None:
            super().__init__()

    class Pair(HintLoss):
        def __init__(self, teacher_channels, student_size, *, student_channels=0) -> None:
            super().__init__()

    class Pairs(HintsLoss):
        def __init__(self, student_channels) -> None:
            super().__init__()

    assert Embedding.arguments(context()) == {"num_samples": 50, "teacher_width": 7, "student_width": 6}
    assert Pair.pair_arguments(*context().pairs[0]) == {"teacher_channels": 3, "student_size": (4, 4)}
    assert Pairs.arguments(context(2)) == {"student_channels": [3, 3]}


def test_losses_over_all_hints_get_lists():
    class Lengths(HintsLoss):
        def forward(self, students: list[Tensor], teachers: list[Tensor]) -> Tensor:
            return torch.tensor(float(10 * len(students) + len(teachers)))

    loss = Lengths.build(context(pairs=2))
    assert loss.compute(Features(maps=FEATURES), Features(maps=FEATURES[:2]), BATCH).item() == 32


def test_embedding_losses_may_take_more():
    class Indexed(EmbeddingLoss):
        info = EmbeddingLoss.info.replace(inputs=(*EmbeddingLoss.info.inputs, "indices"))

        def forward(self, student: Tensor, teacher: Tensor, indices: Tensor) -> Tensor:
            return indices.sum()

    features = Features(embedding=torch.zeros(2, 5))
    assert Indexed.build(context()).compute(features, features, BATCH).item() == 61
