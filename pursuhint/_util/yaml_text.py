"""Parse YAML of the user within bounds: plain values, no repeated keys, no bombs of aliases."""

from __future__ import annotations

from typing import Any

import yaml

from pursuhint.errors import PursuhintError

__all__ = ["parse_yaml"]

LARGEST_TREE = 20_000  # nodes, with every alias counted as what it stands for; our longest recipe has 200
DEEPEST_TREE = 32


def parse_yaml(text: str, source: str) -> Any:
    """Parse a YAML document of plain values.

    Args:
        text: the document.
        source: what it is, for the messages: ``"the recipe crd.yaml"``.

    Raises:
        PursuhintError: the text is not valid YAML, names a key twice, refers to itself, holds half of a
            surrogate pair, or is larger or deeper than any recipe.
    """
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _measured(node, source, {})
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        line = f" (line {place.line + 1})" if place else ""
        raise PursuhintError(f"{source} is not valid YAML{line}; check indentation and quotes") from None
    except RecursionError:
        raise PursuhintError(
            f"{source} is nested too deeply, expected at most {DEEPEST_TREE} levels"
        ) from None
    except (
        ValueError,
        OverflowError,
        TypeError,
    ) as error:  # dates that do not exist, numbers of 5,000 digits
        reason = " ".join(str(error).split())[:100]
        raise PursuhintError(f"{source} holds a value that cannot be read: {reason}") from None


def _measured(node: yaml.Node, source: str, known: dict[int, int | None], depth: int = 0) -> int:
    """Number of nodes below one, aliases expanded; checks depth, keys and circles on the way."""
    if depth > DEEPEST_TREE:
        raise PursuhintError(f"{source} is nested too deeply, expected at most {DEEPEST_TREE} levels")
    if id(node) in known:
        size = known[id(node)]
        if size is None:
            raise PursuhintError(f"{source} refers to itself (line {node.start_mark.line + 1})")
        return size
    known[id(node)] = None  # until it is left again
    size = 1
    if isinstance(node, yaml.MappingNode):
        _check_keys(node, source)
        children = [child for pair in node.value for child in pair]
    elif isinstance(node, yaml.ScalarNode):
        children = []
        if any("\ud800" <= character <= "\udfff" for character in node.value):
            line = node.start_mark.line + 1
            raise PursuhintError(f"{source} holds half a character, which no file can (line {line})")
    else:
        children = node.value
    for child in children:
        size += _measured(child, source, known, depth + 1)
        if size > LARGEST_TREE:
            raise PursuhintError(
                f"{source} is too large: more than {LARGEST_TREE:,} values, aliases expanded"
            )
    known[id(node)] = size
    return size


def _check_keys(node: yaml.MappingNode, source: str) -> None:
    seen: dict[str, int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise PursuhintError(f"{source}: a key must be a single value (line {key.start_mark.line + 1})")
        line = key.start_mark.line + 1
        if key.value in seen and key.value != "<<":
            raise PursuhintError(
                f"{source}: {key.value!r} stands twice, in lines {seen[key.value]} and {line}; join the two"
            )
        seen[key.value] = line
