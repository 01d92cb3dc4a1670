"""Recipes shipped with the package: one YAML file each, settings and sources of the papers inside.

What several of them have in common is in bases, whose names begin with an underscore.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType

from pursuhint._util.registry import lookup

__all__ = ["BASES", "RECIPES", "is_recipe", "recipe_text"]

RECIPES: Mapping[str, str] = MappingProxyType(
    {
        "digits-vanilla": "a small network alone on the digits, for first tries",
        "digits-pursuhint": "AT + KD at chosen hint points on the digits, for first tries",
        "finetune": "a network from published or own weights on your images, alone",
        "cifar100-vanilla": "a network alone on CIFAR-100",
        "cifar100-kd": "KD (Hinton et al.) on CIFAR-100",
        "cifar100-skd": "Spherical KD on CIFAR-100",
        "cifar100-wsld": "Weighted soft labels on CIFAR-100",
        "cifar100-dkd": "Decoupled KD on CIFAR-100, beta by pair",
        "cifar100-fast": "KD on CIFAR-100 in a quarter of the benchmark's epochs",
        "cifar100-speedrun": "KD on CIFAR-100 against the clock, on one GPU",
        "cifar100-kd-standardized": "KD with standardized logits on CIFAR-100, weight by pair",
        "cifar100-dkd-standardized": "DKD with standardized logits on CIFAR-100, weight by pair",
        "cifar100-mlkd-standardized": "MLKD with standardized logits on CIFAR-100, weight by pair",
        "cifar100-nkd": "Normalized KD on CIFAR-100",
        "cifar100-ttm": "Transformed teacher matching on CIFAR-100",
        "cifar100-wttm": "Weighted transformed teacher matching + CRD on CIFAR-100",
        "cifar100-rld": "Refined logit distillation on CIFAR-100",
        "cifar100-mlkd": "Multi-level logit distillation on CIFAR-100",
        "cifar100-ofa": "One-for-all distillation on CIFAR-100, exits behind the student's stages",
        "cifar100-dist": "DIST on CIFAR-100, correlation of predictions",
        "cifar100-ipwd": "Inverse probability weighting on CIFAR-100",
        "cifar100-fitnet": "FitNet at the end of the second stage on CIFAR-100",
        "cifar100-at": "Attention transfer on CIFAR-100",
        "cifar100-sp": "Similarity-preserving KD on CIFAR-100",
        "cifar100-vid": "Variational information distillation on CIFAR-100",
        "cifar100-nst": "Neuron selectivity transfer on CIFAR-100",
        "cifar100-kdsvd": "KD by singular value decomposition on CIFAR-100",
        "cifar100-fsp": "Flow of the solution procedure on CIFAR-100, 30 epochs first",
        "cifar100-ab": "Activation boundaries on CIFAR-100, 30 epochs first",
        "cifar100-ft": "Factor transfer on CIFAR-100, 30 epochs of paraphraser first",
        "cifar100-ofd": "Feature overhaul on CIFAR-100",
        "cifar100-cwd": "Channel-wise distillation on CIFAR-100",
        "cifar100-pkd": "Pearson correlation of channels on CIFAR-100",
        "cifar100-mgd": "Masked generative distillation on CIFAR-100",
        "cifar100-afd": "Attention-based feature distillation + KD on CIFAR-100",
        "cifar100-semckd": "Semantic calibration + KD on CIFAR-100",
        "cifar100-reviewkd": "Knowledge review on CIFAR-100, weight by pair",
        "cifar100-norm": "N-to-one representation matching on CIFAR-100",
        "cifar100-norm-kd": "NORM + KD on CIFAR-100",
        "cifar100-norm-crd": "NORM + CRD on CIFAR-100",
        "cifar100-distpro": "Distillation process on CIFAR-100, pathways",
        "cifar100-wkd-f": "Wasserstein distance of feature distributions on CIFAR-100",
        "cifar100-cat-kd": "Class attention transfer on CIFAR-100, weight by pair",
        "cifar100-sdd": "Scale decoupled distillation on CIFAR-100",
        "cifar100-sdd-dkd": "Scale decoupled distillation with DKD on CIFAR-100",
        "cifar100-kd-learned": "KD with a learned temperature (CTKD) on CIFAR-100",
        "cifar100-kd-dot": "KD with a distillation-oriented optimizer on CIFAR-100",
        "cifar100-vkd": "VkD, orthogonal projection of the embedding, + KD on CIFAR-100",
        "cifar100-srd": "Simple recipe distillation + KD on CIFAR-100",
        "cifar100-cc": "Correlation congruence on CIFAR-100",
        "cifar100-rkd": "Relational KD on CIFAR-100",
        "cifar100-pkt": "Probabilistic knowledge transfer on CIFAR-100",
        "cifar100-crd": "Contrastive representation distillation on CIFAR-100",
        "cifar100-crd-kd": "CRD + KD on CIFAR-100",
        "cifar100-rrd": "Relational representation distillation on CIFAR-100",
        "cifar100-rrd-kd": "RRD + KD on CIFAR-100",
        "cifar100-icd": "Invariant consistency distillation on CIFAR-100",
        "cifar100-icd-kd": "ICD + KD on CIFAR-100",
        "cifar100-dcd": "Discriminative and consistent distillation on CIFAR-100",
        "cifar100-itrd": "Information-theoretic distillation on CIFAR-100",
        "cifar100-itrd-corr": "ITRD on CIFAR-100, correlation only",
        "cifar100-itrd-corr-mi": "ITRD on CIFAR-100, both terms with the weights of the authors' example",
        "cifar100-ega": "Embedding graph alignment on CIFAR-100",
        "cifar100-fkd": "Feature kernel distillation on CIFAR-100",
        "cifar100-crcd": "Complementary relation contrast + KD on CIFAR-100",
        "cifar100-wcord": "Wasserstein contrast on CIFAR-100",
        "cifar100-wcord-kd": "WCoRD + KD on CIFAR-100",
        "cifar100-srrl": "Softmax regression representation learning + KD on CIFAR-100",
        "cifar100-simkd": "Reused teacher classifier on CIFAR-100",
        "cifar100-aml": "Asymmetric metric learning on CIFAR-100",
        "cifar100-jacobian": "Jacobian matching + KD on CIFAR-100",
        "cifar100-jacobian-attention": "Jacobian matching of attention maps + AT on CIFAR-100",
        "cifar100-refilled": "Relationship matching on CIFAR-100, then local distillation",
        "cifar100-refilled-supplement": "The same with the settings of the extended paper",
        "cub200-refilled-supplement": "Relationship matching on CUB-200, settings of the extended paper",
        "pursuhint-pre-at": "PURSUhInT, pre-activation AT + KD, resnet110 -> resnet20, CIFAR-100",
        "pursuhint-pre-fitnet": "PURSUhInT, pre-activation FitNet + KD, resnet110 -> resnet20, CIFAR-100",
        "pursuhint-pre-vid": "PURSUhInT, pre-activation VID + KD, resnet110 -> resnet20, CIFAR-100",
        "pursuhint-pre-at-skd": "PURSUhInT, pre-activation AT + SKD, resnet110 -> resnet20",
        "pursuhint-pre-fitnet-skd": "PURSUhInT, pre-activation FitNet + SKD, resnet110 -> resnet20",
        "pursuhint-pre-vid-skd": "PURSUhInT, pre-activation VID + SKD, resnet110 -> resnet20",
        "pursuhint-post-resnet110": "PURSUhInT, post-activation AT + KD, resnet110 -> resnet20, CIFAR-100",
        "pursuhint-post-resnet32x4": "PURSUhInT, post-activation AT + KD, resnet32x4 -> resnet8x4, CIFAR-100",
        "pursuhint-post-wrn-40-2": "PURSUhInT, post-activation AT + KD, WRN-40-2 -> WRN-16-2, CIFAR-100",
        "pursuhint-wsld-at": "PURSUhInT with WSLD + AT on CIFAR-100, six pairs",
        "pursuhint-afd": "PURSUhInT with AFD + KD on CIFAR-100, six pairs",
        "pursuhint-crd-at-kd": "PURSUhInT with CRD + AT + KD on CIFAR-100, six pairs",
        "imagenet-pursuhint": "PURSUhInT, AT (p = 1) + KD, ResNet-34 -> ResNet-18 on ImageNet",
        "imagenet-kd": "KD (Hinton et al.), ResNet-34 -> ResNet-18 on ImageNet",
        "imagenet-at": "Attention transfer, ResNet-34 -> ResNet-18 on ImageNet",
        "imagenet-dkd": "Decoupled KD, ResNet-34 -> ResNet-18 on ImageNet",
        "imagenet-dist": "DIST, correlation of predictions, ResNet-34 -> ResNet-18 on ImageNet",
        "imagenet-skd": "Spherical KD on ImageNet, ResNet-34 -> ResNet-18",
        "imagenet-wsld": "Weighted soft labels, ResNet-34 -> ResNet-18 on ImageNet",
        "imagenet-crd": "Contrastive representation distillation, ResNet-34 -> ResNet-18 on ImageNet",
        "imagenet-rrd": "Relational representation distillation, ResNet-34 -> ResNet-18 on ImageNet",
        "imagenet-rrd-kd": "RRD + KD, ResNet-34 -> ResNet-18 on ImageNet",
        "imagenet-reviewkd": "Knowledge review, ResNet-34 -> ResNet-18 on ImageNet",
        "imagenet-srrl": "Softmax regression representation learning, ResNet-34 -> ResNet-18 on ImageNet",
        "imagenet-norm": "N-to-one representation matching, ResNet-34 -> ResNet-18 on ImageNet",
    }
)
"""Name of every shipped recipe and what it is for; the file is ``NAME.yaml`` beside this one."""


BASES: tuple[str, ...] = (
    "_cifar100",
    "_cifar100-pairs",
    "_cifar100-review",
    "_imagenet",
    "_pursuhint",
    "_pursuhint-points",
    "_pursuhint-post",
    "_pursuhint-pre",
)
"""What several recipes have in common: files to extend, no recipes by themselves."""


def is_recipe(name: str) -> bool:
    """Whether a shipped recipe, or a base of some, has this name."""
    return name in RECIPES or name in BASES


def recipe_text(name: str) -> str:
    """The YAML text of a shipped recipe or base, comments included.

    Raises:
        PursuhintError: there is none of that name; the message suggests the closest ones.
    """
    if name not in BASES:
        lookup("recipe", RECIPES, name)
    return resources.files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
