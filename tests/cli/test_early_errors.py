"""A mistake on the command line is answered before PyTorch is imported, in one line that says what to do."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from pursuhint.cli.main import COMMANDS

OUT = "--out {tmp}/out"
CASES = {  # words, and what the message names
    "train --epochz 3": "--epochz",
    "train --epochs": "requires an argument",
    "train": "Missing option '--out'",
    f"train {OUT}": "which network is to be trained?",
    f"train --student resnt8 {OUT}": "did you mean 'resnet8'",
    f"train --student resnet8 --precision half {OUT}": "'half' is not one of",
    f"train --student resnet8 --loss rrk {OUT}": "did you mean 'rrd'",
    f"train --student resnet8 --data digts {OUT}": "did you mean 'digits'",
    f"train --student resnet8 --hints chosn {OUT}": "did you mean 'chosen'",
    f"train --student resnet8 --hints gone.json {OUT}": "no hint plan at gone.json",
    f"train --student resnet8 --set optimizer.lrr=1 {OUT}": "did you mean 'lr'",
    f"train --student resnet8 --set optimizer.delta=0.1 {OUT}": "set optimizer.name=dot",
    f"train --student resnet8 --set optimizer.name=dot --precision fp16 {OUT}": "use precision bf16",
    f"train --student resnet8 --loss spherical --loss skd {OUT}": "'skd' is given twice",
    f"train --student resnet8 --epochs 3 --set epochs=4 {OUT}": "--set epochs=4 both give epochs",
    f"train --student resnet8 --data digits --set data=digits {OUT}": "both give data.name",
    f"train --student resnet8 --set seed=1 --set seed=2 {OUT}": "and --set seed=2 both give seed",
    f"train --student resnet8 --loss ce=1 --set losses.ce=2 {OUT}": "both give losses.ce.weight",
    f"train --student resnet8 --loss spherical:epsilon=1 --set losses.skd.epsilon=2 {OUT}": "both give",
    f"compare --student resnet8 --k 3 --set hints.k=2 {OUT}": "--k and --set hints.k=2 both give hints.k",
    f"train --student resnet8 --epochs 9{'0' * 20} {OUT}": "is more than 2,147,483,647",
    f"train --student resnet8 --set epochs=9{'0' * 20} {OUT}": "'epochs' must be less than or equal to",
    f"train --student resnet8 --image-size 99999 {OUT}": "'data.image_size' must be less than",
    f"train --student resnet8 --set data.normalize=x {OUT}": "'data.normalize' has no choice 'x'",
    f"train --recipe gone.yaml {OUT}": "no recipe at gone.yaml",
    f"train --recipe cifar100-att {OUT}": "did you mean 'cifar100-at'",
    f"train --student resnet8 --teacher resnet8 --teacher-checkpoint a.pth {OUT}": "no checkpoint at a.pth",
    f"train --student resnet8 --record-teacher a {OUT}": "there is no teacher to record",
    "train --recipe cifar100-at --record-teacher {tmp}/out --out {tmp}/out": "needs a folder apart from",
    "search --recipe cifar100-at --vary losses.at=2..9 --record-teacher {tmp}/r --out {tmp}": "apart from",
    "compare --recipe cifar100-at --record-teacher {tmp} --out {tmp}/out": "apart from the results",
    "pathways --recipe cifar100-distpro --out /proc/none/a.yaml": "cannot write /proc/none/a.yaml",
    f"search --student resnet8 {OUT}": "Missing option '--vary'",
    f"search --student resnet8 --vary losses.at=5 {OUT}": "at least two different choices",
    f"search --student resnet8 --vary losses.at=9..2 {OUT}": "is no range",
    f"search --vary losses.at=2..9 {OUT}": "which network is to be trained?",
    f"search --student resnet8 --vary losses.at=2..9 --pruner mean {OUT}": "'mean' is not one of",
    "table --paper pursuhnt --table 4": "did you mean 'pursuhint'",
    "table --paper pursuhint --table 99": "there are 1, 2,",
    f"table run icd-9 {OUT}": "did you mean 'icd-",
    f"table run pursuhint-figure-1 {OUT}": "it is a drawing",
    f"table run gone.yaml {OUT}": "no grid at gone.yaml",
    f"table run icd-1 --part 17/16 {OUT}": "--part 17/16 is no share",
    f"table run icd-1 --seeds many {OUT}": "cannot read the seeds",
    f"table run icd-1 --teacher-weights resnet56=a.pth {OUT}": "no checkpoint at a.pth",
    "table run icd-1": "Missing option '--out'",
    f"compare --max-seeds 9 {OUT}": "--max-seeds would be ignored: it goes with --until-decided",
    f"compare --until-decided --method kd --seeds 0-1 {OUT}": "begins with at least 3 seeds, got 2",
    f"compare --until-decided --loss-set a=at --max-seeds 3 {OUT}": "most seeds (3) must be at least",
    f"compare --until-decided --max-seeds 4 {OUT}": "most seeds (4) must be at least those to begin with (5)",
    f"compare --until-decided --seeds 0-1 {OUT}": "begins with at least 3 seeds, got 2",
    f"compare --student resnet8 --record-teacher a {OUT}": "there is no teacher to record",
    f"compare --student resnet8 --seeds 5-2 {OUT}": "the seeds 5-2 end before they begin; write 2-5",
    f"compare --student resnet8 --seeds ² {OUT}": "cannot read the seeds '²'",
    f"compare --student resnet8 --seeds 0-99999999 {OUT}": "are more than 10,000",
    f"compare --error-over all {OUT}": "--error-over would be ignored: it goes with --until-decided",
    f"compare --until-decided --error-over all {OUT}": "there is one set of losses and one length",
    f"compare --arm kmens {OUT}": "did you mean 'kmeans'",
    f"compare --student resnet8 --max-samples 900 {OUT}": "--max-samples would be ignored",
    f"compare --student resnet8 --samples auto --stable-at .9 --arm ablation --arm kd {OUT}": "--stable-at",
    f"compare --method kd+att {OUT}": "no loss named 'att'",
    f"compare --method recipe:gone {OUT}": "no recipe named 'gone'",
    f"compare --student resnet8 --metric ckaa {OUT}": "did you mean 'cka'",
    f"compare --student resnet8 --hints 1,2 {OUT}": "--hints goes with --method",
    "compare --frobnicate": "--frobnicate",
    "table --paper icd --table 1 --overwrite": "--overwrite would be ignored: it goes with --out",
    "points resnet8 --rule even --overwrite": "--overwrite would be ignored: it goes with --out",
    f"pathways --recipe cifar100-dstpro {OUT}": "did you mean 'cifar100-distpro'",
    f"analyze {OUT}": "which network?",
    f"analyze --teacher resnet8 --max-samples 900 {OUT}": "--max-samples would be ignored",
    f"analyze --teacher resnet8 --samples 900 --stable-at 0.9 {OUT}": "--stable-at would be ignored",
    f"analyze --teacher resnet8 --samples auto --stable-at 95 {OUT}": "--stable-at",
    f"analyze --teacher resnet8 --samples auto --no-stability {OUT}": "leave out --no-stability",
    f"analyze --teacher resnet8 --samples many {OUT}": "'many' is neither a number from 2 up nor 'auto'",
    f"analyze --teacher resnt8 {OUT}": "did you mean 'resnet8'",
    f"analyze --teacher resnet8 --metric ckaa {OUT}": "did you mean 'cka'",
    f"analyze --teacher resnet8 --pooling middle {OUT}": "no pooling named 'middle'",
    f"analyze --teacher resnet8 --algorithm kmean {OUT}": "'kmean' is not one of",
    f"analyze --teacher resnet8 --exact-median {OUT}": "--exact-median would be ignored",
    f"analyze --teacher resnet8 --teacher-checkpoint gone.pth {OUT}": "no checkpoint at gone.pth",
    f"select gone {OUT}": "does not exist",
    f"select {{tmp}} {OUT}": "no analysis at",
    f"train --student torchvision:resnet18 --student-pretrained --student-checkpoint b.pth {OUT}": "at b.pth",
    f"train --student resnet8 --student-pretrained {OUT}": "nobody publishes weights for 'resnet8'",
    f"train --student resnet8 --pretrained {OUT}": "--pretrained needs --teacher NAME",
    f"analyze --teacher resnet8 --set hints.k=2 {OUT}": "--set hints.k=2 would be ignored",
    f"analyze --teacher resnet8 --set acceleration.winograd=true {OUT}": "winograd=true would be ignored",
    "points resnet8 --set acceleration.channels_last=false": "channels_last=false would be ignored",
    f"analyze --teacher resnet8 --set teacher.options.num_classes=2 {OUT}": "options.num_classes",
    "evaluate": "what is to be evaluated?",
    "evaluate --teacher resnet8 --pretrained --set data.image_size=2": "data.image_size=2 would be ignored",
    "evaluate gone": "does not exist",
    "evaluate {run} --teacher resnet8 --pretrained": "either a run folder or --teacher",
    "evaluate {run} --image-normalize data": "normalised as in its training",
    "evaluate {run} --val-fraction 0.1": "a run has its own; add --data",
    "evaluate --teacher torchvision:resnet18 --pretrained --weights best": "a checkpoint holds one set",
    "evaluate {tmp}": "is not a run folder",
    "predict a.onnx b.png": "does not exist",
    "predict {tmp} {tmp}": "is neither a run folder (recipe.yaml), nor a bundle (model.onnx), nor",
    "predict gone": "does not exist",
    "predict a.onnx --file gone.txt": "does not exist",
    "export {tmp}": "is not a run folder",
    "export {tmp} --format tf": "'tf' is not one of",
    "report gone": "does not exist",
    "report {tmp} --figure logit-corelation": "did you mean 'logit-correlation'",
    "report {tmp} --figure weight-curve --seed 1": "--seed would be ignored",
    "points": "Missing argument",
    "points resnet8 --set lr=1": "--set lr=1 would be ignored",
    "points resnt8": "did you mean 'resnet8'",
    "profile --student resnt8 --input 3x8x8 --classes 3": "did you mean 'resnet8'",
    "profile --student resnet8 --input 3x3": "is not a shape such as",
    "profile --student resnet8 --set losses.kd=2": "do not depend on losses.kd",
    "profile --student resnet8 --loss kd": "--loss would be ignored",
    "demo --frobnicate": "--frobnicate",
    f"crosstask --student resnet8 {OUT}": "give --teacher NAME",
    f"crosstask --teacher resnet8 --student resnet8 --overlap 0,half {OUT}": "is no list of percentages",
    f"crosstask --teacher resnet8 --student resnet8 --method att {OUT}": "did you mean 'at'",
    f"crosstask --teacher resnet8 --student resnet8 --method at@evn {OUT}": "did you mean 'even'",
    f"crosstask --teacher resnet8 --student resnet8 --order-seed 1 {OUT}": "--order-seed would be ignored",
    "transfer": "Missing argument",
    "transfer --to digts": "did you mean 'digits'",
    "transfer {tmp} --to digits": "is not a run folder",
    "list lossses": "'lossses' is not one of",
    "trian": "did you mean 'train'",
    # names of other sources
    "points resnet18": "did you mean 'torchvision:resnet18' or 'timm:resnet18'",
    "points convnext_tinny": "'timm:convnext_tiny'",
    "points ./nets/mine.py:make": "PYTHONPATH=./nets pursuhint ... mine:make".replace("./", ""),
    "points resnet8 --data ./photos": "did you mean 'folder:./photos'",
    "points resnet8 --data photos/birds": "did you mean 'folder:photos/birds'",
    "points resnet8 --data mnist": "did you mean 'fashion-mnist'",
}

PROGRAM = """
import contextlib, io, json, sys
from pursuhint.cli.main import run

