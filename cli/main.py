"""The command tree. Commands are imported when they are used, so that help needs no torch."""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
import warnings
from typing import Any

import click

from pursuhint._util.end_signals import EndedBySignal, raise_on_signals
from pursuhint._util.registry import did_you_mean
from pursuhint._version import __version__
from pursuhint.errors import PursuhintError, PursuhintWarning

from .interruption import interruption_line
from .repeated import say_repeated
from .standard_streams import patient_streams
from .teacher_run import with_teacher_run
from .terminal import echo
from .typed_words import TypedWords, in_home

# Name, one-line help. The command NAME is the object `command` in the module of that name beside this one.
COMMANDS = {
    "demo": "The whole story on real data in a few minutes.",
    "points": "List the layers of a network that could teach.",
    "analyze": "Compute the similarity of a network's layers and choose hint positions.",
    "select": "Choose hint positions again from an analysis, without running the network.",
    "train": "Train a network, alone or distilled from a teacher.",
    "evaluate": "Measure the accuracy of a trained network.",
    "predict": "Print the likeliest classes of images or texts.",
    "export": "Write the trained student of a run for other programs.",
    "pathways": "Search the weights of DistPro's pathways, and write the recipe to train with.",
    "compare": "Compare hint positions, or methods, over seeds.",
    "search": "Search weights, temperatures and hint positions by validation accuracy.",
    "crosstask": "Distil teachers of other classes, at several overlaps.",
    "profile": "Measure size and speed of networks, and where a training step's time goes.",
    "report": "Write the HTML report of what a command wrote, or figures of the papers.",
    "table": "Print tables of papers, and your own results beside published ones.",
    "table run": "Train what stands behind a table or figure of a paper.",
    "transfer": "Measure what frozen students are worth on other data sets.",
    "list": "List models, data sets, losses, metrics, recipes, arms, figures or tables.",
}


# Why the system refuses a file: matters of the user's machine, not bugs.
_REFUSALS = (
    errno.EACCES, errno.EDQUOT, errno.EIO, errno.ELOOP, errno.EMFILE, errno.ENAMETOOLONG, errno.ENOSPC,
    errno.ENOTDIR, errno.EPERM, errno.EROFS,
)  # fmt: skip


class Commands(click.Group):
    """Commands by name, loaded on use."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        home = "list_" if name == "list" else name.replace(" ", "_")
        module = importlib.import_module(f".{home}", __package__)
        command: click.Command = module.command
        command.short_help = COMMANDS[name]  # which completion of the shell shows
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name: str | None
        both = " ".join(args[:2])  # "table run"
        if both in COMMANDS:
            name, command, words = both, self.get_command(context, both), args[2:]
        else:
            if args and args[0] not in COMMANDS and not args[0].startswith("-"):
                context.fail(f"no command named {args[0]!r}; {did_you_mean(args[0], COMMANDS)}")
            name, command, words = super().resolve_command(context, args)
        if command is not None and not context.resilient_parsing:  # which completes words
            words = [in_home(word) for word in words]
            typed = TypedWords.of(command, words, context)
            say_repeated(typed)
            words = with_teacher_run(command, words, typed.values)
        return name, command, words

    def invoke(self, context: click.Context) -> Any:
        """Run the command; Ctrl-C, SIGTERM, SIGHUP and what the machine refuses end it in one line.

        Raises:
            PursuhintError: a file or folder cannot be used, which nothing else has reported.
        """
        try:
            with raise_on_signals():
                return super().invoke(context)
        except KeyboardInterrupt as stop:
            number = stop.signal if isinstance(stop, EndedBySignal) else signal.SIGINT
            echo(f"pursuhint: {interruption_line(context, number)}", err=True)
            sys.exit(128 + number)
        except OSError as error:
            if error.errno not in _REFUSALS or error.filename is None:
                raise
            raise PursuhintError(f"cannot use {error.filename}: {error.strerror}") from error

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pursuhint")
def main() -> None:
    """Which layers of a trained network should teach, and does it matter?

    PursuHint computes the similarity of a teacher's layers, clusters them, takes the cluster centres as
    hint positions, and distils a student from those hints.

    \b
    Start here:
      pursuhint demo
    With a network of your own:
      pursuhint analyze --teacher resnet110 --teacher-checkpoint teacher.pth --data cifar100 --out analysis
      pursuhint train --teacher resnet110 --teacher-checkpoint teacher.pth --student resnet20 \\
          --data cifar100 --hints analysis/hints.json --loss kd --loss at --out runs/resnet20
    """


def run(arguments: list[str] | None = None) -> Any:
    """Entry point: a `PursuhintError` becomes one line on stderr and exit status 1, its warning a note there.

    A bug keeps its traceback. SIGTERM, SIGHUP and Ctrl-C end every command with status 143, 129 or 130; a run
    in training is saved before. A reader of stdout that went away (``| head``) ends with 141. When the reader
    of stderr goes away, the command continues without its messages.
    """
    show_warning = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, PursuhintWarning):
            echo(f"note: {message}", err=True)
        else:
            show_warning(message, category, *place, **more)

    warnings.showwarning = show
    with patient_streams():
        try:
            _check_working_folder()
            return main.main(args=arguments, prog_name="pursuhint", standalone_mode=True)
        except PursuhintError as error:
            echo(f"pursuhint: {error}", err=True)
            sys.exit(1)
        except SystemExit as stopped:
            if message := getattr(stopped, "message", None):  # a run that was asked to stop
                echo(f"pursuhint: {message}", err=True)
            raise
        finally:
            warnings.showwarning = show_warning


def _check_working_folder() -> None:
    """Make sure that relative paths mean something.

    Raises:
        PursuhintError: the working folder was deleted, or cannot be entered.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise PursuhintError(
            f"the working folder cannot be used ({error.strerror}); change to a folder that exists"
        ) from None
