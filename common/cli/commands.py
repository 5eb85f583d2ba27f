"""How commands explain themselves: examples, commands by purpose, and what a wrong name may have meant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import click

# Other programs call these things so.
_SYNONYMS = {
    "search": "query",
    "find": "query",
    "similar": "query",
    "add": "index",
    "scan": "index",
    "start": "up",
    "run": "up",
    "serve": "web",
    "server": "web",
    "info": "status",
    "ps": "status",
    "check": "verify",
    "fsck": "verify",
    "ls": "jobs",
    "list": "jobs",
    "job": "jobs",
    "stop": "cancel",
    "continue": "resume",
    "dupes": "duplicates",
    "dedupe": "duplicates",
    "download": "weights",
    "version": "--version",
    "help": "--help",
}
# Wider lines are hard to read, however wide the terminal is.
_WIDEST = 100

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": _WIDEST}


class _Formatter(click.HelpFormatter):
    """Bold headings; where the help does not go to a terminal, click takes the codes out again."""

    def write_heading(self, heading: str) -> None:
        self.write(f"{'':>{self.current_indent}}{click.style(f'{heading}:', bold=True)}\n")

    def write_example(self, what: str, line: str) -> None:
        """A command line to copy, below what it does."""
        indent = " " * self.current_indent
        self.write(f"{indent}{what}:\n{indent}  {line}\n")


class _Context(click.Context):
    formatter_class = _Formatter


class Command(click.Command):
    """A command with examples in its help.

    Args:
        examples: What each one does, and its command line.
    """

    context_class = _Context

    def __init__(self, *args: Any, examples: Sequence[tuple[str, str]] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the examples."""
        if self.examples and isinstance(formatter, _Formatter):
            with formatter.section("Examples"):
                for what, line in self.examples:
                    formatter.write_example(what, line)


def command(*examples: tuple[str, str]) -> Callable[[Callable[..., Any]], Command]:
    """Makes a function a command.

    Args:
        *examples: What each one does, and its command line.
    """
    return click.command(cls=Command, examples=examples)


class Group(click.Group):
    """The commands by purpose.

    Args:
        sections: The title of each section, and its commands in the order in which they are listed.
    """

    context_class = _Context

    def __init__(self, *args: Any, sections: Mapping[str, Sequence[click.Command]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sections = sections
        for commands in sections.values():
            for one in commands:
                self.add_command(one)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the sections, their names in one column."""
        longest = max(map(len, self.commands))
        for title, commands in self.sections.items():
            with formatter.section(title):
                room = formatter.width - longest - 4
                formatter.write_dl([(f"{one.name:<{longest}}", one.get_short_help_str(room)) for one in commands])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it, but a wrong name is answered with what it may have meant."""
        name = args[0]
        if name not in self.commands and not name.startswith("-") and not ctx.resilient_parsing:
            raise click.UsageError(f"No such command {name!r}.{self._meant(name)}", ctx)
        return super().resolve_command(ctx, args)

    def _meant(self, name: str) -> str:
        # Of the synonyms only the very words: guesses of guesses do not help.
        close = get_close_matches(name.lower(), self.commands, n=3)
        names = dict.fromkeys([*([_SYNONYMS[name.lower()]] if name.lower() in _SYNONYMS else []), *close])
        return f" Did you mean {' or '.join(names)}?" if names else ""
