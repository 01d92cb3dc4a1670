"""Many runs and what they show together: comparisons with honest statistics.

Importing this package imports no torch; the names below are resolved when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pursuhint._util.lazy_exports import lazy_exports
from pursuhint._util.registry import resolve
from pursuhint.study.arms import ARMS, CONTROLS, DEFAULT_ARMS, Arm

if TYPE_CHECKING:
    from pursuhint.study.arm_result import ArmResult, SeedResult, first_of_same, title_of
    from pursuhint.study.arms import ARMS, DEFAULT_ARMS, Arm
    from pursuhint.study.comparison import Comparison
    from pursuhint.study.cross_task_methods import CROSS_TASK_METHODS, REFILLED_SETTINGS
    from pursuhint.study.cross_task_result import (
        CrossTaskCell,
        CrossTaskOverlap,
        CrossTaskResult,
        StudentMeasures,
        TeacherDoubt,
    )
    from pursuhint.study.crossed import CrossedCell, CrossedComparison
    from pursuhint.study.equality import MARGIN, equality_p_value
    from pursuhint.study.events import (
        ArmFinished,
        ArmLossDominated,
        ArmResumed,
        ArmsStarted,
        PhaseStarted,
        StudyEvent,
        Watcher,
    )
    from pursuhint.study.grids.cells import GridCell, GridOptions
    from pursuhint.study.grids.cost import GridCost, estimate_grid
    from pursuhint.study.grids.run import GridProgress, run_grid
    from pursuhint.study.grids.submit import JobOptions, submit_grid
    from pursuhint.study.improvement import Improvement, probability_of_improvement
    from pursuhint.study.method_comparison import METHODS_FILE, MethodComparison, MethodResult
    from pursuhint.study.multiplicity import holm
    from pursuhint.study.new_images import TwoWayInterval, two_way_interval
    from pursuhint.study.paired_statistics import (
        PairedComparison,
        Summary,
        compare_pairs,
        conclusion,
        correct_for_multiplicity,
        summarize,
    )
    from pursuhint.study.pathway_search import search_process
    from pursuhint.study.power import detectable_difference
    from pursuhint.study.profile import Profile, StepProfile, profile_networks, profile_steps
    from pursuhint.study.published_figures import beside_published
    from pursuhint.study.run_comparison import ComparisonRequest, compare
    from pursuhint.study.run_cross_task import CrossTaskRequest, crosstask
    from pursuhint.study.run_crossed import Crossing, compare_crossed
    from pursuhint.study.run_methods import compare_methods
    from pursuhint.study.run_search import search
    from pursuhint.study.run_transfer import transfer
    from pursuhint.study.search_result import Confirmation, Pruner, SearchOptions, SearchResult, SearchTrial
    from pursuhint.study.search_space import Varied, parse_varied
    from pursuhint.study.sequential import SequentialPlan
    from pursuhint.study.sign_flips import sign_flip_p_value
    from pursuhint.study.study import StudyOptions
    from pursuhint.study.teacher_student import TeacherStudentSimilarity, teacher_student_similarity
    from pursuhint.study.transfer_result import LinearAccuracy, TransferredRun, TransferResult
    from pursuhint.study.transfer_settings import CLASSIFIERS, TransferSettings

__getattr__, __dir__, __all__ = lazy_exports(__name__, "CONTROLS")
