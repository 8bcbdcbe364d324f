"""The recipe's stages: `prep`, `train`, `decode`, `align`."""

from __future__ import annotations

from pathlib import Path

import click

from asr.cli.options import DEVICE, FILE, OVERRIDE, NamedPath, model_and_inputs


@click.command("prep")
@click.argument("manifest", type=FILE)
@click.argument("out", type=FILE)
@click.option("--config", "config_path", type=FILE, help="Config file; its section 'features' says what to compute.")
@OVERRIDE
@click.option("-j", "--jobs", type=click.IntRange(min=1), help="Processes; as many as there are cores.")
@click.pass_context
def prep_command(context: click.Context, manifest: Path, out: Path, config_path: Path | None,
                 overrides: tuple[str, ...], jobs: int | None) -> None:
    """Compute the features of a manifest's utterances into a store, the folder OUT.

    \b
      asr prep train.jsonl exp/train --config conf/espeak.yaml
      asr prep test.jsonl exp/test -o features.mels=80 -j 4
    A store that is up to date is left alone; a run that was interrupted goes on where it was.
    """
    from asr import prep as stage
    from asr.config import load_config
    report = stage.prepare(manifest, out, load_config(config_path, overrides), jobs or 0)
    told = stage.tell(report, out)
    for line in told:
        click.echo(line, err=True)
    if report.problems and told:        # of several ranks, the one that speaks: one that fails has the others ended
        context.exit(1)


@click.command("train")
@click.option("--config", "config_path", type=FILE, help="YAML file; see conf/.")
@click.option("--train", "train_path", type=FILE, required=True, help="Store of `asr prep`, or a manifest.")
@click.option("--dev", "dev_path", type=FILE, required=True, help="The same, to measure by.")
@click.option("--run", type=FILE, required=True, help="Folder for model, log and state.")
@OVERRIDE
@DEVICE
@click.option("--resume", is_flag=True, help="Go on where the run in this folder stopped.")
@click.option("--init", type=FILE, help="Model whose weights to begin with; phones are carried over by name.")
@click.option("--map", "map_path", type=FILE, help="With --init: lines of `our-phone<TAB>its-phone`.")
def train_command(config_path: Path | None, train_path: Path, dev_path: Path, run: Path, overrides: tuple[str, ...],
                  device: str, resume: bool, init: Path | None, map_path: Path | None) -> None:
    """Train a model, measured by decoding the dev set after every epoch.

    \b
      asr train --config conf/espeak.yaml --train exp/train --dev exp/dev --run exp/run
    On several CPU cores or GPUs, one process each:
      torchrun --nproc-per-node 2 -m -- asr train …
    """
    from asr import train as stage
    from asr.config import load_config
    if map_path is not None and init is None:
        raise click.UsageError("--map needs --init: it maps our phones to those of that model")
    stage.train(load_config(config_path, overrides), train_path, dev_path, run, device=device, resume=resume,
                init=init, names=stage.read_names(map_path) if map_path else None)


@click.command("decode")
@click.argument("arguments", nargs=-1, required=True, type=NamedPath(), metavar="[MODEL] INPUT…")
@click.option("-f", "--format", "formats", multiple=True, default=["jsonl"], show_default=True,
              type=click.Choice(["jsonl", "txt", "trn", "ctm", "textgrid", "srt", "kaldi", "png"]),
              help="Of the output; may be given several times. png: a picture of the sound, attention and phones.")
@click.option("--out", type=FILE, help="File, or folder for several formats; default: standard output.")
@click.option("--resume", is_flag=True,
              help="With --out: do only what an earlier call of this command did not, or whose audio has changed; "
                   "nothing if OUT is whole. A hidden file beside OUT remembers, one line when all is done.")
@click.option("--strict", is_flag=True,
              help="Exit with 1, when all is written, if a hypothesis is flagged as not to be trusted; see its health.")
@OVERRIDE
@DEVICE
@click.pass_context
def decode_command(context: click.Context, arguments: tuple[str, ...], formats: tuple[str, ...], out: Path | None,
                   resume: bool, strict: bool, overrides: tuple[str, ...], device: str) -> None:
    """Transcribe audio of any length: files, folders, manifests, stores, or `-` for standard input.

    Without a MODEL, the English one that comes with the package is taken; `asr info` tells what it can do.

    \b
      asr decode speech.wav -f txt
      asr decode exp/run/model.asr speech.wav -f textgrid --out grids
      asr decode exp/run/model.asr test.jsonl | asr score test.jsonl -
    """
    from asr import decode as stage
    from asr.model.file import load_model
    from asr.search.health import complaint
    if resume and out is None:
        raise click.UsageError("--resume needs --out: what was done is known by the record beside it")
    model, inputs = model_and_inputs(arguments, "INPUT")
    loaded = load_model(model).told(overrides)
    tally = stage.decode(loaded, inputs, loaded.config.decode, formats=formats, out=out, device=device, resume=resume)
    if strict and tally.poor:
        click.echo(f"asr: {complaint(tally.poor)}", err=True)
    context.exit(1 if tally.failures or (strict and tally.poor) else 0)


@click.command("align")
@click.argument("arguments", nargs=-1, required=True, type=NamedPath(), metavar="[MODEL] MANIFEST…")
@click.option("--method", type=click.Choice(["auto", "frames", "ctc", "attention"]), default="auto", show_default=True,
              help="What tells where phones begin: the classifier of 10 ms frames, the CTC branch, the attention; "
                   "auto: the first of these that the model has.")
@click.option("-f", "--format", "formats", multiple=True, default=["jsonl"], show_default=True,
              type=click.Choice(["jsonl", "ctm", "textgrid", "srt"]), help="Of the output; may be given several times.")
@click.option("--out", type=FILE, help="File, or folder for several formats; default: standard output.")
@OVERRIDE
@DEVICE
@click.pass_context
def align_command(context: click.Context, arguments: tuple[str, ...], method: str, formats: tuple[str, ...],
                  out: Path | None, overrides: tuple[str, ...], device: str) -> None:
    """Find when the phones of known transcripts were said, in recordings of any length.

    Without a MODEL, the English one that comes with the package is taken; `asr info` tells its phones.

    \b
      asr align m.asr test.jsonl -f textgrid --out grids
      asr align m.asr test.jsonl | asr score test.jsonl - --boundaries
    """
    from asr import align as stage
    from asr.model.file import load_model
    model, manifests = model_and_inputs(arguments, "MANIFEST")
    loaded = load_model(model).told([*overrides, f"decode.times={method}"])
    tally = stage.align(loaded, manifests, loaded.config.decode, formats=formats, out=out, device=device)
    context.exit(1 if tally.failures else 0)
