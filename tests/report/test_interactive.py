"""The interactive maps: their script reads what Python writes, checked where no browser is installed, too."""

from __future__ import annotations

import json
import re

from pursuhint.report.figures.interactive import Layer, live_map_of_layers, live_map_of_networks, script

VALUES = [[1.0, 0.5], [0.5, 1.0]]
LAYERS = [
    Layer("a", 1, stage=1, cluster=0, chosen=True, conventional=True, frequency=0.5),
    Layer("b", 2, stage=2, cluster=1, chosen=True, conventional=True, frequency=0.5),
]


def test_the_script_reads_every_key():
    one = live_map_of_layers(VALUES, LAYERS, metric="CKA", label="a map", errors=VALUES)
    moments = {"before": VALUES, "after": VALUES}
    two = live_map_of_networks(moments, LAYERS, LAYERS, metric="CKA", label="maps", pairs=[(0, 1)])
    assert [entry["label"] for entry in json.loads(two)["maps"]] == ["before", "after", "change"]
    written: set[str] = set()

    def collect(value: object) -> None:
        if isinstance(value, dict):
            written.update(value)
            value = list(value.values())
        for entry in value if isinstance(value, list) else ():
            collect(entry)

    collect([json.loads(one), json.loads(two)])
    read = set(re.findall(r"\.([A-Za-z]+)\b", script())) | set(re.findall(r'"([a-z]+)"', script()))
    assert {"colors", "values", "rows", "maps", "color", "frequency"} <= written
    assert written <= read, written - read
