"""The shipped contract accepts a sound loss of somebody else and says what is wrong with a broken one."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from pursuhint.errors import PursuhintError
from pursuhint.losses import EmbeddingLoss, HintLoss, LogitLoss, get_loss
from pursuhint.testing import check_loss


class LogCosh(EmbeddingLoss):
    """A smooth distance of embeddings.

    Args:
        student_width: width of the student's embedding.
        teacher_width: width of the teacher's embedding.
        scale: divides the differences.
    """

    info = EmbeddingLoss.info.replace(title="log-cosh", paper="Nobody, 2026", learns="a projection")

    def __init__(self, student_width: int, teacher_width: int, *, scale: float = 1.0) -> None:
        super().__init__()
        self.projection = nn.Linear(student_width, teacher_width)
        self.scale = scale

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        difference = (self.projection(student) - teacher) / self.scale
        return (difference + nn.functional.softplus(-2 * difference) - 0.6931471805599453).mean()


class NoGradient(LogCosh):
    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return super().forward(student.detach(), teacher)


class Scaled(LogCosh):  # Doubles its value in mixed precision
    def compute(self, student, teacher, batch):
        factor = 2 if torch.is_autocast_enabled("cpu") else 1
        return factor * super().compute(student, teacher, batch)


class Half(LogCosh):  # Leaves out the conversion to float32
    def compute(self, student, teacher, batch):
        return self(student.embedding, teacher.embedding)


class Leaking(LogCosh):  # Subtracts the mean of the batch and does not say so
    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return super().forward(student - student.mean(0), teacher)


class Forgetful(LogCosh):  # Remembers the length of the teacher's embedding in an attribute
    info = LogCosh.info.replace(batch_coupled=True)

    def __init__(self, student_width: int, teacher_width: int, *, scale: float = 1.0) -> None:
        super().__init__(student_width, teacher_width, scale=scale)
        self.length: Tensor | None = None

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        now = teacher.norm(dim=1).mean().detach()
        self.length = now if self.length is None else 0.9 * self.length + 0.5 * now
        return super().forward(student, teacher) * self.length


class PerSample(LogCosh):
    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return (self.projection(student) - teacher).square().mean(1)


class Misshapen(LogCosh):  # Multiplies what cannot be multiplied
    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return (student @ teacher.T).sum()


class HalfGradient(LogCosh):  # Its gradient is half of what it should be
    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        value = super().forward(student, teacher)
        return (value + value.detach()) / 2


class Untyped(LogCosh):
    def __init__(self, student_width: int, teacher_width: int, *, scale: object = 1.0) -> None:
        super().__init__(student_width, teacher_width)


class Elsewhere(LogCosh):  # Looks at a place that no recipe has
    info = LogCosh.info.replace(points="third-stage")


BROKEN = {
    NoGradient: "log-cosh: no gradient reaches the student",
    Scaled: r"log-cosh: under autocast gives \S+ for inputs in torch.bfloat16, and \S+ for these inputs in",
    Half: "log-cosh: ",
    Leaking: "log-cosh: the loss of a batch is not the mean of the losses of its parts, but info.batch_coup",
    Forgetful: r"log-cosh: a loss restored from its state_dict after a batch gives \S+ instead of",
    PerSample: r"log-cosh: returns a tensor of shape \(6,\); expected a scalar",
    Misshapen: "log-cosh: value: RuntimeError: mat1 and mat2 shapes cannot be multiplied",
    HalfGradient: "log-cosh: gradients disagree with finite differences",
    Elsewhere: "log-cosh: info.points is 'third-stage'; expected one of stages, last-map",
    Untyped: "log-cosh: accepts scale={'a': 1}; annotate its type",
}


def test_a_sound_loss_passes():
    check_loss(LogCosh)
    check_loss(LogCosh, scale=2.0)


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_loss_fails_with_one_line(kind):
    with pytest.raises(AssertionError, match=BROKEN[kind]) as caught:
        check_loss(kind)
    assert "\n" not in str(caught.value)


def test_losses_of_other_kinds_pass():
    class Logits(LogitLoss):
        """Squared difference of the logits."""

        info = LogitLoss.info.replace(title="logits")

        def forward(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
            return (student - teacher).square().mean()

    class Energies(HintLoss):
        """Squared difference of the mean energies of the maps."""

        info = HintLoss.info.replace(title="energies")

        def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
            own, other = (maps.square().flatten(1).mean(1) for maps in (student, teacher))
            return (own - other).square().mean()

    check_loss(Logits)
    check_loss(Energies)
    check_loss(get_loss("wsld"), constants=["weights"])


def test_constants_that_depend_on_the_inputs_must_be_named():
    with pytest.raises(AssertionError, match="WSLD: gradients disagree with finite differences"):
        check_loss(get_loss("wsld"))


def test_hyperparameters_that_the_loss_refuses_are_its_own_error():
    with pytest.raises(PursuhintError, match="log-cosh: scale must be"):
        check_loss(LogCosh, scale="wide")


def test_the_random_numbers_of_the_caller_are_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    check_loss(LogCosh)
    assert torch.rand(1) == expected


def test_needs_no_test_framework():
    code = "import sys, pursuhint.testing as t; t.check_loss; assert 'pytest' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
