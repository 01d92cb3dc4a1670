"""Embedding graph alignment (Ma, Chen and Akata, 2022)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from pursuhint._util.distributed import gather
from pursuhint.errors import PursuhintError
from pursuhint.losses._parts.vectors import standardized
from pursuhint.losses.base import EmbeddingLoss
from pursuhint.losses.checks import check_choice, check_non_negative, check_same_batch

__all__ = ["EmbeddingGraphLoss"]

Projection = Literal["if needed", "always", "never"]


class EmbeddingGraphLoss(EmbeddingLoss):
    r"""See the batch as a graph, whose nodes are samples and whose edges correlations; align both graphs.

    With :math:`\rho` Pearson's correlation of two embeddings over their entries,

    .. math:: L = w_n \lVert N - I \rVert_F + w_e \lVert E_T - E_S \rVert_F, \quad
              N_{ij} = \rho(t_i, s_j), \; E_{T,ij} = \rho(t_i, t_j), \; E_{S,ij} = \rho(s_i, s_j) .

    The norms are not squared and grow with the batch, which is the one of all ranks. Embeddings of the same
    width are compared as they are, as in the authors' code; where widths differ, a learned linear map brings
    the student's to the teacher's. The paper has such a head on the student's embedding always. An embedding
    of equal entries, for which that code gives NaN, is correlated with nothing, not even itself.

    Reference: Y. Ma, Y. Chen and Z. Akata, Distilling Knowledge from Self-Supervised Teacher by Embedding
    Graph Alignment, BMVC 2022, https://arxiv.org/abs/2211.13264. The authors' code gives no weight beside
    the cross-entropy; it is 1 here.

    Args:
        student_width: width of the student's embedding.
        teacher_width: width of the teacher's embedding.
        node_weight: :math:`w_n`, at least 0.
        edge_weight: :math:`w_e`, at least 0.
        projection: map the student's embedding ``"if needed"``, ``"always"`` or ``"never"``.

    Raises:
        PursuhintError: a weight is negative, or widths differ and no map is allowed.

    Example:
        >>> loss = EmbeddingGraphLoss(64, 256)
        >>> loss(torch.randn(8, 64), torch.randn(8, 256)).shape
        torch.Size([])
    """

    info = EmbeddingLoss.info.replace(
        title="EGA",
        paper="Ma, Chen and Akata, Embedding Graph Alignment, BMVC 2022",
        learns="a projection, where the widths differ",
        default_weight=1.0,
        minimum=None,
        batch_coupled=True,
    )

    def __init__(
        self,
        student_width: int,
        teacher_width: int,
        *,
        node_weight: float = 1.0,
        edge_weight: float = 0.3,
        projection: Projection = "if needed",
    ) -> None:
        super().__init__()
        check_non_negative(node_weight=node_weight, edge_weight=edge_weight)
        check_choice(Projection, projection=projection)
        if projection == "never" and student_width != teacher_width:
            raise PursuhintError(
                f"the student's embedding has {student_width} entries, the teacher's {teacher_width}; "
                "EGA needs a projection between them"
            )
        self.node_weight = node_weight
        self.edge_weight = edge_weight
        mapped = projection == "always" or student_width != teacher_width
        self.student_embed = nn.Linear(student_width, teacher_width) if mapped else nn.Identity()

    def terms(self, student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
        """Compare the embeddings of one batch.

        Args:
            student: (N, D_s).
            teacher: (N, D_t).

        Returns:
            The two addends, weighted: ``node`` and ``edge``. Their sum is at least 0.

        Raises:
            PursuhintError: the batch sizes differ.
        """
        check_same_batch(student, teacher)
        own = gather(standardized(self.student_embed(student), dim=1))
        other = gather(standardized(teacher, dim=1))
        degrees = max(own.shape[1] - 1, 1)
        # Correlations of samples: of teacher with student (nodes), and within each network (edges).
        nodes = other @ own.T / degrees
        edges = (other @ other.T - own @ own.T) / degrees
        identity = torch.eye(len(nodes), dtype=nodes.dtype, device=nodes.device)
        return {
            "node": self.node_weight * torch.linalg.matrix_norm(nodes - identity),
            "edge": self.edge_weight * torch.linalg.matrix_norm(edges),
        }
