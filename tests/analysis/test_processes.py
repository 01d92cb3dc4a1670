"""One analysis by several processes, and one that is interrupted: both end as if nothing had been."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from datetime import timedelta
from unittest import mock

import pytest
import torch
from torch import distributed

from pursuhint._util.atomic_files import watch_writes
from pursuhint.analysis.auto_samples import AutoSamples
from pursuhint.analysis.result import Analysis
from pursuhint.analysis.resumable_pass import _PassStates, forget
from pursuhint.analysis.run_analysis import analyze
from pursuhint.data import load_dataset
from pursuhint.errors import PursuhintError, PursuhintWarning
from pursuhint.models import create_model
from tests.helpers.analysis_networks import noise_images, plain_network
from tests.helpers.processes import launched, spawn

OTHER_PASS = "is of another network, other data or other settings; the pass begins anew"
BOTH = ("cka", "r2cca")


def alone(images=100, **options):
    """The analysis that all others are compared with: one process, one thread, nothing interrupted."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return analyze(
            plain_network(),
            noise_images(images),
            **{"metrics": BOTH, "batch_size": 8, "seed": 3, "class_quality": True, **options},
        )
    finally:
        torch.set_num_threads(threads)


def assert_alike(actual: Analysis, expected: Analysis, tolerance: float) -> None:
    assert actual.similarities.keys() == expected.similarities.keys()
    for metric, similarity in expected.similarities.items():
        found = actual.similarities[metric]
        assert found.num_samples == similarity.num_samples
        torch.testing.assert_close(found.values, similarity.values, rtol=0, atol=tolerance)
        for parts in ("left_out", "halves"):  # float32
            torch.testing.assert_close(
                getattr(found, parts), getattr(similarity, parts), rtol=0, atol=1e-6 if tolerance else 0
            )
    assert actual.curves.keys() == expected.curves.keys()
    for name, curve in expected.curves.items():
        assert actual.curves[name] == (pytest.approx(curve, rel=1e3 * tolerance) if tolerance else curve)
    assert actual.plan == expected.plan
    assert actual.robustness.stability == expected.robustness.stability
    assert actual.robustness.agreements == expected.robustness.agreements


def kill_at(images):
    def on_progress(done, total):
        if done >= images:
            os.kill(os.getpid(), signal.SIGKILL)

    return on_progress


def stop_at(images):
    def on_progress(done, total):
        if done >= images:
            raise KeyboardInterrupt

    return on_progress


# -- several processes ---------------------------------------------------------------------------------------

CASES = {
    "moments": {},
    "rows": {"metrics": ("rbf-cka", "cka")},
    "a process without a batch": {"batch_size": 100},
    "no parts": {"stability": False, "activation": "both"},
    "enough early": {"images": 640, "samples": "auto", "batch_size": 64, "metrics": ("cka",), "k": 4},
    "never enough": {
        "images": 640, "samples": AutoSamples(0.999), "batch_size": 64, "metrics": ("rbf-cka",)
    },
    # Each process has some of the shards only: 500 images are 8 batches.
    "never enough moments": {
        "images": 1100, "samples": AutoSamples(0.999), "batch_size": 64, "metrics": ("cka",), "k": 2
    },
}  # fmt: skip
STOPPED = [
    ("never enough moments", "after the look"),
    ("never enough moments", "while saving after the look"),
    ("never enough", "while saving after the look"),
]


def join(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=120),
    )


def share(rank, folder):
    join(rank, folder)
    for name, options in CASES.items():
        found = alone(**options)
        if rank == 1:  # all processes have the whole result
            found.save(folder / name)
    for case, moment in STOPPED:
        found, first = stopped(rank, moment, state=folder / "state", **CASES[case])
        if rank == 1:
            found.save(folder / f"{case} {moment}")
        (folder / f"{case} {moment} {rank}").write_text(str(first))
    distributed.destroy_process_group()


def stopped(rank, moment, **options):
    """An analysis after one that was stopped, and how many samples it had to begin with."""
    write = _PassStates.write

    def stopped_write(states, accumulators, seconds, open_stretch):
        """Stops after the look, the first process with a saved state, the other one without."""
        if rank == 0 or not open_stretch:
            write(states, accumulators, seconds, open_stretch)
        if open_stretch:
            raise KeyboardInterrupt

    stop, interruption = stop_at(300), contextlib.nullcontext()
    if moment != "after the look":
        stop, interruption = None, mock.patch.object(_PassStates, "write", stopped_write)
    with interruption, pytest.raises(KeyboardInterrupt):
        alone(save_every=0.0, on_progress=stop, **options)
    seen = []
    return alone(on_progress=lambda done, total: seen.append(done), **options), seen[0]


