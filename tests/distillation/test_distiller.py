"""The distiller: trained and frozen networks, building, stages and the total."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from pursuhint.data.batch import Batch
from pursuhint.distillation import Distiller, Term
from pursuhint.distillation.build import Task, measure_networks
from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import find_hint_points
from pursuhint.hints.plan import HintPlan
from pursuhint.losses.at import AttentionTransferLoss
from pursuhint.losses.base import EmbeddingLoss, HintsLoss, HintSum, LabelLoss, LogitLoss, Loss, WarmUp
from pursuhint.losses.ce import CrossEntropyLoss
from pursuhint.losses.kd import SoftTargetLoss
from pursuhint.losses.skd import SphericalLoss

CLASSES = 4
EXAMPLE = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(9))


class Block(nn.Module):
    """A residual block with random numbers in it, to be found out if somebody uses them."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.skip = nn.Conv2d(channels_in, channels, 1, stride, bias=False)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.dropout(self.relu(out + self.skip(x)))


class Net(nn.Module):
    def __init__(self, width: int, blocks: int = 2, classes: int = CLASSES) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *[Block(3 if i == 0 else width, width, stride=2 if i else 1) for i in range(blocks)]
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.blocks(x)).flatten(1))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def student():
    return Net(4)


@pytest.fixture
def teacher():
    return Net(6).train()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(5, 3, 8, 8, generator=generator)
    return Batch(images, torch.tensor([0, 1, 2, 3, 0]), torch.arange(5) + 10)


def make_plan(student, teacher, modules=("blocks.0", "blocks.1")) -> HintPlan:
    return HintPlan.explicit(find_hint_points(teacher, EXAMPLE), modules).with_student(
        find_hint_points(student, EXAMPLE), pairing=modules
    )


def build(student, teacher, losses, plan=None, **changes) -> Distiller:
    values = {"num_classes": CLASSES, "num_samples": 50, "example": EXAMPLE} | changes
    return Distiller.build(student, teacher, losses=losses, plan=plan, **values)


@pytest.fixture
def distiller(student, teacher):
    losses = {"kd": None, "fitnet": 3.0, "at": SimpleNamespace(weight=None, options={"p": 4})}
    return build(student, teacher, losses, make_plan(student, teacher))


# -- the total --------------------------------------------------------------------------------------------


def test_total_is_the_weighted_sum_of_the_parts(distiller, batch):
    losses = distiller(batch)
    assert losses.parts.keys() == distiller.weights.keys() == {"ce", "kd", "fitnet", "at"}
    expected = sum(distiller.weights[name] * part for name, part in losses.parts.items())
    torch.testing.assert_close(losses.total, expected)
    assert losses.total.requires_grad
    assert not any(part.requires_grad for part in losses.parts.values())


def test_parts_are_the_losses_of_the_two_networks(student, teacher, batch):
    for module in (*student.modules(), *teacher.modules()):
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    distiller = build(student, teacher, {"kd": None, "at": None}, make_plan(student, teacher)).eval()
    losses = distiller(batch)
    z_s, z_t = student(batch.images), teacher(batch.images)
    own, other = student.blocks[0](batch.images), teacher.blocks[0](batch.images)
    at = AttentionTransferLoss()
    torch.testing.assert_close(losses.logits, z_s.detach())
    torch.testing.assert_close(losses.parts["kd"], SoftTargetLoss()(z_s, z_t).detach())
    torch.testing.assert_close(losses.parts["ce"], CrossEntropyLoss()(z_s, batch.labels).detach())
    torch.testing.assert_close(
        losses.parts["at"],
        (at(own, other) + at(student.blocks[1](own), teacher.blocks[1](other))).detach(),
    )


def test_gradients_reach_the_student_and_what_the_losses_learn(distiller, batch):
    distiller(batch).total.backward()
    assert all(parameter.grad is not None for parameter in distiller.parameters())
    assert all(parameter.grad is None for parameter in distiller.teacher.parameters())


