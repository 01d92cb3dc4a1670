"""Workers as jobs, with submitit's executor of this machine."""

from __future__ import annotations

import pytest

from pursuhint.errors import PursuhintError
from pursuhint.published import find_grid
from pursuhint.study import GridOptions, JobOptions, run_grid, submit_grid

TOY = """
alone: digits-vanilla
pairs: [resnet14-resnet8]
rows:
  KD: {recipe: digits-vanilla, set: {losses: {kd: 1}}}
"""
OPTIONS = GridOptions(epochs=1, assignments=("data.train_samples=100", "batch_size=50"))


@pytest.fixture
def toy(tmp_path):
    (tmp_path / "toy.yaml").write_text(TOY)
    return find_grid(str(tmp_path / "toy.yaml"))


def test_a_worker_trains_a_grid(toy, tmp_path):
    """As a job of its own; several on one grid are in test_grids."""
    pytest.importorskip("submitit")
    (job,) = submit_grid(toy, tmp_path / "out", OPTIONS, jobs=JobOptions("local"), device="cpu")
    assert job.result().startswith("3 of 3 cells finished, 3 of them here")
    progress = run_grid(toy, tmp_path / "out", OPTIONS, device="cpu")
    assert progress.is_complete
    assert progress.trained == []
    assert len(list((tmp_path / "out" / "jobs").glob("*.out"))) == 1


def test_as_many_jobs_are_submitted_as_were_asked_for(toy, tmp_path, monkeypatch):
    submitit, submitted = pytest.importorskip("submitit"), []
    monkeypatch.setattr(
        submitit.AutoExecutor, "submit", lambda executor, job: submitted.append(job) or len(submitted)
    )
    assert submit_grid(toy, tmp_path / "out", OPTIONS, jobs=JobOptions("local", 3)) == (1, 2, 3)
    assert {(job.out, job.part) for job in submitted} == {(tmp_path / "out", (1, 1))}


def test_a_job_that_is_interrupted_is_the_same_job_again(toy, tmp_path):
    pytest.importorskip("submitit")
    from pursuhint.study.grids.submit import GridJob

    job = GridJob(toy, tmp_path / "out", OPTIONS, (1, 1), "cpu")
    assert job.checkpoint().function is job
    assert job().startswith("3 of 3 cells finished, 3 of them here")


@pytest.mark.parametrize(
    ("jobs", "message"),
    [
        (JobOptions("slurm"), "cannot submit to slurm"),
        (JobOptions("local", settings={"partition_of_mine": "gpu"}), "partition_of_mine"),
    ],
    ids=["no-slurm", "no-such-setting"],
)
def test_what_a_scheduler_refuses_is_one_line(toy, tmp_path, jobs, message, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", "")  # where no sbatch is
    with pytest.raises(PursuhintError, match=message) as refused:
        submit_grid(toy, tmp_path / "out", OPTIONS, jobs=jobs)
    assert "\n" not in str(refused.value)


def test_without_submitit_the_extra_is_named(toy, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "submitit", None)
    with pytest.raises(PursuhintError, match=r"pip install 'pursuhint\[slurm\]'"):
        submit_grid(toy, tmp_path / "out", OPTIONS, jobs=JobOptions())
    assert not (tmp_path / "out").exists()
