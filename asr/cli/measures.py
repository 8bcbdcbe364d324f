"""How good it is: `score`, `curve`, `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from asr.cli.options import DEVICE, FILE, OVERRIDE, Finite, NamedPath

SCORE_KINDS = ["manifest", "jsonl", "trn", "ctm", "text", "textgrid", "phn", "score"]


@click.command("score")
@click.argument("reference", metavar="REF")
@click.argument("hypotheses", metavar="HYP [HYP2]…", nargs=-1, required=True)
@click.option("--protocol", default="plain", show_default=True, metavar="NAME",
              help="What is folded, dropped and merged before phones are compared: plain, timit39, timit39-merge-sil, "
                   "timit39-no-sil, timit48, timit61, or a .yaml file.")
@click.option("--all-protocols", is_flag=True, help="Show how far the number moves from protocol to protocol.")
@click.option("-f", "--format", "form", type=click.Choice(["text", "json", "pra", "confusions", "html"]),
              default="text", show_default=True, help="How the result is shown.")
@click.option("--compare", "compared", multiple=True, metavar="HYP2",
              help="Further hypotheses, the same as another HYP.")
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
    as jsonl, txt, trn, ctm, kaldi or textgrid. `-` is standard input. Of several, each is compared with every other:
    paired difference, its interval, p, and the matched-pairs test.

    \b
    Examples:
      asr score test.jsonl test.hyp.jsonl --by speaker
      asr decode m.asr test.jsonl | asr score test.jsonl - --protocol timit39
      asr score test.jsonl old.jsonl --compare new.jsonl
    """
    from asr.files import writing
    from asr.score import Options, render, score_files
    options = Options(reference_kind=ref_format, hypothesis_kind=hyp_format, **asked)
    systems = [*hypotheses, *compared]
    result = score_files(reference, systems, options, len(systems) > 1)
    text = render(result, form)
    for note in [] if form == "text" else sorted({note for system in result.systems for note in system.score.notes}):
        click.echo(f"asr: note: {note}", err=True)
    if out is None:
        click.echo(text, nl=False)
    else:
        with writing(out) as file:
            file.write(text)


@click.command("curve")
@click.argument("model", type=FILE)
@click.argument("manifest", type=FILE)
@click.option("--joins", default="1,2,5,10,20,50,100", show_default=True, metavar="K,K,…",
              help="How many utterances are joined, from few to many.")
@click.option("--hours", type=Finite(0), default=0.0, metavar="H",
              help="And one recording of H hours or a little more: all utterances again and again, in other orders.")
@click.option("--same/--mixed", default=False, show_default=True, help="Join each with itself, or with others.")
@click.option("--gap", type=Finite(0), default=0.05, show_default=True,
              help="Seconds of silence between two.")
@click.option("--gap-phone", metavar="PHONE", help="Its label, '' for none; else pau, sil or h#, if the model has it.")
@click.option("--plain", is_flag=True, help="Decode without window, blocks, CTC and guards as well.")
@click.option("--budget", type=Finite(min=0, min_open=True), default=300.0, show_default=True,
              help="Seconds that plain decoding of one length may take; longer ones are left out.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the first N utterances.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True,
              help="Of the order in which utterances meet.")
@click.option("--protocol", default="plain", show_default=True, metavar="NAME", help="As in `asr score`.")
@click.option("-f", "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True,
              help="Of the table on standard output.")
@click.option("--out", type=FILE, metavar="FOLDER", help="For curve.json, curve.png, curve.svg and the hypotheses.")
@OVERRIDE
@DEVICE
def curve_command(model: Path, manifest: Path, joins: str, form: str, out: Path | None, limit: int | None,
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


@click.command("report")
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
