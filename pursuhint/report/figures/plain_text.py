"""Figures that show names as they are: neither as mathematics, nor with characters that no font has."""

from __future__ import annotations

from matplotlib import rc_context
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter

from pursuhint._util.text import printable

_LONGEST = 200  # characters of a name; no figure has room for more


class PlainTextFigure(Figure):
    """A figure whose texts may hold names of modules and files, with ``$`` and control characters."""

    def draw(self, renderer: RendererBase) -> None:
        # Ticks make their labels while they are drawn, from the texts of the formatter.
        for axis in (axis for axes in self.axes for axis in (axes.xaxis, axes.yaxis)):
            if isinstance(formatter := axis.get_major_formatter(), FixedFormatter):
                formatter.seq = [_plain(str(text)) for text in formatter.seq]
        with rc_context({"text.parse_math": False}):
            for text in self.findobj(Text):
                assert isinstance(text, Text)
                text.set_parse_math(False)
                text.set_text(_plain(text.get_text()))
            super().draw(renderer)


def _plain(text: str) -> str:
    """Every line printable; a line end in a label of ours stays."""
    return "\n".join(printable(line, longest=_LONGEST) for line in text.split("\n"))
