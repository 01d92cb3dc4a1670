"""Texts as data of analyses and runs, with small networks of transformers."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from pursuhint.cli.main import main
from safetensors.torch import load_file

import pursuhint
from pursuhint.data import TextData, load_text
from pursuhint.errors import PursuhintError
from pursuhint.study.compression import compressed_pairs
from pursuhint.training import load_predictor

pytest.importorskip("tokenizers")
pytest.importorskip("transformers")

WORDS = {"games": "puzzle arcade level player chess", "net": "protocol server client packet socket"}
# Runs a script with PyTorch, transformers and PursuHint out of reach.
WITHOUT_TORCH = """
import runpy, sys
sys.modules.update(dict.fromkeys(("torch", "transformers", "pursuhint")))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
FILLER = "the a library for tool of small fast"


def texts(count: int, seed: int) -> list[tuple[str, str]]:
    """Labels and texts; each has a word of its class."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        label = draw.choice(list(WORDS))
        words = [*draw.choices(FILLER.split(), k=draw.randint(2, 6)), draw.choice(WORDS[label].split())]
        found.append((label, " ".join(words)))
    return found


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for seed, (name, count) in enumerate({"train": 192, "test": 64}.items()):
        lines = ["label\ttext", *("\t".join(row) for row in texts(count, seed))]
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    return folder


def test_tokens_are_those_of_the_texts(corpus: Path) -> None:
    from tokenizers import Tokenizer

    data = load_text(corpus)
    assert data.class_names == ("games", "net")
    assert (len(data.train), len(data.test)) == (192, 64)
    rows = [line.split("\t") for line in (corpus / "test.tsv").read_text().splitlines()[1:]]
    assert [data.class_names[label] for label in data.test.labels.tolist()] == [label for label, _ in rows]
    tokenizer = Tokenizer.from_str(data.tokenizer)
    assert tokenizer.get_vocab_size() == data.vocab_size
    ids, mask = data.test.inputs["input_ids"], data.test.inputs["attention_mask"]  # type: ignore[call-overload, index]
    assert data.tokens == ids.shape[1] == 9  # seven words between [CLS] and [SEP]
    for row, real, (_, text) in zip(ids, mask, rows):
        assert tokenizer.decode(row.tolist()).strip() == text
        assert int(real.sum()) == len(text.split()) + 2
    assert torch.equal(ids[mask == 0], torch.zeros(int((mask == 0).sum()), dtype=torch.int64))


def test_a_saved_tokenizer_gives_the_same_tokens_and_length(corpus: Path, tmp_path: Path) -> None:
    first = load_text(corpus, vocabulary=300, max_tokens=6)
    assert first.vocab_size <= 300
    assert first.tokens == 6
    assert load_text(corpus, vocabulary=300, max_tokens=6).tokenizer == first.tokenizer
    (tmp_path / "tokenizer.json").write_text(first.tokenizer)
    for name in (tmp_path, tmp_path / "tokenizer.json"):
        again = load_text(corpus, tokenizer=str(name))
        assert torch.equal(again.train.inputs["input_ids"], first.train.inputs["input_ids"])  # type: ignore[call-overload, index]


def test_splits_are_held_out(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(PursuhintError, match="--val-fraction"):
        load_text(corpus / "train.tsv")
    alone = load_text(corpus / "train.tsv", val_fraction=0.25)
    assert (len(alone.train), len(alone.test), alone.val) == (144, 48, None)
    with_val = load_text(corpus, val_fraction=0.25)
    assert with_val.val is not None
    together = torch.cat([with_val.train.indices, with_val.val.indices]).sort().values
    assert torch.equal(together, torch.arange(192))
    (tmp_path / "train.csv").write_text("label,text\n10,a\n9,b\n")
    (tmp_path / "test.csv").write_text("label,text\n10,a\n")
    assert load_text(tmp_path).class_names == ("9", "10")
    (tmp_path / "test.csv").write_text("label,text\n11,a\n")
    with pytest.raises(PursuhintError, match="no training text has the label '11'"):
        load_text(tmp_path)


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [*map(str, words)])


def sizes(role: str, width: int, layers: int) -> list[str]:
    options = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    return [word for key, value in options.items() for word in ("--set", f"{role}.options.{key}={value}")]


SHARED = ["--set", "optimizer.name=adamw", "--batch-size", "16", "--no-report"]


@pytest.fixture(scope="module")
def teacher(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a BERT of three blocks on the corpus."""
    out = tmp_path_factory.mktemp("runs") / "teacher"
    words = ["--student", "hf:bert", *sizes("student", 32, 3), "--lr", "0.003", "--epochs", "4"]
    done = call("train", *words, "--data", f"text:{corpus}", *SHARED, "--out", out)
    assert done.exit_code == 0, done.exception
    return out


