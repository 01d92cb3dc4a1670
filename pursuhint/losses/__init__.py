"""Everything a student can be trained with, by name.

`LOSSES` is the one place where a loss has a name: the command line, recipes and the tests read it. Library
code passes classes and objects, so a loss of your own needs no entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from pursuhint.tables import lookup, resolve

if TYPE_CHECKING:
    from pursuhint.losses.base import Loss

__all__ = ["LOSSES", "get_loss"]

LOSSES: Mapping[str, str] = MappingProxyType(
    {
        "ce": "pursuhint.losses.cross_entropy:CrossEntropyLoss",
        "kd": "pursuhint.losses.kd:SoftTargetLoss",
        "skd": "pursuhint.losses.skd:SphericalLoss",
        "at": "pursuhint.losses.at:AttentionTransferLoss",
        "fitnet": "pursuhint.losses.fitnet:FitNetLoss",
        "vid": "pursuhint.losses.vid:VariationalInformationLoss",
        "afd": "pursuhint.losses.attention_matching:AttentionMatchingLoss",
        "reviewkd": "pursuhint.losses.knowledge_review:KnowledgeReviewLoss",
        "crd": "pursuhint.losses.contrastive_representation:ContrastiveRepresentationLoss",
        "rrd": "pursuhint.losses.relational_representation:RelationalRepresentationLoss",
        "wsld": "pursuhint.losses.weighted_soft_label:WeightedSoftLabelLoss",
        "dkd": "pursuhint.losses.decoupled:DecoupledLoss",
        "icd": "pursuhint.losses.invariant_consistency:InvariantConsistencyLoss",
        "dcd": "pursuhint.losses.discriminative_consistent:DiscriminativeConsistentLoss",
        "itrd": "pursuhint.losses.information_theoretic:InformationTheoreticLoss",
        "ega": "pursuhint.losses.embedding_graph:EmbeddingGraphLoss",
        "dist": "pursuhint.losses.prediction_correlation:PredictionCorrelationLoss",
        "srrl": "pursuhint.losses.softmax_regression:SoftmaxRegressionLoss",
        "semckd": "pursuhint.losses.semantic_calibration:SemanticCalibrationLoss",
        "simkd": "pursuhint.losses.reused_classifier:ReusedClassifierLoss",
        "norm": "pursuhint.losses.n_to_one:NToOneLoss",
        "jacobian": "pursuhint.losses.jacobian:JacobianLoss",
        "jacobian-attention": "pursuhint.losses.jacobian:AttentionJacobianLoss",
        "ipwd": "pursuhint.losses.inverse_probability:InverseProbabilityLoss",
        "fkd": "pursuhint.losses.feature_kernel:FeatureKernelLoss",
        "crcd": "pursuhint.losses.complementary_relation:ComplementaryRelationLoss",
        "wcord": "pursuhint.losses.wasserstein_contrast:WassersteinContrastLoss",
        "distpro": "pursuhint.losses.pathways:PathwayLoss",
        "refilled": "pursuhint.losses.relationship_matching:RelationshipMatchingLoss",
        "aml": "pursuhint.losses.asymmetric_metric:AsymmetricMetricLoss",
        "sp": "pursuhint.losses.similarity_preserving:SimilarityPreservingLoss",
        "cc": "pursuhint.losses.correlation_congruence:CorrelationCongruenceLoss",
        "rkd": "pursuhint.losses.relational:RelationalLoss",
        "pkt": "pursuhint.losses.probabilistic_transfer:ProbabilisticTransferLoss",
        "nst": "pursuhint.losses.neuron_selectivity:NeuronSelectivityLoss",
        "kdsvd": "pursuhint.losses.singular_vectors:SingularVectorLoss",
        "fsp": "pursuhint.losses.solution_flow:SolutionFlowLoss",
        "ab": "pursuhint.losses.activation_boundaries:ActivationBoundaryLoss",
        "ft": "pursuhint.losses.factor_transfer:FactorTransferLoss",
        "ofd": "pursuhint.losses.overhaul:FeatureOverhaulLoss",
    }
)


def get_loss(name: str) -> type[Loss]:
    """The class of a named loss; build it with `Loss.build`.

    Raises:
        PursuhintError: no loss has this name; the message suggests the closest ones.
    """
    loss: type[Loss] = resolve(lookup("loss", LOSSES, name))
    return loss
