"""``pursuhint crosstask``: what is trained, printed and written."""

from __future__ import annotations

import json

from pursuhint.models.safetensors_header import classes_of_weights
from pursuhint.study import CrossTaskResult

WORDS = (
    *(
        "crosstask",
        "--data",
        "digits",
        "--train-samples",
        "100",
        "--teacher",
        "resnet8",
        "--student",
        "resnet8",
    ),
    *("--epochs", "1", "--seeds", "0", "--device", "cpu", "--method", "refilled"),
    *("--method", "refilled-k1", "--method", "refilled-lambda2", "--overlap"),
)


def test_the_whole_protocol(pursuhint, tmp_path):
    out = tmp_path / "out"
    done = pursuhint(*WORDS, "40", "--out", out)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[2:4]] == ["student", "REFILLED"]
    assert "stage matching" not in done.stdout
    result = CrossTaskResult.load(out)
    assert result.teacher_classes == ("0", "1", "2", "3", "4")
    assert result.overlaps[0].student_classes == ("3", "4", "5", "6", "7")
    assert classes_of_weights(out / "teacher/student.safetensors") == result.teacher_classes
    assert (out / "report.html").exists()
    drawn = {"overlaps", "weights-40", "negatives", "strength", "stages", "convergence"}
    assert drawn == {path.stem for path in (out / "figures").glob("*.png")}
    assert f"{result.cell(40, 'refilled').last.mean:.2f}" in (out / "table.md").read_text()

    done = pursuhint(*WORDS, "40,100", "--out", out, "--quiet", "--json")  # an overlap more
    assert (done.returncode, done.stderr) == (0, "")
    more = json.loads(done.stdout)
    assert [one["overlap"] for one in more["overlaps"]] == [40, 100]
    assert more["overlaps"][0] == result.model_dump(mode="json")["overlaps"][0]
    assert pursuhint("report", out).returncode == 0

    taught = (*WORDS, "40", "--out", tmp_path / "other", "--order", "seed")
    done = pursuhint(*taught, "--teacher-checkpoint", out / "teacher/student.safetensors")
    assert done.returncode == 1
    assert "was trained on 0, 1, 2, ..." in done.stderr
    assert not (tmp_path / "other").exists()