@pytest.mark.filterwarnings("ignore::pursuhint.errors.PursuhintWarning")
def test_a_teacher_and_a_student_of_text(corpus: Path, teacher: Path, tmp_path: Path) -> None:
    """Trained, taught at chosen points, evaluated with the run's tokenizer, and resumed as the same run."""
    shared = ["--data", f"text:{corpus}", *SHARED]
    assert pursuhint.RunRecord.load(teacher).last["test_top1"] > 80
    student = [
        "--student", "hf:bert", *sizes("student", 16, 2), "--teacher", "hf:bert", *sizes("teacher", 32, 3),
        "--teacher-checkpoint", teacher / "student.safetensors", "--tokenizer", teacher,
        "--loss", "fitnet", "--loss", "kd", "--hints", "chosen", "--set", "hints.k=2", "--epochs", "1",
    ]  # fmt: skip
    out = tmp_path / "student"
    second = call("train", *student, *shared, "--out", out)
    assert second.exit_code == 0, second.exception
    assert (out / "tokenizer.json").read_text() == (teacher / "tokenizer.json").read_text()
    record = pursuhint.RunRecord.load(out)
    (pair,) = compressed_pairs([record], device="cpu")
    assert pair.profile.shape == (record.environment["data"]["tokens"],)
    assert pair.profile.student.parameters < pair.profile.teacher.parameters  # type: ignore[union-attr]
    assert record.plan is not None
    assert [pair.teacher.module.rpartition(".")[0] for pair in record.plan.pairs] == [
        "bert.encoder.layer"
    ] * 2
    data = record.load_data()
    assert isinstance(data, TextData)
    result = pursuhint.evaluate(record.load_student(), data)
    assert result.top1 == record.last["test_top1"]
    printed = json.loads(call("evaluate", out, "--json").output.splitlines()[-1])
    assert printed["top1"] == result.top1
    before = (out / "metrics.jsonl").read_bytes()
    assert call("train", *student, *shared, "--out", out).exit_code == 0
    assert (out / "metrics.jsonl").read_bytes() == before
    with pytest.raises(PursuhintError, match="images are needed"):
        record.load_images()


@pytest.mark.filterwarnings("ignore::pursuhint.errors.PursuhintWarning")
def test_a_network_by_name_with_its_options(corpus: Path, teacher: Path, tmp_path: Path) -> None:
    """``--set`` builds the network of a file of weights, as the recipe of its run does."""
    data = ("--data", f"text:{corpus}")
    network = (
        "--teacher", "hf:bert", *sizes("teacher", 32, 3),
        "--teacher-checkpoint", teacher / "student.safetensors",
    )  # fmt: skip
    own = ("--tokenizer", teacher, "--set", "data.text.max_tokens=9")
    printed = call("evaluate", *network, *data, *own, "--json")
    assert printed.exit_code == 0, printed.exception
    of_run = json.loads(call("evaluate", teacher, "--json").output.splitlines()[-1])
    assert json.loads(printed.output.splitlines()[-1])["top1"] == of_run["top1"]
    words = ("analyze", *network, *data, *own, "--no-stability", "--k", "2", "--out", tmp_path / "analysis")
    assert call(*words).exit_code == 0
    analysis = pursuhint.Analysis.load(tmp_path / "analysis")
    assert [point.channels for point in analysis.similarities["cka"].points] == [32] * 3
    listed = call("points", "hf:bert", *data, *own, *sizes("teacher", 16, 2), "--json")
    rows = json.loads(listed.output)
    assert [(row["channels"], row["spatial"]) for row in rows] == [(16, [9])] * 2
    assert "ignored: a run has its own" in str(call("evaluate", teacher, *own[2:]).exception)