def share_and_be_killed(rank, folder, images):
    join(rank, folder)
    alone(state=folder / "state", save_every=0.0, on_progress=None if images is None else kill_at(images))
    alone(state=folder / "state").save(folder / f"by {rank}")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    spawn(share, folder, processes=2)
    return folder


@pytest.mark.parametrize("name", CASES)
def test_two_processes_equal_one(shared, name):
    found = Analysis.load(shared / name)
    assert found.provenance.processes == 2
    expected = alone(**CASES[name])
    assert found.provenance.num_samples == expected.provenance.num_samples
    assert name != "enough early" or found.auto.ended_early
    assert not name.startswith("never enough") or not found.auto.ended_early
    if CASES[name].get("stability", True):
        assert_alike(found, expected, 1e-9)
        return
    for one, other in ((found, expected), (found.pre, expected.pre)):
        for metric, similarity in other.similarities.items():
            torch.testing.assert_close(one.similarities[metric].values, similarity.values, rtol=0, atol=1e-9)
    assert found.robustness.agreements == expected.robustness.agreements


@pytest.mark.parametrize(("case", "moment"), STOPPED)
def test_two_processes_with_looks_go_on(shared, case, moment):
    """Also if one of them has saved its state after the look, and the other has not."""
    found, expected = (Analysis.load(shared / name) for name in (f"{case} {moment}", case))
    assert_alike(found, expected, 1e-9)
    assert found.auto.looks == expected.auto.looks
    assert found.samples.tolist() == expected.samples.tolist()
    for rank in range(2):
        begun = int((shared / f"{case} {moment} {rank}").read_text())
        assert begun > (290 if moment == "after the look" else 240)


def test_two_processes_go_on_after_one_was_killed(tmp_path):
    with pytest.raises(torch.multiprocessing.ProcessExitedException):
        spawn(share_and_be_killed, tmp_path, 30, processes=2)
    (tmp_path / "meeting").unlink(missing_ok=True)
    assert len(list((tmp_path / "state").glob("process-*-of-2/latest"))) == 2
    spawn(share_and_be_killed, tmp_path, None, processes=2)
    for rank in range(2):
        assert_alike(Analysis.load(tmp_path / f"by {rank}"), alone(), 1e-9)
    assert not (tmp_path / "state").exists()


def test_the_command_under_a_launcher(tmp_path):
    words = ["-m", "pursuhint", "analyze", "--teacher", "resnet8", "--random-weights"]
    words += ["--samples", "150", "--device", "cpu"]
    words += ["--metric", "cka", "--batch-size", "32", "--json", "--out", str(tmp_path)]
    first, second = launched(*words)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert json.loads(first.stdout)["samples"] == 150
    assert first.stderr.count("report.html") == 1
    assert second.stdout == "", "one process speaks"
    assert "report.html" not in second.stderr
    found = Analysis.load(tmp_path)
    assert found.provenance.processes == 2
    torch.manual_seed(0)  # the teacher has random weights, and yet all processes looked at the same network
    network = create_model("resnet8", num_classes=10, in_channels=1)
    expected = analyze(network, load_dataset("digits"), samples=150, batch_size=32)
    assert_alike(found, expected, 1e-9)


# -- interruptions -------------------------------------------------------------------------------------------


def be_killed(rank, folder):
    torch.set_num_threads(1)
    alone(state=folder / "state", save_every=0.0, on_progress=kill_at(50))


def test_goes_on_after_kill_9(tmp_path):
    with pytest.raises(torch.multiprocessing.ProcessExitedException, match="SIGKILL"):
        spawn(be_killed, tmp_path, processes=1)
    seen = []
    found = alone(state=tmp_path / "state", on_progress=lambda *numbers: seen.append(numbers))
    assert seen[0] == (56, 100), "it begins where the last state left off"
    assert seen[-1] == (100, 100)
    assert_alike(found, alone(), 0.0)
    assert found.seconds.forward > 0
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    "options", [{"activation": "both"}, {"metrics": ("rbf-cka", "cka")}, {"stability": False}]
)
def test_is_stopped_again_and_again(tmp_path, options):
    for images in (10, 20, 60, 95, 100):
        with pytest.raises(KeyboardInterrupt):
            alone(state=tmp_path, save_every=0.0, on_progress=stop_at(images), **options)
    found, expected = alone(state=tmp_path, **options), alone(**options)
    for one, other in ((found, expected), (found.pre, expected.pre)):
        if other is not None:
            for metric, similarity in other.similarities.items():
                assert torch.equal(one.similarities[metric].values, similarity.values)
            assert one.robustness.stability == other.robustness.stability
            assert one.class_curves == other.class_curves


