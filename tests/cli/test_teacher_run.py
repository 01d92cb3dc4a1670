"""``--teacher RUN``: the folder of a run gives the network, its options, weights and images."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_digits

NETWORK = "torchvision:mobilenet_v3_small"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Three classes of pictures, as files."""
    folder = tmp_path_factory.mktemp("photos")
    digits = load_digits()
    chosen = [(pixels, label) for pixels, label in zip(digits.images, digits.target) if label < 3]
    for number, (pixels, label) in enumerate(chosen[:60]):
        place = folder / ("train" if number < 45 else "val") / f"class-{label}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 15.9).astype("uint8")).save(place / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def teacher(photos, tmp_path_factory):
    """A run whose network has an option and whose images have a size of their own."""
    from cli.main import run

    out = tmp_path_factory.mktemp("runs") / "teacher"
    with pytest.raises(SystemExit) as stop:
        run(
            ["train", "--student", NETWORK, "--set", "student.options.reduced_tail=true",
             "--data", f"folder:{photos}", "--image-size", "16", "--image-channels", "3", "--epochs", "1",
             "--out", str(out), "-q"]
        )  # fmt: skip
    assert not stop.value.code
    return out


def recipe_of(run):
    return yaml.safe_load((run / "recipe.yaml").read_text())


def test_a_student_learns_from_a_run_on_its_data_and_sizes(pursuhint, teacher, photos, tmp_path):
    out = tmp_path / "student"
    options = ("--student", "resnet8", "--loss", "kd", "--epochs", "1", "--out", out)
    done = pursuhint("train", "--teacher", teacher, *options)
    assert done.returncode == 0, done.stderr
    assert f"--teacher-checkpoint {teacher}/student.safetensors" in done.stderr  # what it stands for is said
    recipe = recipe_of(out)
    assert recipe["teacher"]["network"] == NETWORK
    assert recipe["teacher"]["options"] == {"reduced_tail": True}
    assert recipe["teacher"]["checkpoint"] == str(teacher / "student.safetensors")
    assert recipe["data"]["name"] == f"folder:{photos}"
    assert (recipe["data"]["image_size"], recipe["data"]["channels"]) == (16, 3)
    accuracy = json.loads((teacher / "result.json").read_text())["last"]["test_top1"]
    environment = json.loads((out / "environment.json").read_text())
    assert environment["teacher"]["top1"] == pytest.approx(accuracy, abs=1e-9)


def test_what_is_typed_or_in_a_recipe_stays(pursuhint, teacher, photos, tmp_path):
    best = teacher / "best.safetensors"
    file = tmp_path / "own.yaml"
    file.write_text("data: {image_size: 18}\n")
    short = ("--set", f"data=folder:{photos}", "--image-size", "12")
    for words, size in ((("--image-size", "14"), 14), (("--recipe", file), 18), (short, 12)):
        out = tmp_path / str(size)
        options = ("--student", "resnet8", "--loss", "kd", "--epochs", "1", "-q", "--out", out)
        done = pursuhint("train", f"--teacher={teacher}", "--teacher-checkpoint", best, *words, *options)
        assert done.returncode == 0, done.stderr
        recipe = recipe_of(out)
        assert recipe["data"]["image_size"] == size
        assert recipe["data"]["channels"] == 3
        assert recipe["teacher"]["checkpoint"] == str(best)


def test_other_data_are_seen_as_the_network_was_trained_to_see_them(pursuhint, teacher, tmp_path):
    out = tmp_path / "analysis"
    words = ("--num-classes", "3", "--samples", "50", "--k", "2", "--no-stability", "--out", out)
    done = pursuhint("analyze", "--teacher", teacher, "--data", "digits", *words)
    assert done.returncode == 0, done.stderr
    seen = json.loads((teacher / "environment.json").read_text())["data"]["preprocessing"]
    images = json.loads((out / "analysis.json").read_text())["provenance"]["preprocessing"]
    for key in ("size", "mean", "std", "channels"):
        assert images[key] == seen[key]