def test_a_term_of_weight_zero_is_shown_but_not_learned_from(student, teacher, batch):
    distiller = build(student, teacher, {"ce": 0.0, "kd": 1.0})
    losses = distiller(batch)
    torch.testing.assert_close(losses.total.detach(), losses.parts["kd"])
    assert losses.parts["ce"] > 0

    class Infinite(LabelLoss):
        def forward(self, student, labels):
            return student.sum() / 0

    distiller = Distiller(student, {"ce": Term(CrossEntropyLoss()), "bad": Term(Infinite(), 0.0)})
    assert distiller(batch).total.isfinite()


def test_a_term_that_is_not_finite_can_be_named(student, batch):
    class Broken(LabelLoss):
        def forward(self, student, labels):
            return student.sum() * torch.nan

    losses = Distiller(student, {"ce": Term(CrossEntropyLoss()), "broken": Term(Broken())})(batch)
    assert not losses.total.isfinite()
    assert [name for name, part in losses.parts.items() if not part.isfinite()] == ["broken"]


# -- weights ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ({"kd": None}, {"ce": 0.1, "kd": 0.9}),
        ({"at": None}, {"ce": 1.0, "at": 1000.0}),
        ({"at": 5, "kd": None}, {"ce": 1.0, "at": 5.0, "kd": 1.0}),
        ({"kd": None, "ce": None}, {"kd": 0.9, "ce": 0.1}),
        ({"kd": 0.5, "ce": 0.5}, {"kd": 0.5, "ce": 0.5}),
        ({"ce": 0, "fitnet": None}, {"ce": 0.0, "fitnet": 100.0}),
        ({"skd": None}, {"skd": 1.0}),
        ({"skd": None, "vid": None}, {"skd": 1.0, "vid": 1.0}),
        ({"ce": None}, {"ce": 1.0}),
        ({}, {"ce": 1.0}),
    ],
)
def test_default_weights_are_the_papers(student, teacher, losses, expected):
    assert build(student, teacher, losses, make_plan(student, teacher)).weights == expected


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf, True, "1"])
def test_refuses_other_weights(student, weight):
    with pytest.raises(PursuhintError, match="weight of loss 'ce' must be a number of at least 0"):
        Distiller(student, {"ce": Term(CrossEntropyLoss(), weight)})


def test_refuses_to_learn_from_nothing(student):
    with pytest.raises(PursuhintError, match="every loss has weight 0"):
        Distiller(student, {"ce": Term(CrossEntropyLoss(), 0.0)})
    with pytest.raises(PursuhintError, match="at least one loss"):
        Distiller(student, {})


def test_refuses_classification_twice(student, teacher):
    with pytest.raises(
        PursuhintError, match="loss 'skd' contains the classification term already; leave out 'ce'"
    ):
        build(student, teacher, {"ce": 0.1, "skd": None})
    with pytest.raises(
        PursuhintError, match="'mine' contains the classification term already; leave out 'plain'"
    ):
        Distiller(
            student, {"mine": Term(SphericalLoss()), "plain": Term(CrossEntropyLoss())}, teacher=teacher
        )
    with pytest.raises(PursuhintError, match="'skd' and 'wsld' both contain the classification term"):
        build(student, teacher, {"skd": None, "wsld": None})


# -- points that a loss chooses itself ---------------------------------------------------------------------


def test_a_loss_may_choose_its_own_points(student, teacher, batch):
    deep = Net(3, blocks=3)
    distiller = build(deep, teacher, {"afd": None, "at": None}, make_plan(deep, teacher, ("blocks.1",)))
    afd = distiller.loss("afd")
    assert (len(afd.student_key), len(afd.teacher_query)) == (3, 1)
    distiller(batch).total.backward()
    assert all(parameter.grad is not None for parameter in distiller.parameters())

    distiller = build(student, teacher, {"afd": None})  # without a plan, all points of both
    afd = distiller.loss("afd")
    assert (len(afd.student_key), len(afd.teacher_query)) == (2, 2)
    assert distiller(batch).total.isfinite()


def test_labels_of_the_training_set_reach_the_losses(student, teacher, batch):
    labels = torch.arange(50) % CLASSES
    crd = SimpleNamespace(weight=None, options={"negatives": 7})
    distiller = build(student, teacher, {"crd": crd}, labels=labels)
    drawn = distiller.loss("crd").draw(batch.indices)
    assert (labels[drawn[:, 1:]] != labels[batch.indices][:, None]).all()
    distiller(batch).total.backward()
    with pytest.raises(PursuhintError, match="needs the classes of the training samples"):
        build(student, teacher, {"crd": crd})


