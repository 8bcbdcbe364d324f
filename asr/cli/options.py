"""What several commands share: types of arguments, options, and how lines are printed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from asr.boxed import boxed_model, looks_like_a_model


class NamedPath(click.Path):
    """A path, and not the empty one that an unset shell variable leaves: that would be the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Text to a `Path`."""
        if value == "":
            self.fail("the path is empty", param, ctx)
        return super().convert(value, param, ctx)


class Finite(click.FloatRange):
    """A number in a range. What is no number lies in every one, as `click` compares, and infinity in half of them."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Text to a `float`."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{number} is no number to reckon with", param, ctx)
        return number


FILE = NamedPath(path_type=Path)
OVERRIDE = click.option("-o", "--override", "overrides", multiple=True, metavar="KEY=VALUE",
                        help="Set a key of the config, e.g. -o decode.beam=4.")
DEVICE = click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True,
                      help="Where to compute; auto: CUDA if there is one.")


def echo_lines(lines: Iterable[str]) -> None:
    """Print lines as they come."""
    for line in lines:
        click.echo(line)


def model_and_inputs(arguments: Sequence[str], what: str) -> tuple[Path, tuple[str, ...]]:
    """Arguments as `[MODEL] INPUT…`; without a model, the one in the box, and a word about it on standard error.

    Args:
        what: the inputs, for the errors' sake: "INPUT".

    Raises:
        click.UsageError: there is no input, or the model stands behind it.
        AsrError: a model is wanted from the box, and there is none.
    """
    first, *rest = arguments
    named = looks_like_a_model(first)
    inputs = tuple(rest if named else arguments)
    if not inputs:
        raise click.UsageError(f"Missing argument '{what}...': what is the model to work on?")
    for name in inputs:
        if Path(name).suffix.lower() == ".asr":
            raise click.UsageError(f"{name} is a second model: name one" if named else
                                   f"{name} is a model: name it before the {what}")
    if named:
        return Path(first), inputs
    path = boxed_model()
    click.echo("asr: no model is named: the English one in the box (what it can and cannot do: asr info)", err=True)
    return path, inputs
