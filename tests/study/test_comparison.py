"""From accuracies to comparisons, sentences and notes."""

from __future__ import annotations

import json

import pytest

from pursuhint.errors import PursuhintError
from pursuhint.study import ARMS, Comparison
from pursuhint.study.arm_result import ArmResult, SeedResult, first_of_same
from pursuhint.study.comparison_findings import against_controls, findings_on, notes_on, result_of
from pursuhint.study.facts import DataFacts, NetworkFacts


def arm(name: str, values: list[float], positions: list[int] | None = None, runs_of: str | None = None):
    """An arm whose runs are its own, or those of another arm."""
    runs = [
        SeedResult(
            seed=seed,
            folder=f"arms/{runs_of or name}/seed-{seed}",
            same_as=runs_of,
            positions=tuple(positions or ()),
            modules=tuple(f"layer.{position}" for position in positions or ()),
            last_top1=value,
            best_top1=value + 0.5,
            best_epoch=1,
            seconds=1.0,
        )
        for seed, value in enumerate(values)
    ]
    return ArmResult.of(name, runs)


ALONE = arm("alone", [90.0, 90.5, 91.2])
CONVENTIONAL = arm("conventional", [95.0, 94.1, 95.5], [3, 6, 9])
CENTERS = arm("centers", [95.4, 94.0, 95.9], [2, 5, 8])
KMEANS = arm("kmeans", [95.4, 94.0, 95.9], [2, 5, 8], runs_of="centers")
SEGMENTS = arm("segments", [95.2, 94.9, 95.6], [1, 4, 8])


def comparison(path, *arms: ArmResult) -> Comparison:
    against, sentences = against_controls(arms)
    return Comparison(
        path=path,
        recipe={"student": {"network": "resnet8"}},
        seeds=(0, 1, 2),
        k=3,
        metric="cka",
        position="center",
        chosen_on="test",
        data=DataFacts(name="digits", train=1437, test=360, num_classes=10, in_channels=1, image_size=(8, 8)),
        teacher=NetworkFacts(name="resnet32", parameters=466_618, top1=99.0),
        student=NetworkFacts(name="resnet8", parameters=77_754),
        arms=arms,
        against=against,
        sentences=sentences,
        notes=notes_on(arms, asked_k=3),
        environment={},
    )


def test_the_outcome_is_the_last_epoch_and_the_best_is_kept_apart():
    assert ALONE.last.mean == pytest.approx(90.5667, abs=1e-4)
    assert ALONE.best.mean == pytest.approx(ALONE.last.mean + 0.5)
    assert ALONE.title == ARMS["alone"].title


def test_positions_are_shown_once_unless_seeds_differ():
    assert CENTERS.positions_text == "2, 5, 8"
    assert ALONE.positions_text == "none"
    mixed = ArmResult.of("random", [*arm("random", [1.0], [1, 2]).runs, *arm("random", [1.0], [3, 4]).runs])
    assert mixed.positions_text == "1, 2 / 3, 4"


def test_everything_is_compared_with_conventional_and_placements_with_the_centres():
    against, sentences = against_controls([ALONE, CONVENTIONAL, CENTERS, KMEANS, SEGMENTS])
    assert [pair.arm for pair in against["conventional"]] == ["alone", "centers", "kmeans", "segments"]
    assert [pair.arm for pair in against["centers"]] == ["kmeans", "segments"]
    assert {name: len(said) for name, said in sentences.items()} == {"conventional": 4, "centers": 2}


def test_arms_that_are_the_same_runs_count_once_in_the_correction():
    against, _ = against_controls([ALONE, CONVENTIONAL, CENTERS, KMEANS, SEGMENTS])
    assert {pair.family for pair in against["conventional"]} == {3}
    by_arm = {pair.arm: pair for pair in against["conventional"]}
    assert by_arm["kmeans"].adjusted_p_value == by_arm["centers"].adjusted_p_value


def test_an_arm_that_equals_its_control_is_not_called_undecided():
    _, sentences = against_controls([CONVENTIONAL, CENTERS, KMEANS])
    assert sentences["centers"] == (
        "nothing to compare: chosen (k-means) has the same hint positions as stage centres (2, 5, 8)",
    )
    assert sentences["conventional"][1].endswith("(the same runs as stage centres)")


@pytest.mark.parametrize(
    ("arms", "control"), [((ALONE, SEGMENTS), "alone"), ((ALONE, CENTERS, SEGMENTS), "centers")]
)
def test_without_the_usual_control_another_one_serves(arms, control):
    against, _ = against_controls(arms)
    assert list(against) == [control]
    assert len(against[control]) == len(arms) - 1