def test_large_buffers_are_not_sent_between_processes(student, teacher):
    class Remembering(LabelLoss):
        info = LabelLoss.info.replace(shared_buffers=("bank",))

        def forward(self, student, labels):
            return student.sum()

    loss = Remembering()
    loss.register_buffer("bank", torch.zeros(3))
    distiller = Distiller(student, {"mine": Term(loss)})
    ignored = distiller._ddp_params_and_buffers_to_ignore
    assert ignored == ["losses.mine.bank"]
    assert set(ignored) <= dict(distiller.named_buffers()).keys()


# -- the teacher ------------------------------------------------------------------------------------------


def test_teacher_is_frozen_and_in_evaluation_mode_whatever_happens(distiller, batch):
    teacher = distiller.teacher
    before = copy.deepcopy(teacher.state_dict())
    distiller.train().requires_grad_(True)
    distiller(batch).total.backward()
    assert not any(module.training for module in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    assert distiller.student.training
    distiller.eval()
    assert not distiller.student.training


def test_teacher_is_not_part_of_the_module(distiller):
    own = {id(parameter) for parameter in distiller.parameters()}
    assert not own & {id(parameter) for parameter in distiller.teacher.parameters()}
    assert {name.split(".")[0] for name in distiller.state_dict()} == {"student", "losses"}
    modules = set(distiller.modules())
    assert not modules & set(distiller.teacher.modules())


def test_teacher_follows_the_student(distiller, batch):
    distiller.double()
    assert {parameter.dtype for parameter in distiller.teacher.parameters()} == {torch.float64}
    losses = distiller(Batch(batch.images.double(), batch.labels, batch.indices))
    assert losses.total.dtype == torch.float64
    distiller.to("meta")
    assert {parameter.device.type for parameter in distiller.teacher.parameters()} == {"meta"}


def test_teacher_runs_only_as_deep_as_the_losses_look(student, teacher, batch):
    runs = []
    for name, module in teacher.named_modules():
        module.register_forward_hook(lambda module, inputs, output, name=name: runs.append(name))
    distiller = build(student, teacher, {"at": None}, make_plan(student, teacher, ("blocks.0",)))
    distiller(batch)  # the first pass makes a copy for speed and looks at the whole network for that
    runs.clear()
    distiller(batch)
    assert "blocks.0" in runs
    assert not {"blocks.1.conv1", "fc"} & set(runs)


def test_teacher_is_left_alone_if_no_loss_looks_at_it(student, teacher):
    distiller = build(student, teacher, {"ce": None})
    assert distiller.teacher is None
    assert teacher.training


def test_a_loss_that_needs_a_teacher_says_so(student):
    with pytest.raises(PursuhintError, match="loss 'kd' needs a teacher, but there is none"):
        build(student, None, {"kd": None})
    with pytest.raises(PursuhintError, match="loss 'soft' needs a teacher, but there is none"):
        Distiller(student, {"soft": Term(SoftTargetLoss())})


def test_one_network_cannot_be_both(student):
    with pytest.raises(PursuhintError, match="the same network"):
        build(student, student, {"kd": None})


# -- building ---------------------------------------------------------------------------------------------


def test_different_classes_are_refused_before_training(student):
    with pytest.raises(PursuhintError, match="teacher has 9 classes, student 4; KD compares logits"):
        build(student, Net(6, classes=9), {"kd": None})
    hints = build(student, Net(6, classes=9), {"at": None}, make_plan(student, Net(6, classes=9)))
    assert set(hints.losses) == {"ce", "at"}


def test_a_student_for_other_classes_is_refused(student):
    with pytest.raises(PursuhintError, match="gives 4 scores a sample, but the task has 10 classes"):
        build(student, None, {"ce": None}, num_classes=10)


def test_hint_losses_need_a_plan(student, teacher):
    with pytest.raises(PursuhintError, match="AT compares hint points, but there are none"):
        build(student, teacher, {"at": None})


def test_a_plan_needs_the_students_points(student, teacher):
    plan = HintPlan.explicit(find_hint_points(teacher, EXAMPLE), ["blocks.1"])
    with pytest.raises(PursuhintError, match=r"blocks.1 .* of the teacher has no counterpart"):
        build(student, teacher, {"at": None}, plan)


def test_unknown_names_are_refused(student, teacher):
    with pytest.raises(PursuhintError, match="no loss named 'kdd'; did you mean"):
        build(student, teacher, {"kdd": None})
    with pytest.raises(PursuhintError, match="KD has no hyperparameter 'T'"):
        build(student, teacher, {"kd": SimpleNamespace(weight=None, options={"T": 4.0})})


def test_a_point_of_another_network_is_refused(student, teacher):
    plan = make_plan(Net(4, blocks=3), teacher, ("blocks.1",))
    other = HintPlan.explicit(find_hint_points(Net(6, blocks=3), EXAMPLE), ["blocks.2"])
    other = other.with_student([pair.student for pair in plan.pairs], pairing=["blocks.1"])
    with pytest.raises(PursuhintError, match=r"blocks\.2"):
        build(student, teacher, {"at": None}, other)


def test_options_reach_the_loss(distiller):
    assert [hint.p for hint in distiller.loss("at").hints] == [4, 4]


def test_building_leaves_no_trace(student, teacher):
    plan = make_plan(student, teacher)
    student.blocks[0].eval()  # a mode of its own, to be kept
    before = [copy.deepcopy(network.state_dict()) for network in (student, teacher)]
    modes = [module.training for module in student.modules()]
    state = torch.get_rng_state()
    points = ([pair.student for pair in plan.pairs], [pair.teacher for pair in plan.pairs])
    measure_networks(student, teacher, points=points, task=Task(CLASSES, 50, EXAMPLE))
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in student.modules()] == modes
    for network, kept in zip((student, teacher), before):
        assert all(torch.equal(kept[name], value) for name, value in network.state_dict().items())


