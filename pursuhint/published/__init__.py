"""Numbers that papers publish, to stand beside one's own.

`published_results` returns every figure of the result tables of five papers, and some of the losses since
2021; `published_table` one table, `relative_improvement` the papers' measure of what a method gains over KD,
`paper_grids` what has to be trained for each table and figure. Importing this package needs no PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pursuhint._util.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from pursuhint.published.grids import Grid, GridRow, NetworkPair, find_grid, paper_grids
    from pursuhint.published.improvement import relative_improvement
    from pursuhint.published.page import papers_page
    from pursuhint.published.results import PAPERS, Paper, PublishedResult, published_results
    from pursuhint.published.table import Table, published_table

__getattr__, __dir__, __all__ = lazy_exports(__name__)
