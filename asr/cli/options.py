"""What several commands share: types of arguments, options, and how lines are printed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click


class NamedPath(click.Path):
    """A path, and not the empty one that an unset shell variable leaves: that would be the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Text to a `Path`."""
        if value == "":
            self.fail("the path is empty", param, ctx)
        return super().convert(value, param, ctx)


FILE = NamedPath(path_type=Path)
OVERRIDE = click.option("-o", "--override", "overrides", multiple=True, metavar="KEY=VALUE",
                        help="Set a key of the config, e.g. -o decode.beam=4.")
DEVICE = click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True,
                      help="Where to compute; auto: CUDA if there is one.")


def echo_lines(lines: Iterable[str]) -> None:
    """Print lines as they come."""
    for line in lines:
        click.echo(line)
