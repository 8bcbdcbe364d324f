"""What is there, and whether it is sound: `doctor` for machine and data, `info` for a model."""

from __future__ import annotations

from pathlib import Path

import click

from asr.cli.options import FILE, OVERRIDE


@click.command("doctor")
@click.argument("manifests", nargs=-1, type=FILE, metavar="[MANIFEST]…")
@click.option("--config", "config_path", type=FILE, help="Whose pyramid the transcripts must fit; a YAML file.")
@click.option("--model", type=FILE, help="A model whose phones and pyramid the data must fit.")
@click.option("--fix", type=FILE, metavar="OUT",
              help="A folder for the manifests without the bad rows, and for the reason of every row left out.")
@OVERRIDE
@click.pass_context
def doctor_command(context: click.Context, manifests: tuple[Path, ...], config_path: Path | None, model: Path | None,
                   fix: Path | None, overrides: tuple[str, ...]) -> None:
    """Check the machine, and the data of manifests: one table, exit 1 on errors.

    \b
    Several manifests are taken for the splits of one corpus; the first is the training set.
      asr doctor
      asr doctor train.jsonl dev.jsonl test.jsonl --fix clean
    """
    from asr.config import load_config
    from asr.doctor import examine
    diagnosis = examine(manifests, model=model, fix=fix,
                        config=load_config(config_path, overrides) if config_path or overrides else None)
    click.echo(diagnosis.table())
    context.exit(0 if diagnosis.good else 1)


@click.command("info")
@click.argument("model", type=FILE, required=False)
@click.option("-f", "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True,
              help="How it is shown.")
@OVERRIDE
def info_command(model: Path | None, form: str, overrides: tuple[str, ...]) -> None:
    """Tell what a model is: config, phones, where it comes from, and how much memory decoding takes at most.

    Without a MODEL, of the English one that comes with the package: what it heard, how well it does, and its limits.

    \b
      asr info
      asr info exp/run/model.asr
      asr info exp/run/model.asr -o decode.beam=1
    """
    import json

    from asr.boxed import boxed_model
    from asr.info import info_data, info_text, look
    found = look(model or boxed_model(), overrides)
    click.echo(json.dumps(info_data(found), ensure_ascii=False, indent=1) if form == "json" else info_text(found),
               nl=form == "json")