def test_context_is_measured_on_the_networks(student, teacher):
    teacher.fc = nn.Linear(6, 7)
    pairs = make_plan(student, teacher).pairs
    points = ([pair.student for pair in pairs], [pair.teacher for pair in pairs])
    example = torch.zeros(1, 3, 16, 8)  # not the size that the points were found with
    context = measure_networks(student, teacher, points=points, task=Task(CLASSES, 50, example))
    (own, _), (other, deeper) = context.student_shapes, context.teacher_shapes
    assert (own.channels, own.spatial, own.activation, own.module) == (4, (16, 8), "post", "blocks.0")
    assert (other.channels, deeper.spatial) == (6, (8, 4))
    assert (context.student_embedding, context.teacher_embedding, context.teacher_classes) == (4, 6, 7)
    assert context.teacher_classifier is teacher.fc


def test_each_loss_may_have_its_own_plan(student, teacher, batch):
    plans = {
        "at": make_plan(student, teacher, ("blocks.0",)),
        "fitnet": make_plan(student, teacher),
        "vid": make_plan(student, teacher, ("blocks.1",)),
    }
    distiller = build(student, teacher, dict.fromkeys(plans), plans)
    assert [len(distiller.loss(name).hints) for name in plans] == [1, 2, 1]
    assert distiller.loss("vid").hints[0].log_scale.shape == (6,)
    assert distiller(batch).total.isfinite()


def test_losses_take_the_precision_of_the_student(student, teacher):
    plan = make_plan(student, teacher)
    distiller = build(student.double(), teacher, {"fitnet": None}, plan)
    assert {parameter.dtype for parameter in distiller.losses.parameters()} == {torch.float64}


def test_points_can_be_selected_by_index(student, teacher, batch):
    class Seen(HintsLoss):
        def forward(self, students, teachers):
            self.widths = [f.shape[1:] for f in students], [f.shape[1:] for f in teachers]
            return students[0].sum()

    points = [find_hint_points(network, EXAMPLE) for network in (student, teacher)]
    loss = Seen()
    term = Term(loss, 1.0, student_points=(1,), teacher_points=(1, 0))
    distiller = Distiller(
        student, {"seen": term}, teacher=teacher, student_points=points[0], teacher_points=points[1]
    )
    distiller(batch)
    assert loss.widths == ([(4, 4, 4)], [(6, 4, 4), (6, 8, 8)])
    with pytest.raises(PursuhintError, match="asks for hint point 2, but there are 2"):
        Distiller(
            student,
            {"seen": Term(loss, 1.0, (2,))},
            teacher=teacher,
            student_points=points[0],
            teacher_points=points[1],
        )


