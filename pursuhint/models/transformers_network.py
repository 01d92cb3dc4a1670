"""Networks of the package transformers: by type, from a folder of ``save_pretrained``, or from its hub."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from pursuhint._util.hub import quiet_hub
from pursuhint._util.registry import did_you_mean
from pursuhint.errors import PursuhintError

PREFIX = "hf:"

_CLASSIFIERS = ("AutoModelForImageClassification", "AutoModelForSequenceClassification")
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")
_TOWERS = "vision_config"  # of networks of images and texts, such as CLIP


def transformers_model(
    name: str,
    *,
    num_classes: int,
    in_channels: int = 3,
    vocab_size: int | None = None,
    classifier: bool | None = None,
    **options: Any,
) -> nn.Module:
    """Build a network of transformers with random weights; `pretrained_model` has those that were saved.

    Args:
        name: a folder that ``save_pretrained`` wrote, a type of transformers such as ``vit`` or ``bert``, or
            ``OWNER/NAME`` on its hub, of which only the configuration is fetched.
        num_classes: number of logits, for networks with a classifier.
        in_channels: channels of the images, for networks of images.
        vocab_size: numbers of tokens that occur, for networks of text. A type gets an embedding for each;
            a saved network must have as many.
        classifier: whether the network ends in a classifier. Default: as it was saved, and for a type if
            there is one. Without one the network returns features; heads of other tasks are left off, and
            of networks of images and texts (CLIP) the vision tower remains.
        **options: keys of the configuration, such as ``hidden_size``.

    Returns:
        The network. ``image_processor`` holds what was saved of its preprocessing.

    Raises:
        PursuhintError: transformers is not installed, nothing of this name, out of reach, code of others
            would run, or an unknown or wrong option.
    """
    label = f"{PREFIX}{name}"
    with _quiet(label):
        config, saved = _config(name, label, options)
        kind, config = _class_of(config, classifier, saved, label)
        channels = getattr(config, "num_channels", None)
        if channels is not None:
            config.num_channels = in_channels
        if vocab_size is not None:
            _fit_vocabulary(config, vocab_size, label, saved)
        if kind.__name__ in _CLASSIFIERS:
            config.num_labels = num_classes
            config.problem_type = None
        network = _checked(label, options, lambda: kind.from_config(config))
        network.image_processor = None if channels is None else _processor(name, saved)
    assert isinstance(network, nn.Module)
    return network


def pretrained_model(name: str, *, classifier: bool | None = None) -> nn.Module:
    """A network of transformers with the weights that were saved, named as in `transformers_model`.

    Args:
        name: a folder that ``save_pretrained`` wrote, or ``OWNER/NAME`` on the hub.
        classifier: as for `transformers_model`. Layers that were not saved are missing in the result.

    Raises:
        PursuhintError: as `transformers_model`, or it has no weights.
    """
    label = f"{PREFIX}{name}"
    with _quiet(label):
        config, saved = _config(name, label, {})
        if not saved:
            raise PursuhintError(
                f"{label} is a type of network, whose weights nobody has saved; name a folder or OWNER/NAME"
            )
        kind, config = _class_of(config, classifier, saved, label)
        where = _place(name)
        network, found = _checked(
            label, {}, lambda: kind.from_pretrained(where, config=config, output_loading_info=True)
        )
    for module in {key.rpartition(".")[0] for key in found["missing_keys"]} - {""}:
        network.set_submodule(module, nn.Identity())  # else its random numbers would count as trained
    assert isinstance(network, nn.Module)
    return network


def _place(name: str) -> str:
    """A folder as a path that transformers takes, or the name on its hub."""
    folder = Path(name).expanduser()
    return str(folder) if folder.is_dir() else name


def saved_state(name: str) -> str:
    """What tells the files of a saved network in a folder from later ones; empty for other names."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return ""
    files = sorted(folder.glob("*.safetensors")) + sorted(folder.glob("*.bin")) + [folder / "config.json"]
    found = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.is_file()]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:12]


