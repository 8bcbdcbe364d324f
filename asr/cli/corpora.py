"""Corpora as others write them, and their phones: `import`, `export`, `phones`; and a model to give away."""

from __future__ import annotations

from pathlib import Path

import click

from asr.cli.options import FILE, OVERRIDE, echo_lines


@click.group("import")
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
    echo_lines(manifest_lines(rows, lexicon))


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
    echo_lines(manifest_lines(read_nemo(manifest), lexicon))


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
    echo_lines(manifest_lines(read_folder(folder, speaker=speaker, tier=tier, labels=labels or ""), lexicon))


@click.group("export")
def export_group() -> None:
    """Write a manifest as others read it, or a model to give away.

    \b
    Examples:
      asr export kaldi train.jsonl data/train
      asr export model exp/run/model.asr english.asr --half --card card.yaml
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
    echo_lines(write_nemo(read_manifest(manifest)))


@export_group.command("model")
@click.argument("model", type=FILE)
@click.argument("out", type=FILE)
@click.option("--half", is_flag=True, help="Weights as float16: half the size; they are float32 again when loaded.")
@click.option("--card", type=FILE, metavar="FILE",
              help="What `asr info` is to say of it: a YAML file of names and texts, numbers or lists.")
@OVERRIDE
def export_model_command(model: Path, out: Path, half: bool, card: Path | None, overrides: tuple[str, ...]) -> None:
    """Write a copy of a model to give away; of the folders that it names, only the ends go along.

    \b
    Example:
      asr export model exp/run/model.asr english.asr --half --card card.yaml
    """
    from asr.pack import pack
    size = pack(model, out, half=half, card=card, overrides=overrides)
    click.echo(f"{out}: {size / 1e6:.1f} MB", err=True)


@click.group("phones")
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
    echo_lines(map_lines(source, target, manifest))


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