@pytest.fixture
def interrupted(tmp_path):
    """The state of a pass that ended after 56 of 100 images."""
    with pytest.raises(KeyboardInterrupt):
        alone(state=tmp_path / "state", save_every=0.0, on_progress=stop_at(56))
    return tmp_path / "state"


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 4},
        {"batch_size": 16},
        {"metrics": ["debiased-cka"]},
        {"activation": "pre"},
        {"samples": 90},
        {"stability": False},
        {"include": ["[0-4].2"]},
    ],
)
def test_another_analysis_begins_anew(interrupted, change):
    seen = []
    with pytest.warns(PursuhintWarning, match=OTHER_PASS):
        found = alone(state=interrupted, on_progress=lambda *numbers: seen.append(numbers[0]), **change)
    assert seen[0] == change.get("batch_size", 8)
    for metric, similarity in alone(**change).similarities.items():
        assert torch.equal(found.similarities[metric].values, similarity.values)


@pytest.mark.parametrize("seeds", [(1, 0), (0, 1)])
def test_other_weights_or_images_begin_anew(interrupted, seeds):
    seen = []
    weights, images = seeds
    with pytest.warns(PursuhintWarning, match=OTHER_PASS):
        analyze(
            plain_network(seed=weights), noise_images(100, seed=images), metrics=BOTH, batch_size=8, seed=3,
            state=interrupted, on_progress=lambda *numbers: seen.append(numbers[0]),
        )  # fmt: skip
    assert seen[0] == 8


def truncate(path):
    path.write_bytes(path.read_bytes()[:50])


def test_damaged_states_are_explained(interrupted):
    for path in interrupted.rglob("*.safetensors"):
        truncate(path)
    with pytest.raises(PursuhintError, match=r"every state in .*process-1-of-1 is damaged .*; remove .* to"):
        alone(state=interrupted)


def test_a_damaged_finished_shard_is_explained(interrupted):
    truncate(interrupted / "process-1-of-1" / "post.shard-1.safetensors")
    with pytest.raises(PursuhintError, match=r"state in .* is damaged .*shard-1.*; remove .* to begin"):
        alone(state=interrupted)


@pytest.mark.parametrize("options", [{}, {"metrics": ("rbf-cka", "cka")}])
def test_a_damaged_state_falls_back_to_the_one_before(tmp_path, options):
    with pytest.raises(KeyboardInterrupt):
        alone(state=tmp_path, save_every=0.0, on_progress=stop_at(56), **options)
    folder = tmp_path / "process-1-of-1"
    truncate(folder / (folder / "latest").read_text().strip() / "post.safetensors")
    seen = []
    found = alone(state=tmp_path, on_progress=lambda *numbers: seen.append(numbers[0]), **options)
    assert seen[0] == 48
    expected = alone(**options)
    for metric, similarity in expected.similarities.items():
        assert torch.equal(found.similarities[metric].values, similarity.values)


def test_shards_of_another_pass_are_not_mixed_in(interrupted):
    """Another pass writes a finished shard and fails before its state is complete."""

    def refuse(path):
        if path.name == "latest":
            raise OSError("no space left")

    with (
        pytest.warns(PursuhintWarning, match=OTHER_PASS),
        watch_writes(refuse),
        pytest.raises(PursuhintError, match=r"cannot save the state after batch 1 .*: .*no space left"),
    ):
        analyze(
            plain_network(), noise_images(100, seed=1), metrics=BOTH, batch_size=16, seed=3,
            state=interrupted, save_every=0.0,
        )  # fmt: skip
    assert (interrupted / "process-1-of-1" / "post.shard-1.safetensors").exists()
    with pytest.warns(PursuhintWarning, match=OTHER_PASS):
        again = alone(state=interrupted)
    assert_alike(again, alone(), 0.0)


def test_short_passes_leave_no_state(tmp_path):
    alone(state=tmp_path / "state")
    assert not (tmp_path / "state").exists()


def test_forget_removes_what_a_killed_process_left_half_written(tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / ".accuracy.json.ab12cd34.pursuhint.tmp").write_text("{")
    forget(tmp_path / "state")
    assert not (tmp_path / "state").exists()


def test_forget_leaves_other_files(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    forget(tmp_path)
    assert (tmp_path / "mine.txt").exists()
