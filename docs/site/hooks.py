"""Pages of the site that are written from the tables: one for every loss and metric; formulas as MathML.

mkdocs calls the functions that are named ``on_...``; see ``mkdocs.yml``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from pursuhint.hints.rules import RULES
from pursuhint.losses import LOSSES, get_loss
from pursuhint.recipes import RECIPES
from pursuhint.similarity import METRICS, get_metric
from pursuhint.study import ARMS
from pursuhint.training import Recipe

_SECTION = re.compile(r"^(Args|Returns|Raises|Example|Attributes):$", re.M)
_ENTRY = re.compile(r"^    (\*{0,2}\w+): (.*(?:\n(?:        .*|))*)", re.M)


# -- docstrings ---------------------------------------------------------------------------------------------


def _formula(text: str, *, block: bool) -> str:
    return convert(" ".join(text.split()), display="block" if block else "inline")


def with_formulas(text: str) -> str:
    """Text of a docstring as Markdown: formulas become MathML, double backticks single ones."""
    text = re.sub(
        r"^\.\. math::[ ]*((?:.*\n)(?:(?:[ ]+.*)?\n)*)",
        lambda found: f"\n\n{_formula(found[1], block=True)}\n\n",
        text + "\n",
        flags=re.M,
    )
    text = re.sub(r":math:`([^`]+)`", lambda found: _formula(found[1], block=False), text)
    return re.sub(r"``([^`]+)``", r"`\1`", text)


def sections(docstring: str) -> dict[str, str]:
    """The parts of a docstring by their heads; the text in front has the empty name."""
    parts = _SECTION.split(inspect.cleandoc(docstring))
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2]))}


def entries(section: str) -> Iterator[tuple[str, str]]:
    """Names and descriptions of a section such as ``Args``."""
    for name, text in _ENTRY.findall(section):
        yield name, " ".join(text.split())


def body(docstring: str) -> str:
    """A docstring as the body of a page: description, then what it takes and raises, then its example."""
    parts = sections(docstring)
    lines = [with_formulas(parts[""])]
    for head, title in {"Args": "Options", "Returns": "Returns", "Raises": "Raises"}.items():
        if head in parts:
            found = list(entries(parts[head]))
            listed = [f"- `{name}`: {with_formulas(text).strip()}" for name, text in found]
            lines += [f"## {title}", "\n".join(listed) if found else with_formulas(_flat(parts[head]))]
    if "Example" in parts:
        lines += ["## Example", f"```python\n{inspect.cleandoc(parts['Example'])}\n```"]
    return "\n\n".join(lines)


def _flat(text: str) -> str:
    return inspect.cleandoc(text)


# -- pages --------------------------------------------------------------------------------------------------


def _defaults(function: Any) -> str:
    parameters = inspect.signature(function).parameters.values()
    shown = [
        f"`{one.name}={one.default!r}`" for one in parameters if one.default is not inspect.Parameter.empty
    ]
    return " ".join(shown) or "none"


def _recipes_by_loss() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in RECIPES:
        for loss in Recipe.load(name).losses:
            found.setdefault(loss, []).append(name)
    return found


def _cost(name: str) -> str:
    """Time and memory of a loss, from the table of `docs/methods.md`; empty if it is not there."""
    table = (Path(__file__).parents[1] / "methods.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| [^|]* \({re.escape(name)}(?::[^|]*)?\) \|.*$", table, re.M)
    if row is None:
        return ""
    time, memory = row[0].strip("| ").split(" | ")[-2:]
    times = "" if time == "–" else f"{time.split()[0]} times a run without teacher, "
    return f"{times}{memory} a step ([all methods](../../methods.md))"


def _cost_of_metric(name: str) -> str:
    """Seconds of a metric, from the table of `docs/analysis.md`; empty if it is not there."""
    text = (Path(__file__).parents[1] / "analysis.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| [^|]*`{re.escape(name)}`[^|]* \| ([\d.]+ s) \| ([\d.]+ s) \|.*$", text, re.M)
    if row is None:
        return ""
    return (
        f"{row[1]} for the 54 layers of resnet110 and 10,000 images, {row[2]} more for the stability "
        "([details](../../analysis.md#its-cost))"
    )


def loss_page(name: str, recipes: list[str]) -> str:
    """The page of a loss."""
    loss = get_loss(name)
    info = loss.info
    facts = {
        "Name": f"`--loss {name}`",
        "Paper": info.paper,
        "Compares": info.compares
        + (f", {info.activation}-activation" if info.compares == "hint points" else ""),
        "Weight": f"{info.default_weight:g}, cross-entropy {info.default_ce_weight:g}",
        "Learns": info.learns or "nothing",
        "Depends on the batch": "yes" if info.batch_coupled else "no",
        "Defaults": _defaults(loss.__init__),
        "Cost": _cost(name),
        "Recipes": " ".join(f"`{recipe}`" for recipe in recipes) or "none",
    }
    return _page(info.title, {key: fact for key, fact in facts.items() if fact}, body(loss.__doc__ or ""))


def metric_page(name: str) -> str:
    """The page of a similarity metric."""
    metric = get_metric(name)
    facts = {
        "Name": f"`--metric {name}`",
        "Symmetric": "yes" if metric.symmetric else "no",
        "From": "second moments, one pass" if metric.needs == "moments" else "the features of all samples",
        "Samples": f"at least {metric.samples}"
        + (f", and {metric.samples_per_feature} for every feature" if metric.samples_per_feature else ""),
        "Cost": _cost_of_metric(name),
    }
    return _page(
        metric.title, {key: fact for key, fact in facts.items() if fact}, body(metric.pair.__doc__ or "")
    )


def rules_page() -> str:
    """The page of all ways of choosing hint points."""
    rows = [f"| `{name}` | {rule.title} | {rule.description} |" for name, rule in RULES.items()]
    arms = [f"| `{name}` | {arm.title} | {arm.description} |" for name, arm in ARMS.items()]
    head = "| name | title | where it puts hints |\n|---|---|---|\n"
    return (
        "# Rules and arms\n\n`pursuhint train --hints NAME` and `pursuhint select --rule NAME` take a rule; "
        "formulas and sources are in [arms](../arms.md).\n\n" + head + "\n".join(rows)
        + "\n\n## Arms of a comparison\n\n`pursuhint compare --arm NAME` takes these:\n\n" + head
        + "\n".join(arms) + "\n"
    )  # fmt: skip


def _page(title: str, facts: dict[str, str], text: str) -> str:
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    return f"# {title}\n\n| fact | value |\n|---|---|\n{rows}\n\n{text}\n"


def pages() -> Iterator[tuple[str, str]]:
    """Path and Markdown text of every page that is written from a table."""
    recipes = _recipes_by_loss()
    yield "reference/rules.md", rules_page()
    for kind, title, table in (("losses", "Losses", LOSSES), ("metrics", "Metrics", METRICS)):
        links = []
        for name in table:
            text = loss_page(name, recipes.get(name, [])) if kind == "losses" else metric_page(name)
            first = text.splitlines()[0].removeprefix("# ")
            links.append(f"- [{first}]({name}.md) (`{name}`)")
            yield f"reference/{kind}/{name}.md", text
        yield f"reference/{kind}/index.md", f"# {title}\n\n" + "\n".join(links) + "\n"


# -- called by mkdocs ---------------------------------------------------------------------------------------


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for path, text in pages():
        files.append(File.generated(config, path, content=text))
    return files