def labelled(corpus: Path) -> list[list[str]]:
    """Labels and texts of the test split."""
    return [line.split("\t") for line in (corpus / "test.tsv").read_text().splitlines()[1:]]


@pytest.fixture(scope="module")
def bundle(teacher: Path) -> Path:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    done = call("export", teacher, "--bundle")
    assert done.exit_code == 0, done.exception
    assert "on random texts: logits" in done.output
    return teacher / "bundle"


def accuracy(found: list[str], corpus: Path) -> float:
    rows = labelled(corpus)
    assert len(found) == len(rows)
    return 100 * sum(name == label for name, (label, _) in zip(found, rows)) / len(rows)


def test_texts_are_classified_as_evaluate_says(corpus: Path, teacher: Path, tmp_path: Path) -> None:
    """Texts of the command line, and the lines of a file."""
    lines = tmp_path / "lines.txt"
    lines.write_text("\n\n".join(text for _, text in labelled(corpus)))
    done = call("predict", teacher, "--file", lines, "--json", "--batch-size", "7", "--top", "1")
    assert done.exit_code == 0, done.exception
    result = json.loads(done.stdout)
    assert [one["text"] for one in result["predictions"]] == [text for _, text in labelled(corpus)]
    found = [one["classes"][0] for one in result["predictions"]]
    assert accuracy(found, corpus) == pytest.approx(pursuhint.RunRecord.load(teacher).last["test_top1"])
    assert "left out 63 empty lines" in done.stderr
    table = call("predict", teacher, "a fast puzzle for the chess player", "a packet client", "--quiet")
    assert [line.split()[-3] for line in table.stdout.splitlines()[1::2]] == ["games", "net"]
    assert table.stderr == ""


def test_a_bundle_of_texts_needs_no_torch_and_gives_the_accuracy(
    corpus: Path, teacher: Path, bundle: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(bundle, tmp_path / "elsewhere")
    assert {file.name for file in moved.iterdir()} == {
        "README.md", "labels.txt", "model.onnx", "predict.py", "preprocess.json", "tokenizer.json",
    }  # fmt: skip
    (tmp_path / "lines.txt").write_text("\n".join(text for _, text in labelled(corpus)))
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, moved / "predict.py", "--file", "lines.txt"],
        capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [line.split("\t")[1].rsplit(" ", 2)[0] for line in done.stdout.splitlines()]
    last = pursuhint.RunRecord.load(teacher).last["test_top1"]
    assert accuracy(found, corpus) == pytest.approx(last)
    assert f"{last:.2f} % of its test texts" in (moved / "README.md").read_text()
    assert str(corpus.parent) not in (moved / "README.md").read_text()
    assert json.loads((moved / "preprocess.json").read_text())["max_tokens"] == 64


def test_bundles_and_programs_of_texts_predict_as_their_run(
    corpus: Path, teacher: Path, bundle: Path, tmp_path: Path
) -> None:
    texts = [text for _, text in labelled(corpus)[:9]]
    expected = load_predictor(teacher, device="cpu").predict(texts)
    for source in (bundle, bundle / "model.onnx"):
        for one, other in zip(load_predictor(source).predict(texts), expected, strict=True):
            assert one.labels == other.labels
            assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
    program = tmp_path / "student.pt2"
    assert call("export", teacher, "--format", "pt2", "--out", program).exit_code == 0
    kept = {"class_names": "", "tokenizer": ""}
    with program.open("rb") as file:
        run = torch.export.load(file, extra_files=kept).module()
    batch: Any = load_text(corpus, tokenizer=str(teacher)).example(7)
    student = pursuhint.RunRecord.load(teacher).load_student()
    with torch.no_grad():
        torch.testing.assert_close(run(*batch.values()), student(**batch).logits)
    assert json.loads(kept["class_names"]) == ["games", "net"]
    assert json.loads(kept["tokenizer"]) == json.loads((teacher / "tokenizer.json").read_text())
    copied = tmp_path / "weights.safetensors"
    assert call("export", teacher, "--format", "safetensors", "--out", copied).exit_code == 0
    state = student.state_dict()
    assert all(torch.equal(values, state[name]) for name, values in load_file(copied).items())