def test_points_and_evaluate_take_a_run(pursuhint, teacher):
    named = (NETWORK, "--size", "16")
    option = ("--set", "teacher.options.reduced_tail=true")
    of_run, reduced, whole = (
        [point["channels"] for point in json.loads(pursuhint("points", *words, "--json").stdout)]
        for words in ((teacher,), (*named, *option), named)
    )
    assert of_run == reduced != whole
    assert pursuhint("points", teacher, "--size", "32").returncode == 0
    own, as_teacher = (
        json.loads(pursuhint("evaluate", *words, "--json").stdout)["top1"]
        for words in ((teacher,), ("--teacher", teacher))
    )
    assert own == as_teacher


def test_sizes_of_a_run_are_those_of_its_network(pursuhint, teacher):
    student = ("--student", "resnet8", "--at-batch", "1", "--json")
    named = ("--teacher", NETWORK, "--set", "teacher.options.reduced_tail=true", "--input", "3x16x16")
    sizes = []
    for words in (("--teacher", teacher), (*named, "--classes", "3")):
        done = pursuhint("profile", *words, *student)
        assert done.returncode == 0, done.stderr
        sizes.append(json.loads(done.stdout)["teacher"]["parameters"])
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: (run / "student.safetensors").unlink(), "no student.safetensors to teach with"),
        (lambda run: (run / "recipe.yaml").unlink(), "no run"),
        (
            lambda run: (run / "recipe.yaml").write_text(
                (run / "recipe.yaml").read_text().replace(NETWORK, "own_code:network")
            ),
            "names code that would be imported and run: student.network is own_code:network",
        ),
        (lambda run: (run / "recipe.yaml").write_text("student: [\n"), "recipe.yaml"),
    ],
    ids=["unfinished", "other folder", "code", "damaged"],
)
def test_a_folder_that_cannot_teach_is_refused_in_one_line(
    pursuhint, teacher, tmp_path, monkeypatch, spoil, message
):
    run = tmp_path / "run"
    shutil.copytree(teacher, run)
    spoil(run)
    (tmp_path / "own_code.py").write_text("raise SystemExit('this code must not run')\n")
    monkeypatch.syspath_prepend(tmp_path)
    done = pursuhint(
        "train", "--teacher", run, "--student", "resnet8", "--loss", "kd", "--out", tmp_path / "new"
    )
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "new").exists()


@pytest.fixture(scope="module")
def unsplit(photos, tmp_path_factory):
    """Folders of classes without one for evaluation, and a run on them."""
    from cli.main import run

    root = tmp_path_factory.mktemp("unsplit")
    shutil.copytree(photos / "train", root / "photos")
    with pytest.raises(SystemExit) as stop:
        run(
            ["train", "--student", "resnet8", "--data", f"folder:{root / 'photos'}", "--val-fraction", "0.2",
             "--epochs", "1", "--out", str(root / "run"), "-q"]
        )  # fmt: skip
    assert not stop.value.code
    return root


@pytest.mark.parametrize(
    "words",
    [
        "points resnet8",
        "evaluate --teacher resnet8 --teacher-checkpoint {root}/run/student.safetensors",
        "analyze --teacher resnet8 --teacher-checkpoint {root}/run/student.safetensors --k 2 --out {out}",
        "profile --student resnet8 --at-batch 1",
        "transfer {root}/run --classifier logistic",
    ],
    ids=lambda words: words.split()[0],
)
def test_a_part_of_a_folder_is_held_out_where_it_has_nothing_for_evaluation(
    pursuhint, unsplit, tmp_path, words
):
    words = words.format(root=unsplit, out=tmp_path / "out").split()
    option = "--to" if words[0] == "transfer" else "--data"
    data = (option, f"folder:{unsplit / 'photos'}")
    refused = pursuhint(*words, *data)
    assert refused.returncode == 1
    assert "--val-fraction 0.2" in refused.stderr  # which the command has
    done = pursuhint(*words, *data, "--val-fraction", "0.2")
    assert done.returncode == 0, done.stderr


def test_a_run_holds_out_the_same_part_for_those_whom_it_teaches(pursuhint, unsplit, tmp_path):
    analysis = tmp_path / "analysis"
    done = pursuhint(
        "analyze", "--teacher", unsplit / "run", "--k", "2", "--no-stability", "--out", analysis, "-q"
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads((analysis / "analysis.json").read_text())["provenance"]["num_samples"]
    environment = json.loads((unsplit / "run" / "environment.json").read_text())
    assert seen == environment["data"]["samples"]["train"]
