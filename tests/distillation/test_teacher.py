"""The teacher's pass for speed sees what the teacher sees."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import pursuhint.acceleration.compiled_extractor
from pursuhint.acceleration.compiled_extractor import CompiledExtractor
from pursuhint.acceleration.options import Acceleration
from pursuhint.data import Batch
from pursuhint.distillation.teacher import TeacherOutputs, TeacherRunner
from pursuhint.errors import PursuhintError
from pursuhint.features.extractor import FeatureExtractor, Features
from pursuhint.features.hint_points import find_hint_points
from pursuhint.models import create_model


@pytest.fixture
def teacher() -> nn.Module:
    torch.manual_seed(0)
    network = create_model("resnet8x4", num_classes=4)
    network.train()(torch.randn(16, 3, 16, 16))
    return network.eval().requires_grad_(False)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def outputs(teacher: nn.Module, images: Tensor) -> TeacherOutputs:
    return TeacherOutputs(find_hint_points(teacher, images), logits=True, embedding=True)


def plain(teacher: nn.Module, outputs: TeacherOutputs, images: Tensor) -> Features:
    with torch.no_grad():
        return FeatureExtractor(teacher, outputs.points, embedding=True)(images)


def tensors(features: Features) -> list[Tensor]:
    return [part for part in (features.logits, features.embedding, *features.maps) if part is not None]


def apart(first: Features, second: Features) -> float:
    """Largest difference of any part, as a share of its size."""
    pairs = zip(tensors(first), tensors(second), strict=True)
    return max(float((one - other).float().norm() / other.float().norm()) for one, other in pairs)


@pytest.mark.parametrize(
    "acceleration",
    [
        Acceleration(),
        Acceleration(winograd=False),
        Acceleration(channels_last=False),
        Acceleration(fuse_batchnorm=False),
        Acceleration(fuse_batchnorm=False, channels_last=False),
    ],
)
def test_settings_that_are_equal_mathematics(teacher, outputs, images, acceleration) -> None:
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    features = TeacherRunner(teacher, outputs, acceleration)(images)
    assert apart(features, plain(teacher, outputs, images)) < 2e-5
    assert not any(part.requires_grad for part in tensors(features))
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())


def test_the_same_batch_gives_the_same_bits(teacher, outputs, images) -> None:
    one, other = (TeacherRunner(teacher, outputs)(images) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(other)))
    # Nor does it matter what else is read from the same pass: arms of a comparison share one.
    part = TeacherOutputs(outputs.points[:1])
    assert torch.equal(TeacherRunner(teacher, part)(images).maps[0], one.maps[0])


def test_a_teacher_in_bfloat16(teacher, outputs, images) -> None:
    expected = plain(teacher, outputs, images)
    features = TeacherRunner(teacher, outputs, Acceleration(teacher_precision="bf16"))(images)
    assert {part.dtype for part in tensors(features)} == {torch.bfloat16}
    assert apart(features, expected) < 0.03
    with torch.autocast("cpu", torch.bfloat16):
        same = TeacherRunner(teacher, outputs)(images)
        full = TeacherRunner(teacher, outputs, Acceleration(teacher_precision="float32"))(images)
    assert {part.dtype for part in tensors(same)} == {torch.bfloat16}
    assert {part.dtype for part in tensors(full)} == {torch.float32}
    assert apart(full, expected) < 2e-5


def test_it_follows_the_precision_of_the_images(teacher, outputs, images) -> None:
    run = TeacherRunner(teacher, outputs)
    run(images)
    teacher.double()
    assert apart(run(images.double()), plain(teacher, outputs, images.double())) < 1e-10


def test_a_pass_that_is_differentiated_runs_the_teacher_itself(teacher, outputs, images) -> None:
    images.requires_grad_()
    logits = TeacherRunner(teacher, replace(outputs, input_gradients=True))(images).logits
    assert torch.autograd.grad(logits.sum(), images)[0].norm() > 0


def test_what_was_kept_is_what_the_teacher_says(teacher, outputs, images) -> None:
    run = TeacherRunner(teacher, outputs)
    indices = torch.tensor([7, 3, 9, 0, 12, 5])
    expected = run(images)
    labels = torch.zeros(6, dtype=torch.int64)
    run.fill(Batch(images[i : i + 3], labels[i : i + 3], indices[i : i + 3]) for i in (0, 3))
    calls = []
    handle = nn.modules.module.register_module_forward_hook(lambda *_: calls.append(1))
    found = run(images[[4, 1]], indices[[4, 1]])
    handle.remove()
    assert not calls
    assert (
        apart(
            found,
            Features(
                *(None if part is None else part[[4, 1]] for part in (expected.logits, expected.embedding)),
                tuple(part[[4, 1]] for part in expected.maps),
            ),
        )
        < 1e-5
    )
    for absent in (4, 100):
        with pytest.raises(PursuhintError, match=f"has not seen sample {absent}"):
            run(images[:2], torch.tensor([7, absent]))
    with pytest.raises(PursuhintError, match="there is no sample"):
        TeacherRunner(teacher, outputs).fill([])


# -- compiled ---------------------------------------------------------------------------------------------


@pytest.fixture
def quick_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features as always, but generate no code."""
    quick = functools.partial(torch.compile, backend="aot_eager")
    monkeypatch.setattr(
        pursuhint.acceleration.compiled_extractor.torch, "compile", lambda function, mode: quick(function)
    )


@pytest.mark.usefixtures("quick_compiler")
def test_a_compiled_teacher_gives_the_same_features(teacher, outputs, images) -> None:
    run = TeacherRunner(teacher, outputs, Acceleration(compile="teacher"))
    for _ in range(2):
        assert apart(run(images), plain(teacher, outputs, images)) < 2e-5
    assert (
        apart(run(images[:2]), plain(teacher, outputs, images[:2])) < 2e-5
    )  # another size: not compiled again
    assert not any(module._forward_hooks for module in teacher.modules())


@pytest.mark.usefixtures("quick_compiler")
def test_a_compiled_student_gets_the_same_gradients(images) -> None:
    torch.manual_seed(0)
    network = create_model("resnet8", num_classes=4)
    points = find_hint_points(network, images, activation="pre")
    torch._dynamo.utils.counters.clear()
    gradients = []
    for kind in (FeatureExtractor, CompiledExtractor):
        features = kind(network, points, embedding=True)(images)
        sum(part.square().mean() for part in tensors(features)).backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
        network.zero_grad()
    for one, other in zip(*gradients):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert not torch._dynamo.utils.counters["graph_break"]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = (nn.Conv2d(3, 3, 3, padding=1, stride=s) for s in (1, 2, 2))
        self.fc = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.conv1, self.conv2, self.conv3):
            x = nn.functional.relu(conv(x))
        return self.fc(x.mean((2, 3)))


def test_an_activation_that_no_hook_sees_cannot_be_read_from_a_compiled_network(images) -> None:
    network = Functional().eval()
    points = find_hint_points(network, images)
    assert any(point.tap.kind.startswith("functional") for point in points)
    with pytest.raises(PursuhintError, match=r"applied as a function.*set acceleration\.compile=off"):
        TeacherRunner(network, TeacherOutputs(points), Acceleration(compile="teacher"))


def test_settings_are_checked() -> None:
    with pytest.raises(PursuhintError, match=r"acceleration\.compile must be one of off, teacher.*got 'yes'"):
        Acceleration(compile="yes")  # type: ignore[arg-type]