def _config(name: str, label: str, options: Mapping[str, Any]) -> tuple[Any, bool]:
    """The configuration of a network, and whether it was saved: not for a type of transformers."""
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    folder = Path(name).expanduser()
    if not folder.is_dir() and name in CONFIG_MAPPING_NAMES:
        _check_keys(label, type(AutoConfig.for_model(name)), options)
        return _checked(label, options, lambda: AutoConfig.for_model(name, **options)), False
    where = _place(name)
    if not folder.is_dir() and "/" not in name:
        known = did_you_mean(name, list(CONFIG_MAPPING_NAMES), shown=6)
        raise PursuhintError(
            f"transformers has no type of network {name!r}, and there is no such folder; {known}"
        )
    config = _checked(label, options, lambda: AutoConfig.from_pretrained(where))
    _check_keys(label, type(config), options)
    for key, value in options.items():
        setattr(config, key, value)
    return config, True


def _check_keys(label: str, kind: type, options: Mapping[str, Any]) -> None:
    known = [key for key in vars(kind()) if not key.startswith("_")]
    for key in options:
        if key not in known and key not in getattr(kind, "attribute_map", {}):
            raise PursuhintError(f"{label} has no option {key!r}; {did_you_mean(key, known)}")


def _class_of(config: Any, classifier: bool | None, saved: bool, label: str) -> tuple[Any, Any]:
    """The class that builds a network, and the configuration that it takes."""
    import transformers

    kinds = [getattr(transformers, name) for name in _CLASSIFIERS]
    fitting = [kind for kind in kinds if type(config) in kind._model_mapping]
    if classifier is None:
        named = (getattr(config, "architectures", None) or [""])[0]
        classifier = "Classification" in named if saved else bool(fitting)
    if classifier:
        if not fitting:
            raise PursuhintError(
                f"{label} has no class with a classifier in transformers; leave the option classifier "
                "out, or train another network"
            )
        return fitting[0], config
    if getattr(config, _TOWERS, None) is not None and hasattr(config, "text_config"):
        config = getattr(config, _TOWERS)
    return transformers.AutoModel, config


def _fit_vocabulary(config: Any, tokens: int, label: str, saved: bool) -> None:
    known = getattr(config, "vocab_size", None)
    if known is None:
        raise PursuhintError(f"{label} takes no text: its configuration has no vocab_size")
    if not saved:
        config.vocab_size = tokens
    elif known < tokens:
        raise PursuhintError(
            f"{label} has {known} tokens and the text {tokens}; read the text with the network's own "
            "tokenizer (--tokenizer, data.text.tokenizer)"
        )


def _processor(name: str, saved: bool) -> dict[str, Any] | None:
    """What was saved of a network's preprocessing of images; None without it."""
    if not saved:
        return None
    from transformers.utils import cached_file

    for file in _PROCESSORS:
        found = cached_file(
            _place(name), file,
            _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False,
        )  # fmt: skip
        if found is not None:
            try:
                values = json.loads(Path(found).read_text(encoding="utf-8"))
            except ValueError:
                continue
            values = values.get("image_processor", values)
            if isinstance(values, dict):
                return values
    return None


def _checked(label: str, options: Mapping[str, Any], build: Callable[[], Any]) -> Any:
    """Call a builder of transformers, which raises errors of many kinds; ours are one line."""
    try:
        return build()
    except OSError as error:
        if Path(label.removeprefix(PREFIX)).expanduser().is_dir():
            raise PursuhintError(f"cannot read {label}: {_first_line(error)}") from error
        raise PursuhintError(
            f"cannot fetch {label}: no such network on the hub, or the hub is out of reach; where there is a "
            "network, write it with save_pretrained(FOLDER), and name hf:FOLDER"
        ) from error
    except Exception as error:
        if "trust_remote_code" in str(error):
            raise PursuhintError(f"{label} comes with code of its own, which is not run") from error
        asked = f" with {', '.join(options)}" if options else ""
        raise PursuhintError(f"{label} cannot be built{asked}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


@contextlib.contextmanager
def _quiet(label: str) -> Iterator[None]:
    """Transformers without its warnings and progress bars, and its hub as `quiet_hub` has it.

    Raises:
        PursuhintError: it is not installed.
    """
    try:
        from transformers.utils import logging
    except ImportError:
        raise PursuhintError(f"{label} needs transformers: pip install 'pursuhint[hf]'") from None
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    local = Path(label.removeprefix(PREFIX)).expanduser().is_dir() or "/" not in label
    try:
        with contextlib.nullcontext() if local else quiet_hub():
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
