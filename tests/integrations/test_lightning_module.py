"""Trained by Lightning."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from pursuhint.distillation import Distiller
from pursuhint.errors import PursuhintError
from pursuhint.hints import Curriculum
from pursuhint.training import LossConfig
from tests.integrations.conftest import all_weights, changed, make_distiller, network, state

lightning = pytest.importorskip("lightning", minversion="2.6")

from pursuhint.integrations import DistillationModule  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step`"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


class Loader(DataLoader):
    """A loader that continues within an epoch, as Lightning asks of one."""

    seen = first = 0

    def __iter__(self):
        first, self.first = self.first % len(self), 0
        for number, batch in enumerate(super().__iter__()):
            if number >= first:
                self.seen = number + 1
                yield batch

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.first = state["seen"]


@pytest.fixture
def data(digits):
    return [Loader(TensorDataset(*digits), 40), DataLoader(TensorDataset(*digits), 60)]


def make_module(distiller: Distiller | None = None) -> Any:
    return DistillationModule(
        distiller or make_distiller(),
        partial(torch.optim.SGD, lr=0.02, momentum=0.9),
        partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5),
    )


def make_trainer(folder, **changes: Any) -> Any:
    """A trainer for three epochs of three steps that keeps every checkpoint."""
    keep = lightning.pytorch.callbacks.ModelCheckpoint(
        folder, "{step}", every_n_train_steps=1, save_top_k=-1, save_on_train_epoch_end=False
    )
    settings = {"max_epochs": 3, "accelerator": "cpu", "devices": 1, "logger": False, **changes}
    return lightning.Trainer(
        callbacks=[keep],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **settings,
    )


def test_student_and_losses_learn_and_the_teacher_does_not(data, digits, tmp_path, epochs_begun):
    module, trainer = make_module(), make_trainer(tmp_path)
    distiller = module.step.distiller
    before, teacher = state(distiller), state(distiller.teacher)
    trainer.fit(module, *data)
    assert changed(before, state(distiller)) >= all_weights(distiller)
    assert not changed(teacher, state(distiller.teacher))
    assert epochs_begun == [(0, 3), (1, 3), (2, 3)]
    images, labels = digits
    with torch.no_grad():
        right = distiller.student.eval()(images).argmax(1) == labels
    assert float(trainer.callback_metrics["val_top1"]) == pytest.approx(100 * float(right.float().mean()))
    assert {"train_loss", "loss_fitnet", "loss_kd", "loss_ce"} <= trainer.callback_metrics.keys()


def test_checkpoints_have_the_student_by_itself(data, digits, tmp_path):
    module = make_module()
    make_trainer(tmp_path).fit(module, data[0])
    student = network(4, 6, 8, seed=5)
    student.load_state_dict(torch.load(tmp_path / "step=9.ckpt", weights_only=True)["student"])
    assert not changed(state(student), state(module.step.distiller.student))
    assert torch.equal(student.eval()(digits[0]), module.eval()(digits[0]))


@pytest.mark.parametrize("step", [3, 4], ids=["after an epoch", "within an epoch"])
@pytest.mark.parametrize("moving", [False, True], ids=["fixed hints", "curriculum"])
def test_a_run_resumes_to_the_weights_of_an_uninterrupted_one(data, tmp_path, epochs_begun, step, moving):
    def distiller() -> Distiller:
        if not moving:
            return make_distiller()
        return make_distiller({"at": 1.0}, schedule=Curriculum(threshold=1.0, cap=1))

    whole = make_module(distiller())
    make_trainer(tmp_path).fit(whole, data[0])
    epochs_begun.clear()
    resumed = make_module(distiller())
    make_trainer(tmp_path / "more").fit(resumed, data[0], ckpt_path=tmp_path / f"step={step}.ckpt")
    assert not changed(state(whole), state(resumed))
    assert epochs_begun == [(1, 3), (2, 3)]


def test_a_number_of_epochs_is_asked_for(data, tmp_path):
    with pytest.raises(PursuhintError, match="max_epochs"):
        make_trainer(tmp_path, max_epochs=-1, max_steps=2).fit(make_module(), data[0])


def fitted(digits, folder, processes: int, **more: Any) -> Any:
    """A module without batch norms, whose batches are halved, after three steps on all samples."""
    losses = {"fitnet": LossConfig.model_validate({"weight": 1.0, "norm": False}), "kd": 1.0}
    module = make_module(make_distiller(losses, norm=False))
    loader = DataLoader(TensorDataset(*digits), len(digits[1]) // processes)
    make_trainer(folder, devices=processes, **more).fit(module, loader)
    return module


def test_two_processes_train_as_one(digits, tmp_path):
    """Lightning starts the second process, gives each half of every batch, and takes the weights over."""
    strategy = lightning.pytorch.strategies.DDPStrategy(start_method="fork", process_group_backend="gloo")
    before = state(make_module(make_distiller(norm=False)).step.distiller.student)
    together = fitted(digits, tmp_path / "two", 2, strategy=strategy)
    alone = fitted(digits, tmp_path / "one", 1)
    assert changed(before, state(together.step.distiller.student))
    for name, values in state(alone).items():
        torch.testing.assert_close(state(together)[name], values, rtol=1e-3, atol=1e-5)
