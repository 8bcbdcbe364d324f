"""The command line: every command parses, calls one function, prints.

Heavy imports stay inside the commands, so that `asr --help` answers at once.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from asr.errors import AsrError, Stopped


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
SCORE_KINDS = ["manifest", "jsonl", "trn", "ctm", "text", "textgrid", "phn", "score"]


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
@click.argument("hypotheses", metavar="HYP [HYP2]…", nargs=-1, required=True)
@click.option("--protocol", default="plain", show_default=True, metavar="NAME",
              help="What is folded, dropped and merged before phones are compared: plain, timit39, timit39-merge-sil, "
                   "timit39-no-sil, timit48, timit61, or a .yaml file.")
@click.option("--all-protocols", is_flag=True, help="Show how far the number moves from protocol to protocol.")
@click.option("-f", "--format", "form", type=click.Choice(["text", "json", "pra", "confusions", "html"]),
              default="text", show_default=True, help="How the result is shown.")
@click.option("--compare", "compared", multiple=True, metavar="HYP2",
              help="Compare with these hypotheses as well: difference, interval, p, matched pairs.")
@click.option("--by", type=click.Choice(["speaker", "length"]), multiple=True, help="Add a table of PER.")
@click.option("--boundaries", is_flag=True, help="Measure the times of phones, where both sides have them.")
@click.option("--samples", type=click.IntRange(100, 1_000_000), default=1000, show_default=True,
              help="Resamples of the bootstrap.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of the bootstrap.")
@click.option("--ref-format", type=click.Choice(SCORE_KINDS), help="What REF is, where that is not found out rightly.")
@click.option("--hyp-format", type=click.Choice(SCORE_KINDS), help="What the hypotheses are.")
@click.option("--out", type=FILE, help="Write to this file instead of standard output.")
def score_command(reference: str, hypotheses: tuple[str, ...], compared: tuple[str, ...], form: str, out: Path | None,
                  ref_format: str | None, hyp_format: str | None, **asked: Any) -> None:
    """Score hypotheses against references: phone error rate, by id, with its 95 % interval.

    REF is a manifest, trn, Kaldi text or data directory, TextGrids, or TIMIT's .PHN; HYP is what `asr decode` writes
    as jsonl, txt, trn, ctm, kaldi or textgrid. `-` is standard input.

    \b
    Examples:
      asr score test.jsonl test.hyp.jsonl --by speaker
      asr decode m.asr test.jsonl | asr score test.jsonl - --protocol timit39
      asr score test.jsonl old.jsonl --compare new.jsonl
    """
    from asr.files import writing
    from asr.score import Options, render, score_files
    options = Options(reference_kind=ref_format, hypothesis_kind=hyp_format, **asked)
    text = render(score_files(reference, [*hypotheses, *compared], options, bool(compared)), form)
    if out is None:
        click.echo(text, nl=False)
    else:
        with writing(out) as file:
            file.write(text)


@cli.command("report")
@click.argument("inputs", nargs=-1, required=True, type=NamedPath(), metavar="RUN|HYP…")
@click.option("-o", "--out", type=FILE, required=True, metavar="PAGE", help="The file to write.")
@click.option("--ref", "reference", type=FILE, metavar="REF",
              help="References, as for `asr score`; a manifest knows the audio, too. Default: the run's dev set.")
@click.option("--model", type=FILE, help="Model whose attention is shown; default: the run's.")
@click.option("--protocol", default="plain", show_default=True, metavar="NAME", help="As in `asr score`.")
@click.option("--worst", type=click.IntRange(0, 200), default=10, show_default=True,
              help="Utterances with the most errors to look at; each adds up to 1 MB for 30 s of sound.")
@click.option("--best", type=click.IntRange(0, 200), default=3, show_default=True, help="And with the fewest.")
@click.option("--title", default="", help="Heading of the page; default: what it is made of.")
@DEVICE
@click.pass_context
def report_command(context: click.Context, inputs: tuple[str, ...], out: Path, **asked: Any) -> None:
    """Make a page to look at and listen to, in one file that opens without a network.

    RUN is a folder of `asr train`, HYP is what `asr decode` writes; best as jsonl, which knows times and audio. A run
    alone is shown with its dev set, which its model decodes first.

    \b
    Examples:
      asr report exp/run -o report.html
      asr report test.hyp.jsonl --ref test.jsonl --model exp/run/model.asr -o report.html
      asr report old.jsonl new.jsonl --ref test.jsonl -o report.html
    """
    from asr.report import Asked, report
    problems = report(inputs, out, Asked(**asked))
    for problem in problems:
        click.echo(f"asr: {problem}", err=True)
    context.exit(1 if problems else 0)


@cli.command()
@click.argument("manifest", type=FILE)
@click.argument("out", type=FILE)
@click.option("--config", "config_path", type=FILE, help="Config file; its section 'features' says what to compute.")
@OVERRIDE
@click.option("-j", "--jobs", type=click.IntRange(min=1), help="Processes; as many as there are cores.")
@click.pass_context
def prep(context: click.Context, manifest: Path, out: Path, config_path: Path | None, overrides: tuple[str, ...],
         jobs: int | None) -> None:
    """Compute the features of a manifest's utterances into a store, the folder OUT.

    \b
      asr prep train.jsonl exp/train --config conf/espeak.yaml
      asr prep test.jsonl exp/test -o features.mels=80 -j 4
    A store that is up to date is left alone; a run that was interrupted goes on where it was.
    """
    from asr import prep as stage
    from asr.config import load_config
    report = stage.prepare(manifest, out, load_config(config_path, overrides), jobs or 0)
    for line in stage.tell(report, out):
        click.echo(line, err=True)
    if report.problems:
        context.exit(1)


@cli.command()
@click.option("--config", "config_path", type=FILE, help="YAML file; see conf/.")
@click.option("--train", "train_path", type=FILE, required=True, help="Store of `asr prep`, or a manifest.")
@click.option("--dev", "dev_path", type=FILE, required=True, help="The same, to measure by.")
@click.option("--run", type=FILE, required=True, help="Folder for model, log and state.")
@OVERRIDE
@DEVICE
@click.option("--resume", is_flag=True, help="Go on where the run in this folder stopped.")
@click.option("--init", type=FILE, help="Model whose weights to begin with; phones are carried over by name.")
@click.option("--map", "map_path", type=FILE, help="With --init: lines of `our-phone<TAB>its-phone`.")
def train(config_path: Path | None, train_path: Path, dev_path: Path, run: Path, overrides: tuple[str, ...],
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


@cli.group("import")
def import_group() -> None:
    """Make a manifest, on standard output, from what others write.

    \b
    Example:
      asr import kaldi data/train > train.jsonl
    """


LEXICON = click.option("--lexicon", type=FILE, metavar="FILE",
                       help="The transcripts are words: look their phones up here (CMU format).")


@import_group.command("kaldi")
@click.argument("folder", type=FILE)
@click.option("--root", type=FILE, metavar="FOLDER", help="What relative paths in wav.scp start from.")
@click.option("--phones", type=FILE, metavar="FILE", help="A table of phones to take instead of `text`.")
@click.option("--allow-pipes", is_flag=True, help="Run the shell commands in wav.scp. Read them first.")
@click.option("--audio", type=FILE, default=Path("audio"), show_default=True, metavar="FOLDER",
              help="Where recordings out of commands and archives are kept.")
@LEXICON
def import_kaldi_command(folder: Path, root: Path | None, phones: Path | None, allow_pipes: bool, audio: Path,
                         lexicon: Path | None) -> None:
    """Read a Kaldi data directory, with or without `segments`.

    \b
    Example:
      asr import kaldi data/test --lexicon cmudict.txt > test.jsonl
    """
    from asr.corpus.kaldi import read_kaldi
    from asr.corpus.lexicon import manifest_lines
    rows = read_kaldi(folder, root=root, phones=phones, allow_pipes=allow_pipes, audio=audio)
    _echo_lines(manifest_lines(rows, lexicon))


@import_group.command("nemo")
@click.argument("manifest", type=FILE)
@LEXICON
def import_nemo_command(manifest: Path, lexicon: Path | None) -> None:
    """Read a NeMo manifest; rows without an id are named after their audio.

    \b
    Example:
      asr import nemo train_manifest.json --lexicon cmudict.txt > train.jsonl
    """
    from asr.corpus.lexicon import manifest_lines
    from asr.corpus.nemo import read_nemo
    _echo_lines(manifest_lines(read_nemo(manifest), lexicon))


@import_group.command("folder")
@click.argument("folder", type=FILE)
@click.option("--labels", type=click.Choice(["phn", "TextGrid", "lab", "txt"], case_sensitive=False),
              help="Only label files of this kind; else the first of these that lies beside the recording.")
@click.option("--tier", default="", metavar="NAME", help="Of TextGrids; else the tier called phones, phone, …")
@click.option("--speaker", default="folder", show_default=True, metavar="RULE",
              help="folder: the folder's name; none; or a separator: what stands before it in the file's name.")
@LEXICON
def import_folder_command(folder: Path, labels: str | None, tier: str, speaker: str, lexicon: Path | None) -> None:
    """Read a folder of recordings with .phn, .TextGrid, .lab or .txt beside them.

    \b
    Example:
      asr import folder recordings --labels TextGrid --speaker _ > all.jsonl
    """
    from asr.corpus.folder import read_folder
    from asr.corpus.lexicon import manifest_lines
    _echo_lines(manifest_lines(read_folder(folder, speaker=speaker, tier=tier, labels=labels or ""), lexicon))


@cli.group("export")
def export_group() -> None:
    """Write a manifest as others read it.

    \b
    Example:
      asr export kaldi train.jsonl data/train
    """


@export_group.command("kaldi")
@click.argument("manifest", type=FILE)
@click.argument("folder", type=FILE)
@click.option("--prefix-speaker", is_flag=True, help="Put the speaker before ids, so that both sort alike.")
def export_kaldi_command(manifest: Path, folder: Path, prefix_speaker: bool) -> None:
    """Write a Kaldi data directory: wav.scp, text, utt2spk, spk2utt, utt2dur, and segments where needed."""
    from asr.corpus.kaldi import write_kaldi
    from asr.corpus.records import read_manifest
    write_kaldi(read_manifest(manifest), folder, prefix_speaker=prefix_speaker)


@export_group.command("nemo")
@click.argument("manifest", type=FILE)
def export_nemo_command(manifest: Path) -> None:
    """Write a NeMo manifest on standard output: absolute paths, every duration given."""
    from asr.corpus.nemo import write_nemo
    from asr.corpus.records import read_manifest
    _echo_lines(write_nemo(read_manifest(manifest)))


@cli.group("phones")
def phones_group() -> None:
    """List, count and map phones, and check a manifest against a model.

    \b
    Example:
      asr phones map timit61 timit39 test.jsonl > test39.jsonl
    """


@phones_group.command("list")
@click.argument("inventory", required=False)
def phones_list_command(inventory: str | None) -> None:
    """Name the inventories and the maps between them, or list the phones of one."""
    from asr.phones import list_inventories, list_phones
    click.echo(list_phones(inventory) if inventory else list_inventories())


@phones_group.command("count")
@click.argument("manifests", nargs=-1, required=True, type=FILE, metavar="MANIFEST…")
def phones_count_command(manifests: tuple[Path, ...]) -> None:
    """Count the phones of manifests, side by side.

    \b
    Example:
      asr phones count train.jsonl test.jsonl
    """
    from asr.phones import count_phones
    click.echo(count_phones(manifests))


@phones_group.command("map")
@click.argument("source")
@click.argument("target")
@click.argument("manifest", required=False, type=FILE)
def phones_map_command(source: str, target: str, manifest: Path | None) -> None:
    """Map a manifest from one inventory to another; without one, print the map.

    \b
    Example:
      asr phones map arpabet-stress ipa train.jsonl > train-ipa.jsonl
    """
    from asr.phones import map_lines
    _echo_lines(map_lines(source, target, manifest))


@phones_group.command("check")
@click.argument("manifest", type=FILE)
@click.option("--model", required=True, type=FILE, help="A model file.")
@click.pass_context
def phones_check_command(context: click.Context, manifest: Path, model: Path) -> None:
    """Tell which phones of a manifest a model does not know; exit 1 if there are any.

    \b
    Example:
      asr phones check test.jsonl --model m.asr
    """
    from asr.phones import check_phones
    text, good = check_phones(manifest, model)
    click.echo(text)
    context.exit(0 if good else 1)


@cli.command("doctor")
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


def _echo_lines(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)


@cli.command()
@click.argument("model", type=FILE)
@click.argument("inputs", nargs=-1, required=True, type=NamedPath())
@click.option("-f", "--format", "formats", multiple=True, default=["jsonl"], show_default=True,
              type=click.Choice(["jsonl", "txt", "trn", "ctm", "textgrid", "srt", "kaldi", "png"]),
              help="Of the output; may be given several times. png: a picture of the sound, attention and phones.")
@click.option("--out", type=FILE, help="File, or folder for several formats; default: standard output.")
@click.option("--resume", is_flag=True,
              help="With --out: do only what an earlier call of this command did not, or whose audio has changed; "
                   "nothing if OUT is whole. A hidden file beside OUT remembers, one line when all is done.")
@OVERRIDE
@DEVICE
@click.pass_context
def decode(ctx: click.Context, model: Path, inputs: tuple[str, ...], formats: tuple[str, ...], out: Path | None,
           resume: bool, overrides: tuple[str, ...], device: str) -> None:
    """Transcribe audio of any length: files, folders, manifests, stores, or `-` for standard input.

    \b
      asr decode exp/run/model.asr speech.wav -f txt
      asr decode exp/run/model.asr test.jsonl | asr score test.jsonl -
    """
    from asr import decode as stage
    from asr.config import override_config
    from asr.model.file import load_model
    if resume and out is None:
        raise click.UsageError("--resume needs --out: what was done is known by the record beside it")
    loaded = load_model(model)
    settings = override_config(loaded.config, overrides).decode
    tally = stage.decode(loaded, inputs, settings, formats=formats, out=out, device=device, resume=resume)
    ctx.exit(1 if tally.failures else 0)


@cli.command("align")
@click.argument("model", type=FILE)
@click.argument("manifests", nargs=-1, required=True, metavar="MANIFEST…")
@click.option("--method", type=click.Choice(["auto", "frames", "ctc", "attention"]), default="auto", show_default=True,
              help="What tells where phones begin: the classifier of 10 ms frames, the CTC branch, the attention; "
                   "auto: the first of these that the model has.")
@click.option("-f", "--format", "formats", multiple=True, default=["jsonl"], show_default=True,
              type=click.Choice(["jsonl", "ctm", "textgrid", "srt"]), help="Of the output; may be given several times.")
@click.option("--out", type=FILE, help="File, or folder for several formats; default: standard output.")
@OVERRIDE
@DEVICE
@click.pass_context
def align_command(context: click.Context, model: Path, manifests: tuple[str, ...], method: str,
                  formats: tuple[str, ...], out: Path | None, overrides: tuple[str, ...], device: str) -> None:
    """Find when the phones of known transcripts were said, in recordings of any length.

    \b
      asr align m.asr test.jsonl -f textgrid --out grids
      asr align m.asr test.jsonl | asr score test.jsonl - --boundaries
    """
    from asr import align as stage
    from asr.config import override_config
    from asr.model.file import load_model
    loaded = load_model(model)
    settings = override_config(loaded.config, [*overrides, f"decode.times={method}"]).decode
    tally = stage.align(loaded, manifests, settings, formats=formats, out=out, device=device)
    context.exit(1 if tally.failures else 0)


@cli.command()
@click.argument("model", type=FILE)
@click.argument("manifest", type=FILE)
@click.option("--joins", default="1,2,5,10,20,50,100", show_default=True, metavar="K,K,…",
              help="How many utterances are joined, from few to many.")
@click.option("--same/--mixed", default=False, show_default=True, help="Join each with itself, or with others.")
@click.option("--gap", type=click.FloatRange(0), default=0.05, show_default=True,
              help="Seconds of silence between two.")
@click.option("--gap-phone", metavar="PHONE", help="Its label, '' for none; else pau, sil or h#, if the model has it.")
@click.option("--plain", is_flag=True, help="Decode without window, blocks, CTC and guards as well.")
@click.option("--budget", type=click.FloatRange(min=0, min_open=True), default=300.0, show_default=True,
              help="Seconds that plain decoding of one length may take; longer ones are left out.")
@click.option("--limit", type=click.IntRange(1), help="Only the first N utterances.")
@click.option("--protocol", default="plain", show_default=True, metavar="NAME", help="As in `asr score`.")
@click.option("-f", "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True,
              help="Of the table on standard output.")
@click.option("--out", type=FILE, metavar="FOLDER", help="For curve.json, curve.png, curve.svg and the hypotheses.")
@OVERRIDE
@DEVICE
def curve(model: Path, manifest: Path, joins: str, form: str, out: Path | None, limit: int | None,
          overrides: tuple[str, ...], **asked: Any) -> None:
    """Measure the phone error rate against length, on joins of a manifest's utterances.

    \b
      asr curve exp/run/model.asr test.jsonl --joins 1,5,20 --plain --out exp/curve
    """
    import json

    from asr.curve import Options, measure_curve
    from asr.scoring.curve import curve_data, curve_text
    try:
        counts = tuple(sorted({int(count) for count in joins.split(",")}))
    except ValueError:
        counts = ()
    if not counts or counts[0] < 1:
        raise click.BadParameter("expected numbers from 1 on between commas, like 1,5,20", param_hint="--joins")
    found = measure_curve(model, manifest, overrides, Options(joins=counts, limit=limit or 0, **asked), out)
    click.echo(json.dumps(curve_data(found), ensure_ascii=False, indent=1) if form == "json" else curve_text(found),
               nl=form == "json")


@cli.command()
@click.argument("model", type=FILE)
@click.option("-f", "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True,
              help="How it is shown.")
@OVERRIDE
def info(model: Path, form: str, overrides: tuple[str, ...]) -> None:
    """Tell what a model is: config, phones, where it comes from, and how much memory decoding takes at most.

    \b
      asr info exp/run/model.asr
      asr info exp/run/model.asr -o decode.beam=1
    """
    import json

    from asr.info import info_data, info_text, look
    found = look(model, overrides)
    click.echo(json.dumps(info_data(found), ensure_ascii=False, indent=1) if form == "json" else info_text(found),
               nl=form == "json")


AGAIN = "nothing half-written is left; give the same command again"
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; errors of the user's are one line and exit 1, wrong use exits 2, signals 128 and theirs."""
    try:
        with _told_to_stop():
            code = cli.main(args=arguments, prog_name="asr", standalone_mode=False)
            sys.stdout.flush()
    except AsrError as error:
        code = _complain(str(error))
    except Stopped as error:
        code = _complain(str(error), error.code)
    except click.UsageError as error:
        error.show()
        code = 2
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = _complain(f"interrupted: {AGAIN}", 130)
    except BrokenPipeError:             # the reader of our output went away: `asr … | head`
        code = _deafen()
    except MemoryError:
        code = _complain("out of memory: make the batches smaller "
                         "(-o train.batch_frames=…, -o decode.batch_size=…)")
    except OSError as error:            # any other is a bug of ours
        if error.errno not in FULL:
            raise
        code = _complain(f"{error.filename or 'standard output'}: cannot be written: {error.strerror}: make room and "
                         "give the same command again")
        _deafen()
    sys.exit(code if isinstance(code, int) else 0)


def _complain(message: str, code: int = 1) -> int:
    click.echo(f"asr: {message}", err=True)
    return code


def _deafen() -> int:
    """What is still buffered for standard output goes nowhere, or Python would try to write it once more at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


@contextlib.contextmanager
def _told_to_stop() -> Iterator[None]:
    """Ctrl-C and SIGTERM unwind, so that no part of a file stays; torchrun's ranks, which wait in C, just go."""
    if "WORLD_SIZE" in os.environ or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        what = "interrupted" if number == signal.SIGINT else "ended by SIGTERM"
        raise Stopped(number, f"{what}: {AGAIN}")
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in before.items() if handler not in (None, signal.SIG_IGN)}
    for number in before:                       # what `nohup` or a shell's background job ignores stays ignored
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