# -- copies and states ------------------------------------------------------------------------------------


def test_a_deep_copy_is_independent_and_computes_the_same(distiller, batch):
    twin = copy.deepcopy(distiller)
    distiller.eval(), twin.eval()
    assert torch.equal(twin(batch).total, distiller(batch).total)
    assert twin.student is not distiller.student
    assert twin.teacher is not distiller.teacher
    with torch.no_grad():
        for parameter in twin.student.parameters():
            parameter.zero_()
    assert not torch.equal(twin(batch).total, distiller(batch).total)
    twin.double()
    assert next(distiller.teacher.parameters()).dtype == torch.float32


def test_state_round_trip(distiller, student, teacher, batch):
    other = build(
        Net(4), copy.deepcopy(teacher), {"kd": None, "fitnet": 3.0, "at": None}, make_plan(student, teacher)
    )
    other.loss("at").hints[0].p = other.loss("at").hints[1].p = 4
    other.load_state_dict(distiller.state_dict())
    assert torch.equal(other.eval()(batch).total, distiller.eval()(batch).total)


def test_runs_under_autocast(distiller, batch):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = distiller(batch)
    assert losses.total.dtype == torch.float32
    losses.total.backward()
    assert losses.total.isfinite()


def test_training_lowers_the_total(distiller, batch):
    for module in distiller.student.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    optimizer = torch.optim.SGD(distiller.trainable_parameters(), lr=0.01)
    totals = []
    for _ in range(20):
        optimizer.zero_grad()
        total = distiller(batch).total
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.8 * totals[0]


# -- hooks ------------------------------------------------------------------------------------------------


class Adapted(nn.Module):
    """A network with a linear layer added behind it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.extra = nn.Linear(CLASSES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.extra(self.network(x))


class Folding(HintsLoss):
    """Puts a layer behind the student, taps it, and folds it in the end."""

    info = HintsLoss.info.replace(
        needs_teacher=False,
        inputs=("student_maps",),
        extra_taps=("extra",),
        alters_student=True,
    )

    def prepare(self, student: nn.Module) -> nn.Module:
        return Adapted(student)

    def forward(self, students: list[Tensor]) -> Tensor:
        self.seen = students
        return students[-1].square().mean()

    def export(self, student: nn.Module) -> nn.Module:
        network, extra = student.network, student.extra
        with torch.no_grad():
            network.fc.bias.copy_(extra.weight @ network.fc.bias + extra.bias)
            network.fc.weight.copy_(extra.weight @ network.fc.weight)
        return network


def test_a_loss_can_extend_the_student_tap_what_it_added_and_fold_it(student, batch):
    loss = Folding()
    distiller = Distiller(student, {"ce": Term(CrossEntropyLoss()), "fold": Term(loss)}).eval()
    assert "student.extra.weight" in distiller.state_dict()
    losses = distiller(batch)
    torch.testing.assert_close(loss.seen[-1].detach(), losses.logits)
    exported = distiller.export()
    assert type(exported) is Net
    assert exported.state_dict().keys() == Net(4).state_dict().keys()
    torch.testing.assert_close(exported(batch.images).detach(), losses.logits)
    torch.testing.assert_close(distiller(batch).total, losses.total)  # the original still works


def test_export_is_the_student_itself_where_nothing_was_altered(distiller):
    assert distiller.export() is distiller.student


def test_a_loss_can_transform_what_all_terms_see(student, teacher, batch):
    class Sharpen(LabelLoss):
        def transform_logits(self, logits):
            return 2 * logits

        def forward(self, student, labels):
            return student.sum() * 0

    terms = {"ce": Term(CrossEntropyLoss()), "kd": Term(SoftTargetLoss()), "sharpen": Term(Sharpen())}
    losses = Distiller(student, terms, teacher=teacher).eval()(batch)
    z_t = teacher(batch.images)
    torch.testing.assert_close(
        losses.parts["ce"], CrossEntropyLoss()(2 * losses.logits, batch.labels).detach()
    )
    torch.testing.assert_close(losses.parts["kd"], SoftTargetLoss()(2 * losses.logits, 2 * z_t))


def test_a_loss_can_keep_a_memory_of_samples(student, teacher, batch):
    class Memory(EmbeddingLoss):
        info = EmbeddingLoss.info.replace(inputs=("student_embedding", "teacher_embedding", "indices"))

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("bank", torch.zeros(50, 6))

        def forward(self, student, teacher, indices):
            self.bank[indices] = teacher
            return student.square().mean()

    distiller = Distiller(student, {"memory": Term(Memory())}, teacher=teacher)
    distiller(batch)
    written = distiller.state_dict()["losses.memory.bank"].any(1).nonzero().flatten()
    assert torch.equal(written, batch.indices)


class InputGradients(LogitLoss):
    """Matches the gradients of the label's logit with respect to the images."""

    info = LogitLoss.info.replace(
        needs_input_gradients=True,
        inputs=("student_logits", "teacher_logits", "labels", "images"),
    )

    def forward(self, student, teacher, labels, images):
        def slope(logits, graph):
            picked = logits.gather(1, labels[:, None]).sum()
            return torch.autograd.grad(picked, images, create_graph=graph, retain_graph=True)[0]

        return (slope(student, True) - slope(teacher, False).detach()).square().mean()


