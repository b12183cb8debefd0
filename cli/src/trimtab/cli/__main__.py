"""The `trimtab` command.

Every command is one line in COMMANDS: its name, the function (or typer.Typer, for one with commands of its own) that
does it, and what the help says. The function stands in a module of its own, is imported when it is called, takes typer
arguments, and raises its package's errors: `main` prints those without a traceback and ends with code 1.
"""

import sys
from collections.abc import Sequence

import typer
from typer.core import TyperGroup

from trimtab.cli.lazy import LazyCommand

LOOP, CLUSTER, MODELS, TRY = "Your loop", "The local cluster", "Models and data", "See it work"

COMMANDS: Sequence[tuple[str, str, str, str]] = (
    ("init", "trimtab.cli.init:init", "Draft a loop from a sample of its events.", LOOP),
    ("check", "trimtab.cli.check:check", "Read a declaration: what it means, or what is wrong with it.", LOOP),
    ("plan", "trimtab.cli.plan:plan", "Show what an apply would change.", LOOP),
    ("apply", "trimtab.cli.loops.commands:apply", "Declare a loop; the services start to work on it at once.", LOOP),
    ("loops", "trimtab.cli.loops.commands:loops", "List the declared loops and what serves them.", LOOP),
    ("replay", "trimtab.cli.replay.commands:replay", "Play recorded events into a loop, as fast as it follows.", LOOP),
    ("predictions", "trimtab.cli.predictions:predictions", "Show what a loop has predicted, and by which model.", LOOP),
    ("rejected", "trimtab.cli.rejected:rejected", "Show a loop's quarantine, and send events in again.", LOOP),
    ("delete", "trimtab.cli.loops.commands:delete", "End a loop and delete its topics.", LOOP),
    ("retrain", "trimtab.cli.retrain:retrain", "Ask for a retrain now, and hear what became of it.", LOOP),
    ("registry", "trimtab.cli.registry:app", "Versions, their lineage, promotion and rollback.", MODELS),
    ("dataset", "trimtab.cli.dataset:dataset", "Write the rows that a model is trained on as Parquet.", MODELS),
    ("reproduce", "trimtab.cli.reproduce:reproduce", "Fit a model again; the digest has to be the same.", MODELS),
    ("backtest", "trimtab.cli.backtest.command:backtest", "Run policies over recorded events in virtual time.", LOOP),
    ("demo", "trimtab.cli.demo.command:demo", "A year of real flights through the closed loop, with a report.", TRY),
    ("up", "trimtab.cli.cluster.commands:up", "Start Kafka and the seven services, and keep them running.", CLUSTER),
    ("status", "trimtab.cli.cluster.commands:status", "Show services, lag, events per second and champions.", CLUSTER),
    ("logs", "trimtab.cli.cluster.commands:logs", "Show what the services and the broker say.", CLUSTER),
    ("down", "trimtab.cli.cluster.commands:down", "Stop what `up` started; nothing is lost.", CLUSTER),
    ("tasks", "trimtab.cli.tasks:app", "How every task is; decide what becomes of one.", CLUSTER),
    ("setup", "trimtab.cli.cluster.setup:setup", "Prepare a Kafka of your own for the services.", CLUSTER),
)

EPILOG = (
    "Your own data in five steps: `trimtab init SAMPLE` drafts a loop from a file, `trimtab check` reads it, "
    "`trimtab backtest` says what it would have gained, `trimtab up` starts a cluster on this machine, `trimtab apply` "
    "starts the loop. Then produce events to its source topics with any Kafka client, or `trimtab replay` a file.\n\n"
    "Everything of the local cluster is in .trimtab (or TRIMTAB_DATA_DIR). With TRIMTAB_KAFKA__BOOTSTRAP_SERVERS set, "
    "a Kafka of your own is used instead of the embedded one."
)


def build() -> TyperGroup:
    """The command with all its commands, none of them imported yet."""
    commands = [LazyCommand(*entry) for entry in COMMANDS]
    return TyperGroup(
        name="trimtab",
        help="Keeps a model true to a changing world: declare a loop, apply it, produce events, read predictions.",
        epilog=EPILOG,
        commands={str(command.name): command for command in commands},
        no_args_is_help=True,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def main() -> None:
    """Run the command. An error of ours is a message, not a traceback."""
    try:
        build()(prog_name="trimtab")
    except Exception as error:
        if not type(error).__module__.startswith("trimtab."):
            raise
        typer.secho(f"trimtab: {error}", err=True, fg="red")
        sys.exit(1)


if __name__ == "__main__":
    main()
