"""Access to the hub from which timm and transformers fetch weights."""

from __future__ import annotations

import contextlib
import logging
import urllib.error
import urllib.request
from collections.abc import Iterator

_PATIENCE = 10.0  # seconds to wait for an answer of the hub before it counts as out of reach


@contextlib.contextmanager
def quiet_hub() -> Iterator[None]:
    """Let the hub's client look into its cache alone where the hub is out of reach.

    It would retry for more than half a minute for every file, with a line on stderr each time.
    """
    from huggingface_hub import constants

    logger, offline = logging.getLogger("huggingface_hub"), constants.HF_HUB_OFFLINE
    level = logger.level
    try:
        request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
        urllib.request.urlopen(request, timeout=_PATIENCE).close()
    except urllib.error.HTTPError:
        pass  # it answers
    except OSError:
        constants.HF_HUB_OFFLINE = True
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = offline
        logger.setLevel(level)
