"""The table of commands, loaded when they are called, and the wording of usage errors."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

import qrjax
from qrjax._cli._arguments import alternatives, examples, nearest

NAME = "qrjax"


class Listed(NamedTuple):
    """A command: `module` of this package has it as `command`, and `help` is its line in the list."""

    module: str
    help: str


COMMANDS = {
    "demo": Listed("_demo", "Train a small network on digits from three initializers."),
    "matrix": Listed("_matrix", "Draw one weight matrix and check its statistics."),
    "sobol": Listed("_sobol", "Print, save or plot points of the Sobol' sequence."),
    "spectrum": Listed("_spectrum", "Compare the effective rank of every layout."),
    "analyze": Listed("_analyze", "Predict the signal through a network, layer by layer."),
    "track": Listed("_track", "Tell which weights training moved."),
    "train": Listed("_train", "Train networks from the paper's initializers, all seeds at once."),
    "aggregate": Listed("_aggregate", "Compare the results of qrjax train, paired by seed."),
    "bench": Listed("_bench", "Measure how fast this machine draws weights."),
}


class Commands(click.Group):
    """The group of COMMANDS; the help, errors and completion of their names import none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"qrjax._cli.{COMMANDS[cmd_name].module}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, listed.help) for name, listed in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not ctx.resilient_parsing:
            known = f"the commands are {alternatives(COMMANDS).replace(' or ', ' and ')}"
            ctx.fail(f"there is no command {args[0]!r}{nearest(args[0], COMMANDS) or f'; {known}'}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # options are parsed before their command has a context
            raise

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [CompletionItem(name, help=listed.help) for name, listed in COMMANDS.items()]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [item for item in names if item.value.startswith(incomplete)] + options


def complaint(error: click.UsageError) -> str:
    """What stderr says of a usage error: the command, the argument, what is wrong with it, and where to read on."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return error.format_message()
    path = NAME if error.ctx is None else _path(error.ctx)
    return f"{path}: error: {_reason(error)}\nRead more: {path} --help"


def _path(context: click.Context) -> str:
    return " ".join([context.command_path, *filter(None, [context.invoked_subcommand])])


def _reason(error: click.UsageError) -> str:
    if not isinstance(error, click.BadParameter) or isinstance(error, click.MissingParameter):
        message = error.format_message()
        return message[:1].lower() + message[1:]
    name = error.param_hint or ("" if error.param is None else _spelled(error.param))
    if not name:
        return error.message
    name = name if isinstance(name, str) else " ".join(name)
    return f"`{name}`{' ' if error.message[:1].islower() else ': '}{error.message}"


def _spelled(parameter: click.Parameter) -> str:
    return max(parameter.opts, key=len) if isinstance(parameter, click.Option) else parameter.human_readable_name


@click.command(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
    no_args_is_help=True,
    epilog=examples(
        "qrjax matrix --rows 784 --columns 64",
        "qrjax demo --seeds 3 --out curves.png",
    ),
)
@click.version_option(qrjax.__version__, prog_name=NAME, message="%(prog)s %(version)s")
def group() -> None:
    """Quasirandom, addressable, signal-preserving weight initialization for JAX and Flax.

    `qrjax COMMAND --help` explains a command. The tab key completes commands and options in bash after

    \b
      eval "$(_QRJAX_COMPLETE=bash_source qrjax)"

    and in zsh and fish with zsh_source and fish_source.
    """
