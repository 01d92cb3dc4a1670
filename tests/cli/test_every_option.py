"""No option is ever ignored: each changes what a command does, or is refused.

`OPTIONS` has a row for every option of every command; an option without one fails. A row holds calls that
differ by the option alone and what must differ with it: the arguments of the function that the command calls
(`Changes`), what the command refuses (`Refused`), or a test elsewhere that looks at the result (`Shown`).
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

import click
import pytest
from pursuhint.cli.main import COMMANDS, main

from pursuhint.errors import PursuhintError

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Changes:
    """``more`` changes what the command passes on.

    Attributes:
        more: the option as it is typed.
        base: further words of both calls.
        without: words that the other call has in its place.
        first: first words of both calls, instead of the command's in FIRST_WORDS.
    """

    more: str
    base: str = ""
    without: str = ""
    first: str = ""


@dataclass(frozen=True)
class Refused:
    """``words`` end with one line that names the option."""

    words: str
    message: str


@dataclass(frozen=True)
class Shown:
    """A test that compares results, as ``file::function``."""

    test: str


Row = Changes | Refused | Shown

POINTS_TEST = "test_points_lists_positions_and_marks_the_conventional_ones"
RULE_TEST = "tests/cli/test_analysis.py::test_points_marks_and_writes_the_points_of_a_rule"
FIGURES_TEST = "test_figures_of_one_folder_go_into_it_and_of_several_where_out_says"
REPORT_TEST = "test_report_on_how_alike_teacher_and_student_are"
PT2_TEST = "test_pt2_with_normalisation_takes_images_in_0_to_1"
BUNDLE_TEST = "test_export_bundle_writes_where_it_is_told_and_nowhere_else"
PREDICT_TESTS = {
    "--top": "test_a_folder_is_classified_as_evaluate_says",
    "--weights": "test_the_table_has_a_row_for_each_class",
    "--batch-size": "test_a_folder_is_classified_as_evaluate_says",
    "--trust-code": "test_bundles_and_onnx_files_predict_as_their_run_does",
    "--quiet": "test_the_table_has_a_row_for_each_class",
    "--json": "test_a_folder_is_classified_as_evaluate_says",
}

TEACHER = "--teacher resnet14 --teacher-checkpoint {weights}"
RECIPE = f"--student resnet8 --data digits {TEACHER} --loss at"
FILE_IS_REPLACED = Shown("tests/cli/test_overwrite.py::test_a_file_is_replaced_on_request_only")
LAST_LINE = Shown("tests/cli/test_every_option.py::test_json_prints_json_and_quiet_nothing")

SEARCH_TEST = Shown("tests/cli/test_search.py::test_json_quiet_report_and_the_recipe_of_the_best_trial")

RECIPE_ROWS: Mapping[str, Row] = {
    "--recipe": Changes("--recipe digits-pursuhint"),
    "--loss": Changes("--loss kd"),
    "--epochs": Changes("--epochs 3"),
    "--lr": Changes("--lr 0.01"),
    "--val-fraction": Changes("--val-fraction 0.25"),
    "--train-samples": Changes("--train-samples 500"),
    "--only-classes": Changes("--only-classes 0-4"),
    "--precision": Changes("--precision bf16"),
    "--set": Changes("--set optimizer.weight_decay=0.001"),
    "--teacher": Changes("--teacher resnet20"),
    "--teacher-checkpoint": Changes("--teacher-checkpoint {other}"),
    "--pretrained": Refused("--pretrained", "either --teacher-checkpoint FILE or --pretrained"),
    "--student-checkpoint": Changes("--student-checkpoint {other}"),
    "--student-pretrained": Refused("--student-pretrained", "nobody publishes weights for 'resnet8'"),
    "--checkpoint-key": Changes("--checkpoint-key state_dict_ema"),
    "--new-head": Changes("--new-head"),
    "--student": Changes("--student resnet14"),
    "--data": Changes("--data cifar10"),
    "--data-root": Changes("--data-root {tmp}"),
    "--download": Changes("--download"),
    "--tokenizer": Refused("--tokenizer {tmp}/none.json", "no tokenizer"),
    "--image-size": Changes("--image-size 16"),
    "--image-channels": Changes("--image-channels 3"),
    "--image-normalize": Changes("--image-normalize 0.5/0.5"),
    "--exif": Changes("--no-exif"),
    "--workers": Changes("--workers 2"),
    "--batch-size": Changes("--batch-size 32"),
    "--trust-code": Refused("--trust-code", "--trust-code"),
}

ANALYSIS_ROWS: Mapping[str, Row] = {
    "--metric": Changes("--metric r2cca"),
    "--k": Changes("--k 2"),
    "--algorithm": Changes("--algorithm segments"),
    "--position": Changes("--position last"),
}

OPTIONS: Mapping[str, Mapping[str, Row]] = {
    "train": {
        **RECIPE_ROWS,
        "--hints": Changes("--hints centers"),
        "--seed": Changes("--seed 1"),
        "--save-every-steps": Changes("--save-every-steps 5"),
        "--tracker": Changes("--tracker tensorboard"),
        "--sync-batchnorm": Changes("--sync-batchnorm"),
        "--record-teacher": Changes("--record-teacher {tmp}/recording"),
        "--no-report": Shown("tests/cli/test_every_option.py::test_without_a_report"),
        "--overwrite": Changes("--overwrite"),
        "--device": Changes("--device meta", without="--device cpu"),
        "--out": Changes("--out {tmp}/b", without="--out {tmp}/a"),
        "--quiet": LAST_LINE,
        "--json": LAST_LINE,
    },
    "search": {
        **RECIPE_ROWS,
        "--vary": Changes("--vary losses.at.p=1,2"),
        "--trials": Changes("--trials 3"),
        "--pruner": Changes("--pruner hyperband"),
        "--at-once": Changes("--at-once 2"),
        "--confirm-seeds": Changes("--confirm-seeds 2"),
        "--overwrite": Changes("--overwrite"),
        "--hints": Changes("--hints centers"),
        "--seed": Changes("--seed 1"),
        "--record-teacher": Changes("--record-teacher {tmp}/recording"),
        "--no-report": SEARCH_TEST,
        "--device": Changes("--device meta", without="--device cpu"),
        "--out": Changes("--out {tmp}/b", without="--out {tmp}/a"),
        "--quiet": SEARCH_TEST,
        "--json": SEARCH_TEST,
    },
    "compare": {
        **RECIPE_ROWS,
        **{name: row for name, row in ANALYSIS_ROWS.items() if name != "--algorithm"},
        "--arm": Changes("--arm random"),
        "--method": Changes("--method kd+sp", without="--method kd"),
        "--loss-set": Changes("--loss-set a=at,kd", without="--loss-set a=at"),
        "--hints": Changes("--hints 1,2", base="--method at"),
        "--at-once": Changes("--at-once 2"),
        "--streams": Refused("--streams --device cpu", "--streams would be ignored: only a GPU has streams"),
        "--margin": Changes("--margin 1"),
        "--overwrite": Changes("--overwrite"),
        "--until-decided": Changes("--until-decided"),
        "--max-seeds": Changes("--max-seeds 9", base="--until-decided"),
        "--error-over": Changes("--error-over all", base="--until-decided --loss-set a=at --loss-set b=sp"),
        "--record-teacher": Changes("--record-teacher {tmp}/recordings"),
        "--seeds": Changes("--seeds 3"),
        "--activation": Changes("--activation pre"),
        "--samples": Changes("--samples auto"),
        "--max-samples": Changes("--max-samples 800", base="--samples auto"),
        "--stable-at": Changes("--stable-at 0.9", base="--samples auto"),
        "--device": Changes("--device meta", without="--device cpu"),
        "--out": Changes("--out {tmp}/b", without="--out {tmp}/a"),
        "--quiet": Shown("tests/study/test_study_progress.py::test_nothing_when_quiet"),
        "--json": Shown("tests/cli/test_compare.py::test_methods"),
    },
    "pathways": {
        **RECIPE_ROWS,
        "--overwrite": FILE_IS_REPLACED,
        "--loss": Changes("--loss kd"),
        "--search-epochs": Changes("--search-epochs 3"),
        "--held-out": Changes("--held-out 0.5"),
        "--method": Changes("--method exact"),
        "--hints": Changes("--hints {tmp}/hints.json"),
        "--seed": Changes("--seed 1"),
        "--device": Changes("--device meta", without="--device cpu"),
        "--out": Shown("tests/study/test_pathway_search.py::test_command_writes_the_recipe"),
        "--quiet": Shown("tests/study/test_pathway_search.py::test_command_writes_the_recipe"),
        "--json": Shown("tests/study/test_pathway_search.py::test_command_writes_the_recipe"),
    },
    "profile": {
        "--recipe": Changes("--recipe cifar100-kd", base="--input 3x32x32 --classes 5 --student resnet8"),
        "--student": Changes("--student resnet20", base="--input 1x8x8 --classes 10 --student resnet8"),
        "--teacher": Changes("--teacher resnet14", base="--input 1x8x8 --classes 10 --student resnet8"),
        "--input": Changes("--input 1x16x16", base="--classes 10 --student resnet8", without="--input 1x8x8"),
        "--classes": Changes("--classes 5", base="--input 1x8x8 --student resnet8", without="--classes 4"),
        "--at-batch": Changes("--at-batch 2", base="--input 1x8x8 --classes 10 --student resnet8"),
        "--repeats": Changes("--repeats 2", base="--input 1x8x8 --classes 10 --student resnet8"),
        "--device": Changes("--device meta", base="--input 1x8x8 --classes 10 --student resnet8"),
        "--steps": Changes("--steps 1", base="--student resnet8"),
        "--json": Shown("tests/cli/test_profile.py::test_steps_and_json"),
        "--image-size": Changes("--image-size 16x8", base="--student resnet8"),
        "--image-channels": Changes("--image-channels 3", base="--student resnet8"),
        "--data": Changes("--data folder:{photos}", base="--student resnet8"),
        "--data-root": Refused(
            "--student resnet8 --input 1x8x8 --classes 10 --data-root {tmp}", "--data-root would be ignored"
        ),
        "--download": Refused(
            "--student resnet8 --input 1x8x8 --classes 10 --download", "--download would be ignored"
        ),
        **{
            option: Refused(f"--student resnet8 {typed}", f"{option} would be ignored")
            for option, typed in {
                "--loss": "--loss kd",
                "--epochs": "--epochs 3",
                "--lr": "--lr 0.1",
                "--val-fraction": "--val-fraction 0.1",
                "--train-samples": "--train-samples 500",
                "--only-classes": "--only-classes 0-4",
                "--precision": "--precision bf16",
                "--set": "--set seed=3",
                "--teacher-checkpoint": "--teacher resnet8 --teacher-checkpoint {weights}",
                "--pretrained": "--teacher timm:resnet18 --pretrained",
                "--student-checkpoint": "--student-checkpoint {weights}",
                "--student-pretrained": "--student timm:resnet18 --student-pretrained",
                "--checkpoint-key": "--checkpoint-key model",
                "--new-head": "--new-head",
                "--image-normalize": "--image-normalize data",
                "--tokenizer": "--tokenizer owner/name",
                "--exif": "--no-exif",
                "--workers": "--workers 2",
                "--batch-size": "--batch-size 32",
            }.items()
        },
        "--trust-code": Refused("--student resnet8 --trust-code", "--trust-code"),
    },
    "analyze": {
        **ANALYSIS_ROWS,
        "--teacher": Changes("--teacher resnet20", without="--teacher resnet14"),
        "--teacher-checkpoint": Changes(
            "--teacher-checkpoint {other}",
            without="--teacher-checkpoint {weights}",
            first="--teacher resnet14 --out {tmp}/out",
        ),
        "--random-weights": Changes(
            "--random-weights",
            without="--teacher-checkpoint {weights}",
            first="--teacher resnet14 --out {tmp}/out",
        ),
        "--pretrained": Refused(
            f"{TEACHER} --pretrained", "either --teacher-checkpoint FILE or --pretrained"
        ),
        "--checkpoint-key": Refused(f"{TEACHER} --checkpoint-key other", "other"),
        "--new-head": Refused("--teacher resnet14 --new-head", "--new-head need --teacher-checkpoint"),
        "--data": Changes("--data folder:{photos}"),
        "--data-root": Refused("--teacher resnet14 --data-root {tmp}", "leave data.root (--data-root) out"),
        "--download": Refused("--teacher resnet14 --download", "leave data.download (--download) out"),
        "--tokenizer": Refused("--teacher resnet14 --tokenizer owner/name", "digits is no text:PATH"),
        "--image-size": Changes("--image-size 16"),
        "--image-channels": Changes("--image-channels 3", base="--data folder:{photos}"),
        "--image-normalize": Changes("--image-normalize imagenet"),
        "--val-fraction": Changes("--val-fraction 0.25"),
        "--exif": Refused("--teacher resnet14 --no-exif", "leave data.exif (--exif) out"),
        "--normalize": Changes("--normalize", base="--metric r2cca"),
        "--activation": Changes("--activation both"),
        "--pooling": Changes("--pooling max"),
        "--points": Changes("--points layer3.*"),
        "--samples": Changes("--samples auto"),
        "--max-samples": Changes("--max-samples 800", base="--samples auto"),
        "--stable-at": Changes("--stable-at 0.9", base="--samples auto"),
        "--batch-size": Changes("--batch-size 32"),
        "--stability": Changes("--no-stability"),
        "--memory-limit": Changes("--memory-limit 1GB"),
        "--exact-median": Refused("--teacher resnet14 --exact-median", "--exact-median would be ignored"),
        "--class-quality": Changes("--class-quality"),
        "--set": Changes("--set teacher.options.in_channels=2"),
        "--seed": Changes("--seed 1"),
        "--device": Refused("--teacher resnet14 --device tpu7", "no device 'tpu7' here"),
        "--precision": Changes("--precision bf16", without="--precision float32"),
        "--workers": Changes("--workers 2"),
        "--num-classes": Changes("--num-classes 7"),
        "--overwrite": Shown(
            "tests/_util/test_output_folder.py::test_another_networks_analysis_is_replaced_on_request_only"
        ),
        "--out": Changes("--out {tmp}/b", without="--out {tmp}/a"),
        "--quiet": Shown("tests/cli/test_analysis.py::test_analyze_then_select"),
        "--json": Shown("tests/cli/test_analysis.py::test_analyze_then_select"),
    },
    "evaluate": {
        "--weights": Refused(f"{TEACHER} --weights best", "--weights would be ignored"),
        "--split": Changes("--split train"),
        "--teacher": Refused("--teacher resnet14", "what is to be evaluated?"),
        "--teacher-checkpoint": Refused("--teacher-checkpoint {weights}", "what is to be evaluated?"),
        "--pretrained": Refused(
            f"{TEACHER} --pretrained", "either --teacher-checkpoint FILE or --pretrained"
        ),
        "--checkpoint-key": Refused(f"{TEACHER} --checkpoint-key other", "other"),
        "--data": Changes("--data folder:{photos}"),
        "--data-root": Refused(f"{TEACHER} --data-root {{tmp}}", "leave data.root (--data-root) out"),
        "--download": Refused(f"{TEACHER} --download", "leave data.download (--download) out"),
        "--tokenizer": Refused(f"{TEACHER} --tokenizer owner/name", "digits is no text:PATH"),
        "--image-size": Changes("--image-size 16"),
        "--image-channels": Refused(f"{TEACHER} --image-channels 3", "(--image-channels 1, data.channels"),
        "--image-normalize": Changes("--image-normalize imagenet"),
        "--val-fraction": Changes("--val-fraction 0.25", base="--split train"),
        "--exif": Refused(f"{TEACHER} --no-exif", "leave data.exif (--exif) out"),
        "--set": Shown("tests/integrations/test_text.py::test_a_network_by_name_with_its_options"),
        "--batch-size": Changes("--batch-size 32"),
        "--workers": Changes("--workers 2", base="--data folder:{photos}"),
        "--trust-code": Refused(f"{TEACHER} --trust-code", "--trust-code needs a run folder"),
        "--device": Refused(f"{TEACHER} --device tpu7", "no device 'tpu7' here"),
        "--json": Shown("tests/cli/test_train.py::test_train_evaluate_report"),
    },
    "points": {
        "--data": Changes("--data folder:{photos}"),
        "--data-root": Refused("--data-root {tmp}", "leave data.root (--data-root) out"),
        "--download": Refused("--download", "leave data.download (--download) out"),
        "--image-size": Changes("--image-size 16"),
        "--val-fraction": Refused("--val-fraction 0.25", "--val-fraction would be ignored: digits has"),
        "--tokenizer": Refused("--tokenizer owner/name", "digits is no text:PATH"),
        "--set": Changes("--set teacher.options.in_channels=2"),
        "--activation": Changes("--activation pre"),
        "--points": Changes("--points layer3.*"),
        "--size": Changes("--size 32"),
        "--channels": Changes("--channels 1", base="--size 32"),
        "--json": Shown(f"tests/cli/test_analysis.py::{POINTS_TEST}"),
        "--rule": Shown(RULE_TEST),
        "--k": Refused("--k 2", "--k would be ignored"),
        "--out": Shown(RULE_TEST),
        "--overwrite": FILE_IS_REPLACED,
    },
    "report": {
        "--teacher-student": Shown(f"tests/cli/test_train.py::{REPORT_TEST}"),
        "--metric": Refused("{tmp} --metric cka", "--metric would be ignored"),
        "--samples": Refused("{tmp} --samples 100", "--samples would be ignored"),
        "--device": Refused("{tmp} --device cpu", "--device would be ignored"),
        "--quiet": Refused("{tmp} --quiet", "--quiet would be ignored"),
        "--trust-code": Refused("{tmp} --trust-code", "--trust-code would be ignored"),
        "--figure": Shown(f"tests/cli/test_report_figures.py::{FIGURES_TEST}"),
        "--out": Shown(f"tests/cli/test_report_figures.py::{FIGURES_TEST}"),
        "--images": Refused("{tmp} --images 2", "--images would be ignored"),
        "--seed": Refused("{tmp} --seed 1", "--seed would be ignored"),
        "--json": Shown("tests/cli/test_every_option.py::test_json_prints_json_and_quiet_nothing"),
    },
    "select": {
        name: Shown("tests/cli/test_every_option.py::test_select")
        for name in (
            *("--metric", "--k", "--algorithm", "--normalize", "--position", "--rule"),
            *("--json", "--out"),
        )
    }
    | {"--overwrite": FILE_IS_REPLACED},
    "predict": {
        **{option: Shown(f"tests/cli/test_predict.py::{test}") for option, test in PREDICT_TESTS.items()},
        "--file": Refused("{run} {photo} --file {photo}", "--file would be ignored"),
        "--device": Refused("{run} {photo} --device tpu7", "no device 'tpu7' here"),
    },
    "export": {
        "--overwrite": FILE_IS_REPLACED,
        "--format": Shown("tests/cli/test_export.py::test_safetensors_copies_the_weights"),
        "--weights": Shown("tests/cli/test_export.py::test_safetensors_copies_the_weights"),
        "--include-normalization": Shown(f"tests/cli/test_export.py::{PT2_TEST}"),
        "--bundle": Shown(f"tests/cli/test_predict.py::{BUNDLE_TEST}"),
        "--out": Shown("tests/cli/test_export.py::test_safetensors_copies_the_weights"),
        "--trust-code": Shown(
            "tests/training/recipe/test_received.py::test_a_trusted_recipe_runs_and_its_run_needs_trust_again"
        ),
        "--json": Shown("tests/cli/test_export.py::test_onnxruntime_gives_the_logits_of_the_student"),
    },
    "demo": {
        "--out": Changes("--out {tmp}/b", without="--out {tmp}/a"),
        "--device": Changes("--device meta", without="--device cpu"),
        "--overwrite": Changes("--overwrite"),
        "--quiet": Changes("--quiet"),
        "--json": Shown("tests/test_demo.py::test_command_prints_what_it_found"),
    },
    "table": {
        name: Shown(f"tests/cli/test_table.py::{test}")
        for name, test in {
            "--paper": "test_a_table_as_published",
            "--table": "test_a_table_as_published",
            "--format": "test_formats",
            "--out": "test_a_file",
            "--json": "test_a_table_as_published",
        }.items()
    }
    | {"--overwrite": FILE_IS_REPLACED},
    "table run": {
        "--seeds": Changes("--seeds 0-2"),
        "--epochs": Changes("--epochs 3"),
        "--data": Changes("--data digits"),
        "--set": Changes("--set precision=bf16"),
        "--teacher-weights": Changes("--teacher-weights resnet56={weights}"),
        "--part": Changes("--part 3/16"),
        "--overwrite": Changes("--overwrite"),
        "--dry-run": Shown("tests/study/test_grid_cost.py::test_a_dry_run_trains_nothing"),
        "--submit": Refused(
            "--submit local --dry-run", "--submit would be ignored: --dry-run trains nothing"
        ),
        "--jobs": Refused("--jobs 2", "--jobs would be ignored: they go with --submit"),
        "--job-setting": Refused("--job-setting timeout_min=9", "--job-setting would be ignored"),
        "--seconds-per-step": Refused("--seconds-per-step 0.1", "--seconds-per-step would be ignored"),
        "--data-root": Changes("--data-root {tmp}"),
        "--download": Changes("--download"),
        "--device": Changes("--device meta", without="--device cpu"),
        "--out": Changes("--out {tmp}/b", without="--out {tmp}/a"),
        "--quiet": Shown("tests/cli/test_table_run.py::test_a_grid_is_trained_and_stands_beside_itself"),
        "--json": Shown("tests/cli/test_table_run.py::test_a_grid_is_trained_and_stands_beside_itself"),
    },
    "crosstask": {
        **{key: row for key, row in RECIPE_ROWS.items() if key not in ("--loss", "--only-classes")},
        "--overlap": Changes("--overlap 0,100"),
        "--method": Changes("--method rkd"),
        "--settings": Changes("--settings conference"),
        "--matching-epochs": Changes("--matching-epochs 3"),
        "--keep-matching": Changes("--keep-matching last"),
        "--score-every": Changes("--score-every 3"),
        "--order": Changes("--order labels"),
        "--overwrite": Changes("--overwrite"),
        "--order-seed": Changes("--order seed --order-seed 1", without="--order seed"),
        "--task-classes": Changes("--task-classes 3"),
        "--at-once": Changes("--at-once 1"),
        "--margin": Changes("--margin 1"),
        "--seeds": Changes("--seeds 0-1"),
        "--device": Changes("--device meta", without="--device cpu"),
        "--out": Changes("--out {tmp}/other"),
        "--quiet": Shown("tests/cli/test_crosstask.py::test_the_whole_protocol"),
        "--json": Shown("tests/cli/test_crosstask.py::test_the_whole_protocol"),
    },
    "transfer": {
        "--to": Changes("--to cifar10"),
        "--classifier": Changes("--classifier sgd"),
        "--epochs": Changes("--epochs 3"),
        "--lr": Changes("--lr 0.01"),
        "--augment": Changes("--augment"),
        "--drift": Changes("--drift"),
        "--weights": Changes("--weights best"),
        "--overwrite": FILE_IS_REPLACED,
        "--val-fraction": Changes("--val-fraction 0.25"),
        "--save": Shown("tests/cli/test_transfer.py::test_table_json_and_file"),
        "--format": Refused("{run} --to digits --format csv --json", "--json and --format csv exclude"),
        "--out": Shown("tests/cli/test_transfer.py::test_table_json_and_file"),
        "--data-root": Changes("--data-root {tmp}"),
        "--download": Changes("--download"),
        "--workers": Changes("--workers 2"),
        "--trust-code": Changes("--trust-code"),
        "--seed": Changes("--seed 1"),
        "--device": Changes("--device meta", without="--device cpu"),
        "--quiet": Shown("tests/cli/test_transfer.py::test_table_json_and_file"),
        "--json": Shown("tests/cli/test_transfer.py::test_table_json_and_file"),
    },
    "list": {
        "--verbose": Shown("tests/cli/test_help.py::test_lists"),
        "--json": Shown("tests/cli/test_help.py::test_lists"),
    },
}

FIRST_WORDS = {
    "train": f"{RECIPE} --out {{tmp}}/out",
    "search": f"{RECIPE} --vary losses.at=1..100:log --out {{tmp}}/out",
    "compare": f"{RECIPE} --out {{tmp}}/out",
    "crosstask": f"{RECIPE.removesuffix(' --loss at')} --out {{tmp}}/out",
    "pathways": f"{RECIPE} --loss distpro --out {{tmp}}/out.yaml",
    "analyze": "--teacher resnet14 --random-weights --data digits --out {tmp}/out",
    "evaluate": TEACHER,
    "points": "resnet14",
    "profile": "",
    "demo": "",
    "table run": "icd-1 --out {tmp}/out",
    "transfer": "{run} --to digits",
}

CALLED = {
    "train": "pursuhint.training:train",
    "search": "pursuhint.study:search",
    "compare": "pursuhint.study:compare pursuhint.study:compare_methods pursuhint.study:compare_crossed",
    "crosstask": "pursuhint.study:crosstask",
    "pathways": "pursuhint.study.pathway_search:search_process",
    "analyze": "pursuhint.analysis.run_analysis:analyze",
    "evaluate": "pursuhint.training:evaluate",
    "points": "pursuhint.features.hint_points:find_hint_points",
    "profile": "pursuhint.study.profile:profile_networks pursuhint.study.profile:profile_steps",
    "demo": "pursuhint.demo:demo",
    "table run": "pursuhint.study:run_grid",
    "transfer": "pursuhint.study:transfer",
}


def options_of(command: str) -> set[str]:
    parameters = main.get_command(click.Context(main), command).params
    return {parameter.opts[0] for parameter in parameters if isinstance(parameter, click.Option)} - {"--help"}


ROWS = [(command, option, row) for command, rows in OPTIONS.items() for option, row in rows.items()]


def test_every_option_of_every_command_has_a_row():
    assert set(OPTIONS) == set(COMMANDS)
    for command, rows in OPTIONS.items():
        assert set(rows) == options_of(command), command


class Called(Exception):
    """What a command passes on."""


def told(value: Any) -> Any:
    """What distinguishes a value from others of its kind; functions count by their settings."""
    import torch

    if isinstance(value, torch.nn.Module):
        return type(value).__name__, [(name, told(tensor)) for name, tensor in value.state_dict().items()]
    if isinstance(value, torch.Tensor):
        return tuple(value.shape), value.double().sum().item()
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if isinstance(value, FunctionType):
        return value.__qualname__
    if callable(value) and hasattr(value, "quiet"):
        return value.quiet
    if hasattr(value, "train") and hasattr(value, "class_names"):
        return value.name, value.image_size, len(value.train), value.mean, value.exif
    if type(value).__name__ == "Loader":
        return {key: told(entry) for key, entry in vars(value).items() if key != "_order"}
    return value if isinstance(value, str | int | float | tuple | list | dict | None) else str(value)


@pytest.fixture
def places(tmp_path):
    """Paths that rows name: weights of a teacher, others, a folder of photographs, a run."""
    import torch
    from PIL import Image

    from pursuhint.models import create_model
    from pursuhint.models.checkpoint import save_weights

    torch.manual_seed(0)
    names = {"weights": tmp_path / "a.safetensors", "other": tmp_path / "b.safetensors"}
    for path in names.values():
        save_weights(create_model("resnet14", num_classes=10, in_channels=1), path)
    for split in ("train", "val"):
        for label in range(10):
            folder = tmp_path / "photos" / split / f"class{label}"
            folder.mkdir(parents=True)
            Image.new("L", (8, 8), 20 * label).save(folder / "0.png")
    photos, run = tmp_path / "photos", tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text("student: resnet8\n")
    return {"tmp": tmp_path, "photos": photos, "photo": photos / "val/class0/0.png", "run": run, **names}


def call(command: str, words: str, places: Mapping[str, Path]) -> Any:
    """What the command passes on when it is called with these words."""
    arguments = [*command.split(), *words.format(**places).split()]
    try:
        main.main(args=arguments, standalone_mode=False)
    except Called as found:
        return found.args[0]
    raise AssertionError(f"{command} called nothing")


@pytest.mark.parametrize(
    ("command", "option", "row"),
    [row for row in ROWS if isinstance(row[2], Changes)],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_it_changes_what_is_done(command, option, row, places, monkeypatch):
    def record(name: str) -> Any:
        def call_(*arguments: Any, **options: Any) -> None:
            raise Called(
                repr((name, [told(value) for value in arguments], {k: told(v) for k, v in options.items()}))
            )

        return call_

    called = CALLED[command]
    if (command, option) == ("evaluate", "--workers"):
        called = "pursuhint.data:make_loader"  # few images are in memory, where no workers are needed
    for target in called.split():
        module, _, name = target.partition(":")
        if (command, option) == ("profile", "--steps") and name == "profile_networks":
            monkeypatch.setattr(importlib.import_module(module), name, lambda *_, **__: None)
            continue
        monkeypatch.setattr(importlib.import_module(module), name, record(name))
    if (command, option) == ("profile", "--student"):
        seen: list[str] = []
        profile = importlib.import_module("pursuhint.study.profile")
        monkeypatch.setattr(profile, "profile_networks", lambda *_, names, **__: seen.append(names[0]))
        with pytest.raises(AttributeError):  # nothing to print
            call(command, f"{row.base} {row.more}", places)
        assert seen == ["resnet8", "resnet20"]
        return
    first = f"{row.first or FIRST_WORDS[command]} {row.base}"
    if command in ("train", "compare", "search") and option in ("--data", "--data-root", "--download"):
        first = first.replace("digits", "cifar100")
    if command == "compare" and option in ("--method", "--hints", "--loss-set", "--error-over"):
        first = first.replace("--loss at", "")  # methods bring their own losses
    if (command, option) == ("profile", "--steps"):
        with pytest.raises(AttributeError):
            call(command, first, places)
        assert "profile_steps" in call(command, f"{first} {row.more}", places)
        return
    assert call(command, f"{first} {row.without}", places) != call(command, f"{first} {row.more}", places)


@pytest.mark.parametrize(
    ("command", "option", "row"),
    [row for row in ROWS if isinstance(row[2], Refused)],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_it_is_refused(command, option, row, places):
    first = {
        "table run": FIRST_WORDS["table run"],
        "train": "--out {tmp}/out",
        "analyze": "--out {tmp}/out",
        "points": "resnet14",
    }.get(command, "")
    if command in ("train", "compare", "crosstask", "pathways", "search"):
        first = FIRST_WORDS[command]
    with pytest.raises(PursuhintError, match=re.escape(row.message)):
        main.main(
            args=[*command.split(), *f"{first} {row.words}".format(**places).split()], standalone_mode=False
        )


@pytest.mark.parametrize("test", sorted({row.test for _, _, row in ROWS if isinstance(row, Shown)}))
def test_the_tests_that_show_the_others_exist(test):
    file, _, function = test.partition("::")
    assert f"def {function}(" in (ROOT / file).read_text()


@pytest.fixture(scope="module")
def analysis(tmp_path_factory):
    """The folder of a small analysis."""
    folder = tmp_path_factory.mktemp("analysis") / "a"
    words = "--teacher resnet14 --random-weights --samples 200 --class-quality "
    words += f"--metric cka --metric r2cca --out {folder} --quiet --json"
    main.main(args=["analyze", *words.split()], standalone_mode=False)
    return folder


@pytest.mark.parametrize("name", COMMANDS)
def test_no_count_or_seed_is_larger_than_pytorch_takes(name):
    command = main.get_command(click.Context(main), name)
    for option in command.params:
        if isinstance(option.type, click.IntRange):
            least = option.type.min or 0
            assert option.type.convert(str(least), option, None) == least
            with pytest.raises(click.BadParameter):
                option.type.convert(str(2**31), option, None)


def test_select(analysis, tmp_path, capsys):
    """Every option of ``select`` changes the plan, or what is printed of it."""

    def plan(words: str, name: str = "plan.json") -> tuple[dict, str]:
        capsys.readouterr()
        file = tmp_path / name
        words += f" --out {file} --overwrite"
        main.main(args=["select", str(analysis), *words.split()], standalone_mode=False)
        values = json.loads(file.read_text())
        del values["provenance"]  # the command and the time differ always
        return values, capsys.readouterr().out

    usual, text = plan("")
    for words in (
        "--metric r2cca", "--k 2", "--k auto", "--algorithm segments", "--position last"
    ):  # fmt: skip
        assert plan(words)[0] != usual, words
    assert plan("--metric r2cca --normalize")[0] != plan("--metric r2cca")[0]
    assert json.loads(plan("--json")[1]) != text
    assert plan("", name="other.json")[0] == usual
    assert plan("--rule even")[0] != usual
    assert plan("--rule influence --metric r2cca")[0]["origin"]["metric"] == "r2cca"
    for rule in ("probe", "quality"):
        assert plan(f"--rule {rule} --k 2")[0]["origin"]["strategy"] == rule
    with pytest.raises(PursuhintError, match="--metric would be ignored"):
        plan("--rule probe --metric r2cca")
    with pytest.raises(PursuhintError, match="--algorithm would be ignored"):
        plan("--rule influence --algorithm segments")
    with pytest.raises(PursuhintError, match="--metric would be ignored"):
        plan("--rule even --metric r2cca")
    with pytest.raises(PursuhintError, match="--k auto looks at clusters"):
        plan("--rule even --k auto")


def test_json_prints_json_and_quiet_nothing(tmp_path, capsys):
    words = "--student resnet8 --epochs 1 --batch-size 512 --device cpu"
    main.main(args=["train", *words.split(), "--out", str(tmp_path / "a")], standalone_mode=False)
    shown = capsys.readouterr()
    assert "epoch 1 of 1" in shown.err
    assert not shown.out.startswith("{")
    arguments = ["train", *words.split(), "--out", str(tmp_path / "b"), "--quiet", "--json"]
    main.main(args=arguments, standalone_mode=False)
    hidden = capsys.readouterr()
    assert hidden.err == ""
    assert json.loads(hidden.out)
    main.main(args=["report", str(tmp_path / "b"), "--json"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["report"].endswith("report.html")


def test_without_a_report(tmp_path):
    words = "--student resnet8 --epochs 1 --batch-size 512 --device cpu --quiet --no-report"
    main.main(args=["train", *words.split(), "--out", str(tmp_path / "a")], standalone_mode=False)
    assert not (tmp_path / "a" / "report.html").exists()
    assert (tmp_path / "a" / "student.safetensors").exists()
