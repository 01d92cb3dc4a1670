"""Trained by the Trainer of transformers."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pursuhint.distillation import Distiller
from pursuhint.errors import PursuhintError, PursuhintWarning
from pursuhint.features.hint_points import find_hint_points
from pursuhint.hints import Curriculum, HintPlan
from pursuhint.training.recipe.schema import LossConfig
from tests.integrations.conftest import all_weights, changed, make_distiller, state

transformers = pytest.importorskip("transformers", minversion="5.24")

from pursuhint.integrations import DistillationTrainer  # noqa: E402

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def rows(digits: tuple[Tensor, Tensor]) -> Rows:
    return [
        {"pixel_values": image, "labels": int(label), "indices": index}
        for index, (image, label) in enumerate(zip(*digits))
    ]


def make_trainer(rows: Rows, out: Path, distiller: Distiller | None = None, **changes: Any) -> Any:
    """A trainer for three epochs of three steps."""
    settings = {
        "num_train_epochs": 3,
        "per_device_train_batch_size": 40,
        "per_device_eval_batch_size": 60,
        "learning_rate": 0.01,
        "save_strategy": "epoch",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
    }
    return DistillationTrainer(
        distiller or make_distiller(),
        args=transformers.TrainingArguments(str(out), **{**settings, **changes}),
        train_dataset=rows,
        eval_dataset=rows,
        compute_metrics=accuracy,
    )


def accuracy(found: Any) -> dict[str, float]:
    return {"accuracy": float((found.predictions.argmax(1) == found.label_ids).mean())}


def test_student_and_losses_learn_and_the_teacher_does_not(rows, tmp_path, epochs_begun):
    trainer = make_trainer(rows, tmp_path)
    distiller = trainer.model.distiller
    before, teacher = state(distiller), state(distiller.teacher)
    trainer.train()
    assert changed(before, state(distiller)) >= all_weights(distiller)
    assert not changed(teacher, state(distiller.teacher))
    assert epochs_begun == [(0, 3), (1, 3), (2, 3)]


def test_evaluation_runs_the_student_alone(rows, digits, tmp_path):
    images, labels = digits
    trainer = make_trainer(rows, tmp_path)
    with torch.no_grad():
        logits = trainer.model.distiller.student.eval()(images)
    found = trainer.evaluate()
    assert found["eval_accuracy"] == pytest.approx(float((logits.argmax(1) == labels).float().mean()))
    assert found["eval_loss"] == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-5)


@pytest.mark.parametrize("step", [3, 4], ids=["after an epoch", "within an epoch"])
def test_a_run_resumes_to_the_weights_of_an_uninterrupted_one(rows, tmp_path, epochs_begun, step):
    whole = make_trainer(rows, tmp_path / "whole", save_strategy="steps", save_steps=1)
    whole.train()
    epochs_begun.clear()
    resumed = make_trainer(rows, tmp_path / "resumed")
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{step}"))
    assert not changed(state(whole.model), state(resumed.model))
    assert epochs_begun == [(1, 3), (2, 3)]


def test_a_curriculum_resumes_within_an_epoch_at_its_target(rows, tmp_path):
    def distiller() -> Distiller:  # moves on with every epoch
        return make_distiller({"at": 1.0}, schedule=Curriculum(threshold=1.0, cap=1))

    whole = make_trainer(rows, tmp_path / "whole", distiller(), save_strategy="steps", save_steps=1)
    whole.train()
    resumed = make_trainer(rows, tmp_path / "resumed", distiller())
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-5"))
    assert int(whole.model.distiller.loss("at").target) == 2
    assert not changed(state(whole.model), state(resumed.model))


def vit(layers: int) -> nn.Module:
    torch.manual_seed(layers)
    sizes = {"hidden_size": 8 * layers, "intermediate_size": 16, "image_size": 8, "patch_size": 4}
    config = transformers.ViTConfig(
        num_hidden_layers=layers, num_attention_heads=2, num_channels=1, num_labels=10, **sizes
    )
    return transformers.ViTForImageClassification(config)


def test_saved_folders_are_those_of_the_student(rows, digits, tmp_path):
    images = digits[0][:5]
    student, teacher = vit(2), vit(3)
    points = find_hint_points(student, images), find_hint_points(teacher, images)
    distiller = Distiller.build(
        student,
        teacher,
        losses={"fitnet": 1.0, "kd": None},
        plan=HintPlan.explicit(points[1], [1, 3]).with_student(points[0]),
        num_classes=10,
        num_samples=120,
        example=images,
    )
    trainer = make_trainer(rows, tmp_path / "out", distiller)
    trainer.train()
    trainer.save_model(str(tmp_path / "final"))
    student.eval()
    for folder in (tmp_path / "final", tmp_path / "out" / "checkpoint-9"):
        loaded = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
        assert torch.equal(loaded(images).logits, student(images).logits)
    assert not (tmp_path / "final" / "distiller.pt").exists()


def test_the_best_student_comes_back(rows, tmp_path):
    trainer = make_trainer(
        rows,
        tmp_path,
        eval_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=True,  # so that the last is not the best
    )
    trainer.train()
    losses = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert losses[-1] < max(losses)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(max(losses), rel=1e-5)


def test_what_would_be_ignored_is_refused(rows, tmp_path):
    with pytest.raises(PursuhintError, match="label smoothing"):
        make_trainer(rows, tmp_path, label_smoothing_factor=0.1)
    with pytest.warns(PursuhintWarning, match="warm-up"):
        make_trainer(rows, tmp_path, make_distiller({"ab": 1.0}))


def test_losses_that_remember_samples_need_their_indices(rows, tmp_path):
    without = [{name: value for name, value in row.items() if name != "indices"} for row in rows]
    losses = {"crd": LossConfig.model_validate({"weight": 1.0, "negatives_from": "other_samples"})}
    with pytest.raises(PursuhintError, match="`indices`"):
        make_trainer(without, tmp_path, make_distiller(losses)).train()
    assert make_trainer(rows, tmp_path, make_distiller(losses), max_steps=1).train().global_step == 1


def train_in_a_process(rank: int, rows: Rows, folder: Path) -> None:
    from accelerate.state import AcceleratorState, PartialState

    AcceleratorState._reset_state(True)  # this process began as a copy of the test's
    PartialState._reset_state()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}.items():
            patch.setenv(name, str(value))
        torch.distributed.init_process_group(
            "gloo", f"file://{folder}/meeting", timedelta(seconds=60), rank=rank, world_size=2
        )
        trainer = make_two_process_trainer(rows, folder, 20)
        trainer.train()
        torch.save(state(trainer.model), folder / f"weights-{rank}")
        torch.distributed.destroy_process_group()


def make_two_process_trainer(rows: Rows, folder: Path, batch: int) -> Any:
    losses = {"fitnet": LossConfig.model_validate({"weight": 1.0, "norm": False}), "kd": 1.0}
    distiller = make_distiller(losses, norm=False)  # without batch norms, whose batches are halved
    return make_trainer(rows, folder / "out", distiller, per_device_train_batch_size=batch)


def test_two_processes_train_as_one(rows, tmp_path):
    torch.multiprocessing.start_processes(
        train_in_a_process, args=(rows, tmp_path), nprocs=2, start_method="fork"
    )
    alone = make_two_process_trainer(rows, tmp_path / "alone", 40)
    alone.train()
    first, second = (torch.load(tmp_path / f"weights-{rank}") for rank in (0, 1))
    assert not changed(first, second)
    for name, values in state(alone.model).items():
        torch.testing.assert_close(first[name], values, rtol=1e-3, atol=1e-5)
