"""Everything a student can be trained with, by name.

`LOSSES` is the one place where a loss has a name: the command line, recipes and the tests read it. Library
code passes classes and objects, so a loss of your own needs no entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from pursuhint._util.lazy_exports import lazy_exports
from pursuhint._util.registry import check_name, load
from pursuhint.errors import PursuhintError

if TYPE_CHECKING:
    from pursuhint.losses._parts.classification import add_classification
    from pursuhint.losses.base import (
        EmbeddingLoss,
        HintLoss,
        HintsLoss,
        HintSum,
        LabelLoss,
        LogitLoss,
        Loss,
        WarmUp,
    )
    from pursuhint.losses.ce import CrossEntropyLoss
    from pursuhint.losses.checks import (
        check_choice,
        check_non_negative,
        check_positive,
        check_same_batch,
        check_same_classes,
    )
    from pursuhint.losses.context import FeatureShape, LossContext, Network
    from pursuhint.losses.distpro import PathwayLoss, pathway_weights
    from pursuhint.losses.info import Input, LossInfo

__getattr__, __dir__, __all__ = lazy_exports(__name__, "ALIASES", "LOSSES", "get_loss")

LOSSES: Mapping[str, str] = MappingProxyType(
    {
        "ce": "pursuhint.losses.ce:CrossEntropyLoss",
        "kd": "pursuhint.losses.kd:SoftTargetLoss",
        "skd": "pursuhint.losses.skd:SphericalLoss",
        "at": "pursuhint.losses.at:AttentionTransferLoss",
        "fitnet": "pursuhint.losses.fitnet:FitNetLoss",
        "vid": "pursuhint.losses.vid:VariationalInformationLoss",
        "afd": "pursuhint.losses.afd:AttentionMatchingLoss",
        "reviewkd": "pursuhint.losses.reviewkd:KnowledgeReviewLoss",
        "crd": "pursuhint.losses.crd:ContrastiveRepresentationLoss",
        "rrd": "pursuhint.losses.rrd:RelationalRepresentationLoss",
        "wsld": "pursuhint.losses.wsld:WeightedSoftLabelLoss",
        "dkd": "pursuhint.losses.dkd:DecoupledLoss",
        "icd": "pursuhint.losses.icd:InvariantConsistencyLoss",
        "dcd": "pursuhint.losses.dcd:DiscriminativeConsistentLoss",
        "itrd": "pursuhint.losses.itrd:InformationTheoreticLoss",
        "ega": "pursuhint.losses.ega:EmbeddingGraphLoss",
        "dist": "pursuhint.losses.dist:PredictionCorrelationLoss",
        "srrl": "pursuhint.losses.srrl:SoftmaxRegressionLoss",
        "semckd": "pursuhint.losses.semckd:SemanticCalibrationLoss",
        "simkd": "pursuhint.losses.simkd:ReusedClassifierLoss",
        "norm": "pursuhint.losses.norm:NToOneLoss",
        "jacobian": "pursuhint.losses.jacobian:JacobianLoss",
        "jacobian-attention": "pursuhint.losses.jacobian_attention:AttentionJacobianLoss",
        "ipwd": "pursuhint.losses.ipwd:InverseProbabilityLoss",
        "fkd": "pursuhint.losses.fkd:FeatureKernelLoss",
        "crcd": "pursuhint.losses.crcd:ComplementaryRelationLoss",
        "wcord": "pursuhint.losses.wcord:WassersteinContrastLoss",
        "distpro": "pursuhint.losses.distpro:PathwayLoss",
        "refilled": "pursuhint.losses.refilled:RelationshipMatchingLoss",
        "aml": "pursuhint.losses.aml:AsymmetricMetricLoss",
        "sp": "pursuhint.losses.sp:SimilarityPreservingLoss",
        "cc": "pursuhint.losses.cc:CorrelationCongruenceLoss",
        "rkd": "pursuhint.losses.rkd:RelationalLoss",
        "pkt": "pursuhint.losses.pkt:ProbabilisticTransferLoss",
        "nst": "pursuhint.losses.nst:NeuronSelectivityLoss",
        "kdsvd": "pursuhint.losses.kdsvd:SingularVectorLoss",
        "fsp": "pursuhint.losses.fsp:SolutionFlowLoss",
        "ab": "pursuhint.losses.ab:ActivationBoundaryLoss",
        "ft": "pursuhint.losses.ft:FactorTransferLoss",
        "ofd": "pursuhint.losses.ofd:FeatureOverhaulLoss",
        "nkd": "pursuhint.losses.nkd:NormalizedKnowledgeLoss",
        "ttm": "pursuhint.losses.ttm:TransformedTeacherLoss",
        "wttm": "pursuhint.losses.wttm:WeightedTransformedTeacherLoss",
        "rld": "pursuhint.losses.rld:RefinedLogitLoss",
        "mlkd": "pursuhint.losses.mlkd:MultiLevelLoss",
        "ofa": "pursuhint.losses.ofa:OneForAllLoss",
        "wkd-f": "pursuhint.losses.wkd_f:NormalDistanceLoss",
        "cat-kd": "pursuhint.losses.cat_kd:ClassAttentionLoss",
        "sdd": "pursuhint.losses.sdd:ScaleDecoupledLoss",
        "srd": "pursuhint.losses.srd:SimpleRecipeLoss",
        "vkd": "pursuhint.losses.vkd:OrthogonalProjectionLoss",
        "cwd": "pursuhint.losses.cwd:ChannelWiseLoss",
        "pkd": "pursuhint.losses.pkd:PearsonLoss",
        "mgd": "pursuhint.losses.mgd:MaskedGenerativeLoss",
    }
)

ALIASES: Mapping[str, str] = MappingProxyType({"spherical": "skd"})
"""Other names of losses, each for an entry of `LOSSES`, under whose name it is listed, kept and logged."""


def get_loss(name: str) -> type[Loss]:
    """The class of a named loss; build it with `Loss.build`.

    Args:
        name: in `LOSSES` or `ALIASES`, or registered by another distribution in the entry-point group
            ``pursuhint.losses``; or ``python:NAME`` of one that was passed from Python to the present run.

    Raises:
        PursuhintError: no loss has this name (the message suggests the closest ones), two have it, or
            another distribution registers something that is no `Loss`.
    """
    if name.startswith("python:"):
        from pursuhint.losses.passed import passed_loss

        return passed_loss(name)
    if name in ALIASES:
        check_name("loss", ALIASES, name)  # refuses a distribution that registers it
        name = ALIASES[name]
    loss: type[Loss] = load("loss", LOSSES, name)
    if name not in LOSSES:
        from pursuhint.losses.base import Loss as Base  # imports torch, which listing names must not

        if not (isinstance(loss, type) and issubclass(loss, Base)):
            raise PursuhintError(f"loss {name!r} must be a subclass of pursuhint.losses.Loss, got {loss!r}")
    return loss
