"""Reading, checking, changing and writing recipes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pursuhint.errors import PursuhintError
from pursuhint.training import LossConfig, Recipe

TEXT = """
student: resnet8
teacher: {network: resnet20, checkpoint: teacher.safetensors}
data: cifar100
losses: {ce: 1, at: {weight: 1000, p: 2}, vid:}
optimizer: {lr: 5e-2}
"""


def test_short_forms_mean_the_obvious():
    recipe = Recipe.from_yaml(TEXT)
    assert recipe.student.network == "resnet8"
    assert recipe.data.name == "cifar100"
    assert recipe.losses == {
        "ce": LossConfig(weight=1.0),
        "at": LossConfig(weight=1000.0, options={"p": 2}),
        "vid": LossConfig(weight=None),
    }


def test_numbers_in_scientific_notation_are_numbers():
    # YAML 1.1 reads 5e-2 as text, because it has no point
    recipe = Recipe.from_yaml("student: resnet8\noptimizer: {lr: 5e-2}\nlosses: {at: {weight: 1e3, q: 1e-5}}")
    assert recipe.optimizer.lr == 0.05
    assert recipe.losses["at"] == LossConfig(weight=1000.0, options={"q": 1e-5})


def test_dump_is_complete_and_repeats_the_recipe():
    recipe = Recipe.from_yaml(TEXT)
    assert Recipe.from_yaml(recipe.dump()) == recipe
    for key in ("weight_decay", "milestones", "precision", "val_fraction", "seed", "hints"):
        assert key in recipe.dump()


def test_saved_recipe_is_loaded_from_its_file(tmp_path):
    recipe = Recipe.from_yaml(TEXT)
    recipe.save(tmp_path / "recipe.yaml")
    assert Recipe.load(tmp_path / "recipe.yaml") == recipe
    assert Recipe.load(str(tmp_path / "recipe.yaml")) == recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("student: resnet8\noptimiser: {lr: 1}", "unknown key 'optimiser'; did you mean 'optimizer'"),
        ("student: resnet8\noptimizer: {lrr: 1}", "unknown key 'optimizer.lrr'; did you mean 'lr'"),
        ("student: resnet8\nhints: {stratgy: chosen}", "'hints.stratgy'; did you mean 'strategy'"),
        ("student: {nework: resnet8}", "'student.network' is missing; unknown key 'student.nework'"),
        ("student: resnet8\noptimizer: {lr: -1}", "'optimizer.lr' must be greater than 0, got -1"),
        ("student: resnet8\noptimizer: {lr: .nan}", "'optimizer.lr' must be a finite number, got nan"),
        ("student: resnet8\nepochs: many", "'epochs' must be a valid integer, got 'many'"),
        ("student: resnet8\nschedule: cosin", "'schedule.kind' has no choice 'cosin'; did you mean 'cosine'"),
        ("student: resnet8\noptimizer: 5", "'optimizer' must be a mapping of keys to values, got 5"),
        ("student: resnet8\nlosses: {att: 1}", "no loss named 'att'; did you mean 'at'"),
        ("student: resnet8\nlosses: {at: -1}", "'losses.at.weight' must be greater than or equal to 0"),
        ("student: resnet8\nhints: {metric: cak}", "no metric named 'cak'; did you mean 'cka'"),
        (
            "student: resnet8\nhints: {algorithm: kmean}",
            "no clustering algorithm named 'kmean'; did you mean",
        ),
        (
            "student: resnet8\nhints: {strategy: random, points: [layer1.0]}",
            "give points with strategy 'explicit'",
        ),
        ("student: resnet8\nhints: {strategy: explicit}", "give points with strategy 'explicit'"),
        (
            "student: resnet8\nhints: {strategy: explicit, points: [a, b], k: 3}",
            "hints.k is 3, but hints.points names 2",
        ),
        ("student: resnet8\nschedule: {milestones: [30, 20]}", "schedule.milestones must increase"),
        ("student: resnet8\nschedule: {kind: cosine, milestones: [3]}", "milestones belong to kind 'step'"),
        ("student: resnet8\nschedule: {kind: one-cycle, warmup_epochs: 3}", "warmup_epochs must be 0"),
        ("student: resnet8\noptimizer: {momentum: 0, nesterov: true}", "nesterov needs"),
        ("student: resnet8\n  data: digits", "not valid YAML (line 2)"),
        ("- student", "must be a mapping of keys to values, got list"),
        ("student: !!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_mistakes_are_one_clear_line(text, message):
    with pytest.raises(PursuhintError) as caught:
        Recipe.from_yaml(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_names_suggest_a_shipped_recipe():
    with pytest.raises(PursuhintError, match="no recipe named 'cifar100-tat'; did you mean 'cifar100-at'"):
        Recipe.load("cifar100-tat")


def test_missing_files_are_not_taken_for_names(tmp_path):
    with pytest.raises(PursuhintError, match="the file does not exist"):
        Recipe.load(tmp_path / "none.yaml")


class TestOverride:
    recipe = Recipe.from_yaml(TEXT)

    @pytest.mark.parametrize(
        ("assignment", "read", "value"),
        [
            ("optimizer.lr=0.1", lambda recipe: recipe.optimizer.lr, 0.1),
            ("optimizer.weight_decay=1e-4", lambda recipe: recipe.optimizer.weight_decay, 1e-4),
            ("schedule=one-cycle", lambda recipe: recipe.schedule.kind, "one-cycle"),
            ("student.options.width=0.5", lambda recipe: recipe.student.options, {"width": 0.5}),
            ("data=stl10", lambda recipe: recipe.data.name, "stl10"),
            ("hints.k=4", lambda recipe: recipe.hints.k, 4),
            ("hints=chosen", lambda recipe: recipe.hints.strategy, "chosen"),
            ("teacher=null", lambda recipe: recipe.teacher, None),
            ("teacher=resnet32", lambda recipe: recipe.teacher.checkpoint, "teacher.safetensors"),
            ("losses.at=500", lambda recipe: recipe.losses["at"], LossConfig(weight=500, options={"p": 2})),
            ("losses.at=null", lambda recipe: recipe.losses["at"], LossConfig(weight=None, options={"p": 2})),
            ("losses.at.p=1", lambda recipe: recipe.losses["at"], LossConfig(weight=1000, options={"p": 1})),
            ("losses.kd=0.9", lambda recipe: recipe.losses["kd"], LossConfig(weight=0.9)),
        ],
    )
    def test_changes_one_value(self, assignment, read, value):
        assert read(self.recipe.override(assignment)) == value

    def test_leaves_the_original_and_applies_in_order(self):
        changed = self.recipe.override(["epochs=3", "epochs=4"])
        assert (self.recipe.epochs, changed.epochs) == (240, 4)

    @pytest.mark.parametrize(
        ("assignment", "message"),
        [
            ("optimizer.lrr=1", "unknown key 'optimizer.lrr'; did you mean 'lr'"),
            ("optimiser.lr=1", "unknown key 'optimiser'; did you mean 'optimizer'"),
            ("epochs.x=1", "'epochs' holds a value, not keys; write epochs=VALUE"),
            ("epochs", "write KEY=VALUE"),
            ("=3", "write KEY=VALUE"),
            ("epochs=[", "cannot read the value '\\['"),
        ],
    )
    def test_refuses_mistakes(self, assignment, message):
        with pytest.raises(PursuhintError, match=message):
            self.recipe.override(assignment)


def test_reading_a_recipe_needs_no_torch():
    code = (
        "import sys; from pursuhint.training import Recipe; "
        "Recipe.load('cifar100-at'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