def test_networks_of_text_are_profiled(corpus: Path) -> None:
    """Of a number of tokens, or of the data; options change the network."""
    words = ("profile", "--student", "hf:bert", *sizes("student", 16, 2), "--repeats", "1", "--at-batch", "2")
    sized = call(*words, "--input", "9", "--classes", "2", "--json")
    assert sized.exit_code == 0, sized.exception
    read = call(*words, "--data", f"text:{corpus}", "--json")
    assert read.exit_code == 0, read.exception
    first, second = (json.loads(done.stdout) for done in (sized, read))
    assert first["shape"] == second["shape"] == [9]
    assert first["student"]["flops"] == second["student"]["flops"]
    rows = 8_000 - load_text(corpus).vocab_size
    assert first["student"]["parameters"] - second["student"]["parameters"] == 16 * rows
    stepped = call(*words, "--data", f"text:{corpus}", "--steps", "1", "--set", "optimizer.name=adamw")
    assert "texts of 9 tokens" in stepped.stdout
    assert "a training step of 64 texts" in stepped.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["profile", "--student", "resnet8", "--input", "9", "--classes", "2"], "takes images"),
        (
            ["profile", "--student", "hf:bert", "--input", "1x8x8", "--classes", "2"],
            "does not take (1, 1, 8, 8)",
        ),
        (["predict", "{run}"], "what is to be classified"),
        (["predict", "{run}", "{run}/recipe.yaml"], "its lines are --file"),
        (["predict", "{run}", " "], "not empty"),
        (
            ["export", "{run}", "--format", "pt2", "--include-normalization"],
            "texts, which are not normalised",
        ),
        (["evaluate", "{run}", "--data", "digits"], "evaluated on that alone"),
    ],
    ids=["profile-text", "profile-image", "nothing", "file", "empty", "normalisation", "other"],
)
def test_what_a_run_on_texts_cannot_do(words: list[str], message: str, teacher: Path) -> None:
    done = call(*(word.format(run=teacher) for word in words))
    assert isinstance(done.exception, PursuhintError)
    assert message in str(done.exception)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--student", "resnet8"], "takes images"),
        (["--student", "hf:vit"], "takes no text"),
        (["--student", "hf:bert", "--image-size", "8"], "image_size"),
        (["--student", "hf:bert", "--tokenizer", "none.json"], "no tokenizer"),
        (["--student", "hf:bert", "--only-classes", "0,1"], "classes"),
    ],
    ids=["own", "vision", "size", "tokenizer", "classes"],
)
def test_what_does_not_fit_texts_is_one_line(
    words: list[str], message: str, corpus: Path, tmp_path: Path
) -> None:
    found = call("train", *words, "--data", f"text:{corpus}", "--epochs", "1", "--out", tmp_path / "run")
    assert isinstance(found.exception, PursuhintError)
    assert message in str(found.exception)
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore::pursuhint.errors.PursuhintWarning")
def test_analysis_of_a_decoder(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder is analyzed; its block influence is a rule."""
    import transformers

    options: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2}
    data = load_text(corpus)
    config = transformers.LlamaConfig(
        vocab_size=data.vocab_size, intermediate_size=32, bos_token_id=2, eos_token_id=3, **options
    )
    torch.manual_seed(0)
    analysis = pursuhint.analyze(transformers.LlamaModel(config), data, samples=60, k=2, stability=False)
    analysis.save(tmp_path / "analysis")
    chosen = call(
        "select", tmp_path / "analysis", "--rule", "influence", "--k", "2", "--out", tmp_path / "hints.json"
    )
    assert chosen.exit_code == 0, chosen.exception
    assert len(pursuhint.HintPlan.load(tmp_path / "hints.json").pairs) == 2
