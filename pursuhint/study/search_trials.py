"""The trials of a search in Optuna's journal, which several processes and machines may share."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pursuhint._util.atomic_files import make_folder
from pursuhint._util.folder_lock import lock_folder
from pursuhint._util.seeds import derived_seed
from pursuhint.errors import PursuhintError
from pursuhint.study.search_result import SearchTrial
from pursuhint.training.run_folder.record import read_metrics

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

    from pursuhint.study.search_space import Varied

_JOURNAL = "trials.journal"
_VALUES, _ERROR, _SAME = "values", "error", "same"  # user attributes of a trial
_FEWEST = 4  # complete trials from which importances are estimated
_PATIENCE = 600.0  # seconds for another process to choose its next trials
_GRACE = 10  # seconds after which a lock of the journal is that of a process that was killed
_State = Literal["complete", "pruned", "failed", "running"]
_STATES: Mapping[str, _State] = {
    "COMPLETE": "complete",
    "PRUNED": "pruned",
    "FAIL": "failed",
    "RUNNING": "running",
}


def check_optuna() -> None:
    """Check that Optuna can be imported.

    Raises:
        PursuhintError: it is not installed.
    """
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise PursuhintError(
            "a search needs Optuna, which is not installed; pip install 'pursuhint[search]'"
        ) from None


class Pruned(PursuhintError):
    """Ends a trial whose validation accuracy is too low."""


@dataclass
class OpenTrial:
    """A trial that this process trains.

    Attributes:
        trial: of Optuna.
        values: of the varied keys, as they are assigned to them.
        folder: of its run.
        resumed: whether another process had begun it.
    """

    trial: Trial
    values: dict[str, str]
    folder: Path
    resumed: bool
    lock: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def number(self) -> int:
        """Its number, from 0."""
        return int(self.trial.number)

    def catch_up(self) -> None:
        """Report the epochs of a resumed trial that its process saved and did not report."""
        known = self.trial.study.trials[self.number].intermediate_values
        for line in read_metrics(self.folder / "metrics.jsonl"):
            if line["epoch"] not in known:
                self.trial.report(line["val_top1"], line["epoch"])

    def report(self, epoch: int, top1: float, *, last: bool) -> None:
        """Report the validation accuracy after an epoch.

        Raises:
            Pruned: the trial is to end here.
        """
        with quiet_optuna():
            if epoch not in self.trial.study.trials[self.number].intermediate_values:
                self.trial.report(top1, epoch)
            if not last and self.trial.should_prune():
                raise Pruned(f"pruned after epoch {epoch}")


class TrialStore:
    """The journal of a search and the folders of its trials.

    Choosing what to try next is serialized over all processes by a lock, and the random numbers of a choice
    depend on the seed and the number of the trial alone. A trial is locked by the process that trains it; one
    whose process has ended is resumed by the next that looks for work.

    Args:
        folder: of the search.
        space: what varies.
        seed: of the choices.
        pruner: ends trials early.
        epochs: of the longest trial.
    """

    def __init__(self, folder: Path, space: Sequence[Varied], *, seed: int, pruner: str, epochs: int) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

        self.folder, self.space, self._seed = folder, tuple(space), seed
        rules = {
            "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=epochs // 4),
            "hyperband": lambda: optuna.pruners.HyperbandPruner(1, epochs, 3),
            "none": optuna.pruners.NopPruner,
        }
        with quiet_optuna(), self.turn():
            journal = str(folder / _JOURNAL)
            # Optuna's default, a link, waits for ever for a killed process where the folder is relative.
            lock = JournalFileOpenLock(journal, _GRACE)
            storage = JournalStorage(JournalFileBackend(journal, lock))
            self._study: Study = optuna.create_study(
                storage=storage,
                study_name="search",
                direction="maximize",
                pruner=rules[pruner](),
                load_if_exists=True,
            )

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Keep other processes from choosing trials at the same time.

        Raises:
            PursuhintError: another one does so for ten minutes.
        """
        with contextlib.ExitStack() as stack:
            deadline = time.monotonic() + _PATIENCE
            place = make_folder(self.folder / "choosing")
            while True:
                try:
                    stack.enter_context(lock_folder(place))
                    break
                except PursuhintError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)
            yield

    def begin_with(self, values: dict[str, float | str] | None) -> None:
        """Let the first trial be that of the recipe's own values, unless there are trials already."""
        with quiet_optuna(), self.turn():
            if values is not None and not self._study.trials:
                self._study.enqueue_trial(values)

    def take(self, count: int, total: int) -> list[OpenTrial]:
        """Begin or resume trials.

        Args:
            count: at most so many.
            total: trials of the search in all.

        Returns:
            Locked trials; none if all have been begun, and those that have not ended are locked by others.
        """
        found: list[OpenTrial] = []
        with quiet_optuna(), self.turn():
            for frozen in self._study.trials:
                if frozen.state.name == "RUNNING" and len(found) < count:
                    found += self._resumed(frozen)
            while len(found) < count:
                begun = sum(frozen.state.name != "WAITING" for frozen in self._study.trials)
                if begun >= total:
                    break
                found.append(self._begun(begun))
        return found

    def _begun(self, number: int) -> OpenTrial:
        import optuna

        self._study.sampler = optuna.samplers.TPESampler(
            seed=derived_seed("search", self._seed, number) % 2**32, constant_liar=True
        )
        trial = self._study.ask()
        values = {varied.key: varied.text(_drawn(trial, varied)) for varied in self.space}
        trial.set_user_attr(_VALUES, values)
        opened = OpenTrial(trial, values, self._run_of(trial.number), False)
        opened.lock.enter_context(lock_folder(make_folder(opened.folder.parent)))
        return opened

    def _resumed(self, frozen: FrozenTrial) -> list[OpenTrial]:
        """The trial of a process that has ended; none if it is locked."""
        import optuna

        lock, folder = contextlib.ExitStack(), self._run_of(frozen.number)
        try:
            lock.enter_context(lock_folder(make_folder(folder.parent)))
        except PursuhintError:
            return []
        trial = optuna.trial.Trial(self._study, frozen._trial_id)
        if _VALUES not in frozen.user_attrs:  # it was killed between its number and its values
            values = {varied.key: varied.text(_drawn(trial, varied)) for varied in self.space}
            trial.set_user_attr(_VALUES, values)
        else:
            values = dict(frozen.user_attrs[_VALUES])
        opened = OpenTrial(trial, values, folder, True, lock)
        opened.catch_up()
        return [opened]

    def end(self, opened: OpenTrial, top1: float | None, error: PursuhintError | None) -> None:
        """Write down what became of a trial, and unlock it.

        Args:
            opened: the trial.
            top1: validation accuracy after its last epoch; None if it did not reach it.
            error: why it did not.
        """
        from optuna.trial import TrialState

        with quiet_optuna():
            state = TrialState.COMPLETE
            if error is not None:
                state = TrialState.PRUNED if isinstance(error, Pruned) else TrialState.FAIL
                if not isinstance(error, Pruned):
                    opened.trial.set_user_attr(_ERROR, str(error))
            self._study.tell(opened.trial, top1, state=state)
        opened.lock.close()

    def repeat(self, opened: OpenTrial, earlier: SearchTrial) -> None:
        """End a trial with the result of an earlier one that has the same values, and so is the same run."""
        with quiet_optuna():
            opened.trial.set_user_attr(_SAME, earlier.number)
            for epoch, top1 in zip(earlier.epochs, earlier.curve):
                opened.trial.report(top1, epoch)
        self.end(opened, earlier.top1, None)

    def trials(self) -> tuple[SearchTrial, ...]:
        """All trials that have begun."""
        with quiet_optuna():
            frozen = self._study.trials
        return tuple(
            SearchTrial(
                number=one.number,
                values=one.user_attrs[_VALUES],
                state=_STATES[one.state.name],
                top1=one.value if one.state.name == "COMPLETE" else None,
                epochs=tuple(sorted(one.intermediate_values)),
                curve=tuple(one.intermediate_values[epoch] for epoch in sorted(one.intermediate_values)),
                error=one.user_attrs.get(_ERROR),
                folder=str(self._run_of(one.user_attrs.get(_SAME, one.number)).relative_to(self.folder)),
            )
            for one in frozen
            if one.state.name in _STATES and _VALUES in one.user_attrs
        )

    def importances(self) -> dict[str, float] | None:
        """Share of the variance that each key explains; None where that cannot be estimated."""
        import optuna

        complete = [one.value for one in self._study.trials if one.state.name == "COMPLETE"]
        if len(self.space) < 2 or len(complete) < _FEWEST or len(set(complete)) < 2:
            return None
        with quiet_optuna():
            evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
            found = optuna.importance.get_param_importances(self._study, evaluator=evaluator)
        return {key: float(share) for key, share in found.items()}

    def _run_of(self, number: int) -> Path:
        return self.folder / "trials" / f"{number:04d}" / "run"


def _drawn(trial: Trial, varied: Varied) -> Any:
    if varied.choices:
        return trial.suggest_categorical(varied.key, varied.choices)
    assert varied.low is not None
    assert varied.high is not None
    if varied.whole:
        return trial.suggest_int(varied.key, int(varied.low), int(varied.high), log=varied.log)
    return trial.suggest_float(varied.key, varied.low, varied.high, log=varied.log)


@contextlib.contextmanager
def quiet_optuna() -> Iterator[None]:
    """Keep Optuna from logging every trial and from warnings about its own experimental features."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