def test_hints_that_do_not_reach_the_student_alone_are_said_first():
    below = [arm(name, [89.0, 88.0, 90.0], [3, 6, 9]) for name in ("conventional", "random")]
    (finding,) = findings_on([ALONE, *below])
    assert finding.startswith("every student with hints ended below the student alone (90.57 %")
    taught = arm("kd", [89.0, 88.0, 90.0])
    assert findings_on([ALONE, *below, taught]) == (finding,)
    better = arm("kd", [99.0, 98.0, 99.0])
    assert findings_on([ALONE, *below, better]) == (finding,)  # it has no hints
    assert findings_on([ALONE, *below, CENTERS]) == ()
    assert findings_on([*below]) == ()
    assert findings_on([ALONE, better]) == ()


def test_the_result_is_one_sentence():
    def result(*arms):
        return result_of(arms, against_controls(arms)[0])

    kd = arm("kd", [93.0, 93.0, 93.3])
    same = arm("random", [95.1, 94.0, 95.4], [1, 2, 3])
    start = (
        "the student reaches 90.6 % alone, 93.1 % with the teacher but no hints, 94.8 to 94.9 % with hints; "
    )
    assert result(ALONE, kd, CONVENTIONAL, same) == f"{start}their places are equal within 0.5 points"
    against, _ = against_controls((CONVENTIONAL, same), margin=0.05)
    assert result_of((ALONE, kd, CONVENTIONAL, same), against) == (
        f"{start}no place of the hints can be told from another in 3 seeds"
    )
    better = arm("random", [97.0, 96.2, 97.5], [1, 2, 3])
    assert "their place matters: random is better than conventional" in result(ALONE, CONVENTIONAL, better)
    assert result(ALONE, CONVENTIONAL) == "the student reaches 90.6 % alone, 94.9 % with hints"
    assert "can be told" not in result(*(arm(name, [90.0, 91.0], [1]) for name in ("conventional", "random")))


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_few_seeds_give_one_sentence_and_no_comparison(seeds):
    arms = [arm(name, list(range(90, 90 + seeds))) for name in ("alone", "conventional", "random")]
    arms[2] = arm("random", [95.0, 93.5, 94.2][:seeds], [1, 2, 3])
    against, sentences = against_controls(arms)
    findings = findings_on(arms)
    assert len(findings) == (seeds < 3)
    assert [len(said) for said in sentences.values()] == [0 if seeds < 3 else 2]
    assert all((pair.low is None) == (seeds < 3) for pair in against["conventional"] if pair.arm == "random")


def test_the_sentence_names_direction_and_titles():
    _, sentences = against_controls([ALONE, CONVENTIONAL])
    assert sentences["conventional"][0].startswith("student alone is worse than conventional by 4.3 points")


def test_notes_tell_equal_arms_and_other_numbers_of_hints():
    assert first_of_same([CENTERS, KMEANS, SEGMENTS]) == {
        "centers": "centers",
        "kmeans": "centers",
        "segments": "segments",
    }
    notes = notes_on([CENTERS, KMEANS, arm("segments", [1.0, 2.0, 3.0], [1, 2, 3, 4])], asked_k=3)
    assert notes[0].startswith("Chosen (k-means) has the same hint positions as stage centres (2, 5, 8)")
    assert notes[1].startswith("Chosen (segments) has 4 hints where the chosen arms have 3")


def test_a_run_shared_for_one_seed_is_noted():
    runs = (
        arm("random", [95.0], [2, 5, 8], runs_of="centers").runs[0],
        arm("random", [1.0, 2.0], [1, 2, 3]).runs[1],
    )
    notes = notes_on([CENTERS, ArmResult.of("random", runs)], asked_k=3)
    assert notes == ("Random has, for seed 0, the same hint positions as stage centres; that run is shared.",)


def test_file_round_trip(tmp_path):
    before = comparison(tmp_path, ALONE, CONVENTIONAL, CENTERS, KMEANS, SEGMENTS)
    before.save()
    assert Comparison.load(tmp_path) == before
    assert json.loads((tmp_path / "compare.json").read_text(encoding="utf-8"))["schema"] == 1
    assert before.arm("alone") == ALONE
    with pytest.raises(PursuhintError, match="no arm 'other'; there are alone, conventional"):
        before.arm("other")


def test_damaged_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "compare.json"
    with pytest.raises(PursuhintError, match="no comparison at"):
        Comparison.load(tmp_path)
    path.write_text('{"schema": 7}', encoding="utf-8")
    with pytest.raises(PursuhintError, match="has schema 7; this version of PursuHint reads schema 1"):
        Comparison.load(tmp_path)
    path.write_text('{"schema": 1, "seeds": ["x"]}', encoding="utf-8")
    with pytest.raises(PursuhintError, match=r"comparison .*compare\.json is not valid: "):
        Comparison.load(tmp_path)
