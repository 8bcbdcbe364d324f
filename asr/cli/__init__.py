"""The command line: every command parses, calls one function, prints.

Heavy imports stay inside the commands, so that `asr --help` answers at once.
"""

from __future__ import annotations

import sys

import click

from asr.cli import ending
from asr.cli.checks import doctor_command, info_command
from asr.cli.corpora import export_group, import_group, phones_group
from asr.cli.measures import curve_command, report_command, score_command
from asr.cli.stages import align_command, decode_command, prep_command, train_command


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


for command in (prep_command, train_command, decode_command, align_command,
                score_command, curve_command, report_command,
                import_group, export_group, phones_group,
                doctor_command, info_command):
    cli.add_command(command)


def main(arguments: list[str] | None = None) -> None:
    """Run `asr` with these arguments, or with the process's own, and leave with its exit code."""
    sys.exit(ending.run(cli, arguments))