def test_a_loss_can_differentiate_both_networks_by_the_images(student, teacher, batch):
    terms = {"jacobian": Term(InputGradients()), "kd": Term(SoftTargetLoss())}
    distiller = Distiller(student, terms, teacher=teacher)
    losses = distiller(batch)
    losses.total.backward()
    assert losses.parts["jacobian"] > 0
    assert student.blocks[0].conv1.weight.grad.any()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert not batch.images.requires_grad


class WarmsUp(LabelLoss):
    """Trains a scale of its own first, then with the student, then is done."""

    info = LabelLoss.info.replace(warm_up_only=True)

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.entered: list[str | None] = []

    def stages(self):
        return [WarmUp("alone", 2, trains_student=False, lr=0.01), WarmUp("together", 3, trains_student=True)]

    def begin_stage(self, stage):
        self.entered.append(stage)

    def forward(self, student, labels):
        return self.scale * student.square().mean()


def test_stages_run_one_term_alone_and_then_all(student, batch):
    loss = WarmsUp()
    terms = {"ce": Term(CrossEntropyLoss(), 0.5), "warm": Term(loss, 9.0)}
    distiller = Distiller(student, terms)
    assert [(name, stage.name) for name, stage in distiller.warm_ups()] == [
        ("warm", "alone"),
        ("warm", "together"),
    ]
    (_, alone), (_, together) = distiller.warm_ups()

    distiller.begin_stage("warm", alone)
    losses = distiller.train()(batch)
    assert list(losses.parts) == ["warm"]
    torch.testing.assert_close(losses.total.detach(), losses.parts["warm"])  # not weighted
    assert not student.training
    assert loss.training
    assert [id(p) for p in distiller.trainable_parameters()] == [id(loss.scale)]

    distiller.begin_stage("warm", together)
    assert student.training
    assert len(distiller.trainable_parameters()) == len(list(distiller.parameters()))

    distiller.begin_stage()
    assert list(distiller(batch).parts) == ["ce"]
    assert loss.entered == [None, "alone", "together", None]


def test_losses_without_a_wish_have_no_warm_up(distiller):
    assert distiller.warm_ups() == ()


def test_single_losses_can_be_passed_as_objects(student, teacher, batch):
    points = [find_hint_points(network, EXAMPLE) for network in (student, teacher)]
    loss: Loss = HintSum([AttentionTransferLoss(), AttentionTransferLoss()])
    distiller = Distiller(
        student, {"at": Term(loss)}, teacher=teacher, student_points=points[0], teacher_points=points[1]
    )
    assert distiller.weights == {"at": 1000.0}
    assert distiller(batch).total > 0