answers = []
for words in json.load(sys.stdin):
    out, status = io.StringIO(), 0
    with contextlib.redirect_stderr(out), contextlib.redirect_stdout(out):
        try:
            run(words)
        except SystemExit as stop:
            status = stop.code
    heavy = sorted({"torch", "torchvision", "timm", "matplotlib", "scipy", "sklearn"} & set(sys.modules))
    answers.append((status, out.getvalue(), heavy, len(sys.modules)))
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Status, text and heavy modules after each case, all in one process."""
    folder = tmp_path_factory.mktemp("early")
    run = tmp_path_factory.mktemp("run")
    (run / "recipe.yaml").touch()
    words = [case.format(tmp=folder, run=run).split() for case in CASES]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(words),
        capture_output=True,
        text=True,
        timeout=300,
        cwd=folder,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not list(folder.iterdir())  # nothing was begun
    return dict(zip(CASES, json.loads(done.stdout)))


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_answered_at_once(case, answers):
    status, text, heavy, _ = answers[case]
    assert status in (1, 2)
    assert CASES[case] in text
    assert "Traceback" not in text
    assert heavy == []


def test_every_command_has_a_case():
    words = [case.split() for case in CASES]
    assert {part for case in words for part in (case[0], " ".join(case[:2]))} >= set(COMMANDS)


def test_answers_import_little(answers):
    """What makes them fast: 0.1 s of processor time for a wrong name, 0.35 s where a recipe is checked.

    Words are answered by some 200 modules, half of them Python's own; recipes need pydantic, and all cases
    together the modules of every command.
    """
    first = next(iter(answers.values()))
    assert first[3] < 280
    assert max(modules for *_, modules in answers.values()) < 620
