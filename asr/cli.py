"""The command line: every command parses, calls one function, prints.

Heavy imports stay inside the commands, so that `asr --help` answers at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from asr.errors import AsrError, Stopped

FILE = click.Path(path_type=Path)
OVERRIDE = click.option("-o", "--override", "overrides", multiple=True, metavar="KEY=VALUE",
                        help="Set a key of the config, e.g. -o decode.beam=4.")
DEVICE = click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True,
                      help="Where to compute; auto: CUDA if there is one.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="asr")
def cli() -> None:
    """Phoneme recognition in speech of any length with an attention model.

    \b
    The recipe's stages, in order:
      asr prep train.jsonl exp/train --config conf/espeak.yaml
      asr train --config conf/espeak.yaml --train exp/train --dev exp/dev --run exp/run
      asr decode exp/run/model.asr test.jsonl --out exp/test.hyp.jsonl
      asr score test.jsonl exp/test.hyp.jsonl
    """


@cli.command("score")
@click.argument("reference", metavar="REF")
@click.argument("hypothesis", metavar="HYP")
@click.option("--protocol", default="plain", show_default=True, metavar="NAME", help="What counts as an error.")
def score_command(reference: str, hypothesis: str, protocol: str) -> None:
    """Score hypotheses against references.

    \b
    Example:
      asr decode m.asr test.jsonl | asr score test.jsonl -
    """
    from asr.score import Options, score_files
    from asr.scoring.protocol import load_protocol
    click.echo(score_files(reference, hypothesis, Options(load_protocol(protocol))), nl=False)


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; errors of the user's are one line and exit 1, wrong use exits 2."""
    try:
        code = cli.main(args=arguments, prog_name="asr", standalone_mode=False)
    except AsrError as error:
        click.echo(f"asr: {error}", err=True)
        code = 1
    except Stopped as error:
        click.echo(f"asr: {error}", err=True)
        code = error.code
    except click.UsageError as error:
        error.show()
        code = 2
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("asr: interrupted", err=True)
        code = 130
    except BrokenPipeError:             # the reader of our output went away: `asr … | head`
        sys.stderr.close()
        code = 1
    except MemoryError:
        click.echo("asr: out of memory: make the batches smaller "
                   "(-o train.batch_frames=…, -o decode.batch_size=…)", err=True)
        code = 1
    sys.exit(code if isinstance(code, int) else 0)
