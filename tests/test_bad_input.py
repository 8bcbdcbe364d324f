"""What bad input gets, through the real commands: one line that says what, where and what to do, an exit code that
tells, and no file that is half written. What `asr prep` says of audio alone is tested beside it, in test_prep."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command import Done, asr, forked, held_to_permissions, largest_file

from asr.config import Config, dump_config

QUICK = ("train.epochs=1", "train.batch_frames=130", "train.plots=0", "train.average=0", "decode.longest=8",
         "decode.beam=2")


@pytest.fixture(autouse=True)
def no_board(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)       # slow to import, and nothing of ours


class Bench:
    """A folder with a good manifest of four utterances, a config, an untrained model, and commands that use them."""

    def __init__(self, folder: Path, config: Config, manifest: Path, network: object) -> None:
        import torch

        from asr.corpus.phones import PhoneSet
        from asr.frontend.fbank import Normaliser
        from asr.model.file import save_model
        self.folder, self.manifest, self.out = folder, manifest, folder / "out"
        self.config, self.model = folder / "c.yaml", folder / "m.asr"
        self.config.write_text(dump_config(config))
        save_model(self.model, network, config, PhoneSet(["a", "b", "c"]), Normaliser(torch.zeros(8), torch.ones(8)),
                   {})

    def prep(self, manifest: Path | None = None, *more: object) -> Done:
        return asr("prep", manifest or self.manifest, self.out, "--config", self.config, "-j", 1, *more)

    def train(self, source: Path | None = None, dev: Path | None = None, *more: object) -> Done:
        return asr("train", "--config", self.config, "--train", source or self.manifest, "--dev", dev or self.manifest,
                   "--run", self.out, "--device", "cpu", *more)

    def decode(self, *inputs: object, stdin: bytes = b"") -> Done:
        return asr("decode", self.model, *inputs, "--device", "cpu", stdin=stdin)

    def rows(self, *rows: object, name: str = "bad.jsonl") -> Path:
        """A manifest of such rows; a text is written as it stands."""
        path = self.folder / name
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return path


@pytest.fixture
def bench(tmp_path: Path, tiny_config: Callable[..., Config], tiny_network: Callable[..., object],
          manifest: Callable[..., Path]) -> Bench:
    return Bench(tmp_path, tiny_config(*QUICK), manifest("u", 4), tiny_network(*QUICK, phones=4, gain=2.0))


def files(folder: Path) -> dict[str, bytes]:
    """All files but the lock, which may stay while its process lives."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*")
            if path.is_file() and path.name != ".lock"}


def parts(folder: Path) -> list[Path]:
    return list(folder.rglob("*.part"))


# Names.

def test_recordings_named_in_an_old_encoding(bench: Bench) -> None:
    """One such name in a folder ended all commands with a traceback: its bytes have no form in UTF-8."""
    sounds = bench.folder / "sounds"
    sounds.mkdir()
    for number, name in enumerate((b"caf\xe9.wav", b"\xe0.wav", b"plain.wav")):
        os.link(bench.folder / f"u-{number}.wav", os.fsencode(sounds) + b"/" + name)
    (sounds / os.fsdecode(b"\xe8.wav")).write_bytes(b"")
    done = bench.decode(sounds)
    assert done.code == 1
    assert [json.loads(line)["id"] for line in done.out.splitlines()] == ["caf\\xe9", "plain", "\\xe0"]
    for formats in ([], ["-f", "trn", "-f", "textgrid"]):
        out = bench.folder / f"out-{len(formats)}"
        for resume in ([], ["--resume"]):
            done = bench.decode(sounds, "--out", out, *formats, *resume)
            assert (done.code, done.err.count("is empty (0 bytes)")) == (1, 1), done.err
        failed, = map(json.loads, Path(f"{out}.failed.jsonl").read_text().splitlines())
        assert (failed["id"], Path(failed["audio_filepath"]).name) == ("\\xe8", os.fsdecode(b"\xe8.wav"))
    assert "3 utterance(s) were done before" in done.err
    assert sorted(path.name for path in out.glob("*.TextGrid")) == [
        "%5Cxe0.TextGrid", "caf%5Cxe9.TextGrid", "plain.TextGrid"]
    (sounds / os.fsdecode(b"\xe8.wav")).unlink()
    listed = asr("import", "folder", sounds)
    manifest = bench.folder / "old.jsonl"
    manifest.write_text(listed.out)
    assert bench.prep(manifest).code == 0
    assert bench.decode(bench.out).out.count("\n") == bench.decode(manifest).out.count("\n") == 3
    done = asr("export", "kaldi", manifest, bench.folder / "kaldi")
    assert (done.code, done.err) == (
        1, f"asr: {sounds}/caf\\udce9.wav: wav.scp would take this name for a command, or for another: rename the "
           "file\n")


@pytest.mark.parametrize("command", ["decode", "align"])
def test_an_id_does_not_reach_the_terminal_as_it_stands(bench: Bench, command: str) -> None:
    (bench.folder / "bad.wav").write_bytes(b"")
    row = {"id": "\x1b[2Jok\n", "audio_filepath": "bad.wav", "text": "a"}
    done = asr(command, bench.model, bench.rows(row), "--device", "cpu")
    assert done.code == 1
    assert done.err.isascii()
    assert done.err.replace("\n", "").isprintable()
    assert done.err.count("\n") == 1


def test_a_name_that_kaldi_would_run(bench: Bench) -> None:
    os.link(bench.folder / "u-0.wav", bench.folder / "$(touch${IFS}x)|")
    done = asr("export", "kaldi", bench.rows({"id": "a", "audio_filepath": "$(touch${IFS}x)|"}), bench.folder / "kaldi")
    assert (done.code, done.err) == (
        1, f"asr: {bench.folder}/$(touch${{IFS}}x)|: wav.scp would take this name for a command, or for another: "
           "rename the file\n")
    assert not (bench.folder / "kaldi").exists()


# Audio.

NOISE = 0.1 * np.random.default_rng(0).standard_normal(8000)
AUDIO = {
    "missing": "cannot be read: No such file or directory",
    "empty": "is empty (0 bytes): get it again or take it out",
    "truncated": "cut off: its header promises 8,000 bytes more than there are: get it again or take it out",
    "silent": "is silent, every sample is 0: record it again or take it out",
    "nan": "at 0.00 s: 1 sample is NaN or infinite: get it again or take it out",
    "slow": "its sample rate is 4000 Hz: it must be 8000 to 768000 Hz: get a better copy or take it out",
    "text": "no audio, or damaged: Format not recognised: give WAV, FLAC, OGG, MP3 or SPHERE",
    "short": "lasts 10.0 ms, less than one window of 25 ms: take it out",
}


def break_audio(path: Path, kind: str) -> None:
    """Make a file bad in the way named."""
    if kind == "missing":
        path.unlink(missing_ok=True)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("This is no audio.")
    elif kind == "silent":
        soundfile.write(path, np.zeros(8000), 16000)
    elif kind == "nan":
        soundfile.write(path, np.where(np.arange(8000) == 10, np.nan, NOISE), 16000, subtype="FLOAT")
    elif kind == "slow":
        soundfile.write(path, NOISE, 4000)
    elif kind == "short":
        soundfile.write(path, NOISE[:160], 16000)
    else:
        soundfile.write(path, NOISE, 16000)
        path.write_bytes(path.read_bytes()[:-8000])


def complaint(path: Path, kind: str, id: str) -> str:
    return f"{path} (utterance {id!r}): {AUDIO[kind]}"


@pytest.mark.parametrize("kind", ["truncated", "nan", "slow", "text"])
def test_prep_names_the_audio_and_keeps_the_store(bench: Bench, kind: str) -> None:
    assert bench.prep().code == 0
    before = files(bench.out)
    break_audio(bench.folder / "u-2.wav", kind)
    done = bench.prep()
    assert (done.code, done.out) == (1, "")
    assert done.err == (f"asr: {bench.out}: no store was made: 1 of 4 utterances cannot be used:\n"
                        f"  {complaint(bench.folder / 'u-2.wav', kind, 'u-2')}\n")
    assert files(bench.out) == before


@pytest.mark.parametrize("kind", [kind for kind in AUDIO if kind != "short"])
def test_training_on_a_manifest_names_the_audio(bench: Bench, kind: str) -> None:
    break_audio(bench.folder / "u-2.wav", kind)
    done = bench.train()
    assert (done.code, done.out) == (1, "")
    assert done.err in (f"asr: {complaint(bench.folder / 'u-2.wav', kind, 'u-2')}\n",)
    assert not bench.out.exists()


def test_decode_writes_the_good_and_names_the_bad(bench: Bench) -> None:
    """Two of five, as the whole output, and again into a file."""
    for number, kind in ((1, "truncated"), (4, "nan")):
        break_audio(bench.folder / f"u-{number}.wav", kind)
    paths = [bench.folder / f"u-{number}.wav" for number in range(5)]
    soundfile.write(paths[2], NOISE, 16000)
    done = bench.decode(*paths)
    assert done.code == 1
    assert [json.loads(line)["id"] for line in done.out.splitlines()] == ["u-0", "u-2", "u-3"]
    tally, *named = done.err.splitlines()
    assert tally.startswith("3 utterance(s), ")
    assert named == [f"asr: {complaint(paths[1], 'truncated', 'u-1')}", f"asr: {complaint(paths[4], 'nan', 'u-4')}"]
    into = bench.decode(*paths, "--out", bench.out)
    assert (into.code, into.out, into.err.splitlines()[1:]) == (1, "", named)
    assert bench.out.read_text() == done.out


@pytest.mark.parametrize("kind", AUDIO)
def test_decode_names_the_audio(bench: Bench, kind: str) -> None:
    path = bench.folder / "x.wav"
    break_audio(path, kind)
    done = bench.decode(path)
    assert (done.code, done.out) == (1, "")
    wanted = complaint(path, kind, "x")
    if kind == "short":
        wanted = f"x: {path}: shorter than one window of 25 ms: there is nothing to recognise"
    assert done.err.splitlines() == [f"asr: {wanted}"]


@pytest.mark.parametrize(("sound", "message"), [
    (b"", "stdin: is empty: no audio came"),
    (b"no audio, only text", "stdin: no audio, or damaged: Format not recognised: give WAV, FLAC, OGG, MP3 or SPHERE"),
    ("silent", "stdin: is silent, every sample is the same: record it again or take it out"),
    ("slow", f"stdin: {AUDIO['slow']}"),
    ("nan", f"stdin: {AUDIO['nan']}")])
def test_bad_sound_on_standard_input(bench: Bench, sound: bytes | str, message: str) -> None:
    if isinstance(sound, str):
        break_audio(bench.folder / "x.wav", sound)
        sound = (bench.folder / "x.wav").read_bytes()
    done = bench.decode("-", stdin=sound)
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines() == [f"asr: {message}"]


# Manifests.

GOOD = {"id": "a", "audio_filepath": "u-0.wav", "text": "a b"}
ROWS = {
    "no id": ([{"audio_filepath": "u-0.wav"}],
              ":1: the row has no 'id': every row needs 'id' and 'audio_filepath'"),
    "twice": ([GOOD, GOOD], ":2: id 'a' was used in line 1 already: rename or remove one"),
    "no object": (["[1, 2]"], ':1: expected a JSON object, like {"id": …}'),
    "cut short": ([json.dumps(GOOD), '{"id": "b", "audio_fi'],
                  ":2: not JSON: Unterminated string starting: mend the line or take it out"),
    "nothing": ([], ": holds no utterance: is it empty, or the wrong file?"),
    "half a letter": ([GOOD | {"id": "\ud800x"}],
                      r":1: 'id' is '\ud800x': it holds half of a character: write it as UTF-8"),
}


@pytest.mark.parametrize("command", ["prep", "train", "dev", "decode", "score"])
@pytest.mark.parametrize("kind", ROWS)
def test_manifests_are_checked_at_the_door(bench: Bench, kind: str, command: str) -> None:
    rows, message = ROWS[kind]
    path = bench.rows(*rows)
    done = {"prep": lambda: bench.prep(path), "train": lambda: bench.train(path),
            "dev": lambda: bench.train(None, path), "decode": lambda: bench.decode(path, "--out", bench.out),
            "score": lambda: asr("score", path, path)}[command]()
    assert done == Done(1, "", f"asr: {path}{message}\n")
    assert not bench.out.exists()


def test_manifests_that_are_not_there(bench: Bench) -> None:
    path = bench.folder / "none.jsonl"
    missing = f"asr: {path}: cannot be read: No such file or directory\n"
    assert bench.prep(path) == Done(1, "", missing)
    assert bench.decode(bench.manifest, path, "--out", bench.out) == Done(1, "", missing)
    assert asr("score", path, bench.manifest) == Done(1, "", missing)
    assert bench.train(path) == Done(
        1, "", f"asr: {path}: is neither a feature store nor a manifest: there is no such file\n")
    assert not bench.out.exists()


def test_unknown_phones_and_empty_transcripts(bench: Bench) -> None:
    strange = bench.rows({**GOOD, "text": "a zz"})
    assert bench.train(None, strange) == Done(
        1, "", f"asr: {strange}: a: unknown phone 'zz': map it or take it out, the model knows a b c\n")
    empty = bench.rows(GOOD, {**GOOD, "id": "b", "text": " "})
    told = f"asr: {empty}: utterance 'b' has no phones (1 such in all): transcribe it or take its row out\n"
    assert bench.train(empty) == Done(1, "", told)
    assert bench.train(None, empty) == Done(1, "", told)
    assert asr("score", strange, bench.manifest, "--protocol", "timit39") == Done(
        1, "", f"asr: {strange}: a: phone 'a' is not in the table of protocol timit39: did you mean 'ay'?\n")
    assert not bench.out.exists()


def test_one_id_for_two_recordings(bench: Bench) -> None:
    """In two manifests; two formats of one recording in a folder keep their endings instead."""
    again = bench.rows({**GOOD, "id": "u-3"}, name="again.jsonl")
    assert bench.decode(bench.manifest, again, "--out", bench.out) == Done(
        1, "", f"asr: {bench.folder}/u-0.wav: its id 'u-3' is that of {bench.folder}/u-3.wav: rename one, or decode "
               "them apart\n")
    sounds = bench.folder / "sounds"
    sounds.mkdir()
    for name in ("x.wav", "x.flac"):
        soundfile.write(sounds / name, NOISE, 16000)
    soundfile.write(sounds / "y.wav", NOISE, 16000)
    assert not bench.out.exists()
    for given in ([sounds], sorted(sounds.iterdir())):
        rows = [json.loads(line) for line in bench.decode(*given).out.splitlines()]
        names = [str(Path(row["id"]).relative_to(sounds)) if Path(row["id"]).is_absolute() else row["id"]
                 for row in rows]
        assert names == ["x.flac", "x.wav", "y"]


@pytest.mark.parametrize("command", ["prep", "decode", "train"])
def test_a_manifest_that_changes_while_it_is_worked_from(bench: Bench, monkeypatch: pytest.MonkeyPatch,
                                                         command: str) -> None:
    """One line, and what was there before stays; the same command once more does what is left."""
    from asr.training.loop import Trainer
    from asr.transcriber import Transcriber
    hypotheses, more = bench.folder / "h.jsonl", ("-o", "train.epochs=2")
    work = {"prep": bench.prep, "decode": lambda: bench.decode(bench.manifest, "--out", hypotheses, "--resume"),
            "train": lambda: bench.train(None, None, "--resume", *more)}[command]
    bench.out.mkdir()
    hypotheses.write_text("the old one\n")
    before = files(bench.out)
    owner, name = {"prep": (sys.modules["asr.prep"], "_build"), "decode": (Transcriber, "batch"),
                   "train": (Trainer, "update")}[command]
    whole = getattr(owner, name)

    def meddled(*arguments: object) -> object:
        with bench.manifest.open("a") as file:
            file.write("\n")
        return whole(*arguments)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, meddled)
        done = work()
    advice = {"prep": "the store was left as it is; give the same command again",
              "decode": "nothing was overwritten; give the same command again",
              "train": f"the state of {bench.out} is saved; bring back what was there and add --resume, or name "
                       "another --run"}[command]
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[-1] == f"asr: {bench.manifest}: changed while it was worked from: {advice}"
    assert hypotheses.read_text() == "the old one\n"
    if command == "train":
        assert not (bench.out / "model.asr").exists()
    else:
        assert [name for name in files(bench.out) if not name.startswith("shard-")] == list(before)
    assert work().code == 0
    assert parts(bench.folder) == []


def test_a_run_goes_on_with_its_own_utterances_alone(bench: Bench) -> None:
    assert bench.train().code == 0
    model = (bench.out / "model.asr").read_bytes()
    rows = bench.manifest.read_text().splitlines()
    bench.manifest.write_text("\n".join(rows[:-1]) + "\n")
    (bench.out / "log.jsonl").write_text("")            # as if it had not ended
    assert bench.train(None, None, "--resume") == Done(
        1, "", f"asr: {bench.out}: was begun with other utterances to train on, or other phones for them: bring those "
               "back, or name another --run\n")
    assert (bench.out / "model.asr").read_bytes() == model


# Config.

@pytest.mark.parametrize(("text", "message"), [
    ("trian: {lr: 0.1}", "unknown key 'trian': did you mean 'train'?"),
    ("trian.lr: 0.1", "unknown key 'trian.lr': did you mean 'train.lr'?"),
    ("train: {rl: 0.1}", "unknown key 'train.rl': did you mean 'train.lr'?"),
    ("train: {lr: 3e-4}", "train.lr is the text '3e-4': YAML reads 3e-4 as text, write 0.0003"),
    ("train: {lr: '3e-4'}", "train.lr is the text '3e-4': YAML reads 3e-4 as text, write 0.0003"),
    ("train: [", "2: not YAML: expected the node content, but found '<stream end>'")])
def test_configs(bench: Bench, text: str, message: str) -> None:
    bench.config.write_text(text + "\n")
    mark = ":" if message.startswith("2:") else ": "
    wanted = Done(1, "", f"asr: {bench.config}{mark}{message}\n")
    assert bench.train() == wanted
    assert bench.prep() == wanted
    assert not bench.out.exists()


def test_overrides(bench: Bench) -> None:
    for done in (bench.train(None, None, "-o", "trian.lr=0.1"), bench.prep(None, "-o", "trian.lr=0.1")):
        assert done == Done(2, "", "asr: -o: unknown key 'trian': did you mean 'train'?\n")
    assert bench.decode(bench.manifest, "-o", "decode.baem=3") == Done(
        2, "", "asr: -o: unknown key 'decode.baem': did you mean 'decode.beam'?\n")
    assert bench.decode(bench.manifest, "-o", "decode.length_bonus=3e-4") == Done(
        2, "", "asr: -o: decode.length_bonus is the text '3e-4': YAML reads 3e-4 as text, write 0.0003\n")
    assert not bench.out.exists()


# Stores and models.

def test_a_store_made_with_other_features(bench: Bench) -> None:
    store = bench.folder / "store"
    assert asr("prep", bench.manifest, store, "-o", "features.mels=9", "-j", 1).code == 0
    wanted = Done(1, "", f"asr: {store}: this store was made with features.mels = 9, but 8 is asked for: "
                         "run `asr prep` again with the same config\n")
    assert bench.train(store) == wanted
    assert bench.train(None, store) == wanted
    assert bench.decode(store, "--out", bench.out) == wanted
    assert not bench.out.exists()


def test_a_store_cut_short(bench: Bench) -> None:
    store = bench.folder / "store"
    assert asr("prep", bench.manifest, store, "--config", bench.config, "-j", 1).code == 0
    shard = next(store.glob("*.f16"))
    os.truncate(shard, shard.stat().st_size - 2)
    wanted = Done(1, "", f"asr: {shard}: is missing or was cut short: run `asr prep` again\n")
    assert bench.train(store) == wanted
    assert bench.decode(store) == wanted
    (store / "index.json").write_text("{")
    assert bench.train(store) == Done(
        1, "", f"asr: {store}: is no feature store: make one with `asr prep MANIFEST {store}`\n")


@pytest.mark.parametrize(("size", "reason"), [
    (None, ""), (0, "header too small"), (300, "invalid header length"),
    (-1, "incomplete metadata, file not fully covered")])
def test_a_model_cut_short(bench: Bench, size: int | None, reason: str) -> None:
    whole = bench.model.read_bytes()
    message = f"no model, or cut short (Error while deserializing header: {reason}): copy it again or train it anew"
    if size is None:
        bench.model.unlink()
        message = "cannot be read: No such file or directory"
    else:
        os.truncate(bench.model, size if size >= 0 else len(whole) + size)
    wanted = Done(1, "", f"asr: {bench.model}: {message}\n")
    assert bench.decode(bench.manifest, "--out", bench.out) == wanted
    assert bench.train(None, None, "--init", bench.model).err == wanted.err
    assert asr("info", bench.model) == wanted
    assert not bench.out.exists() or "model.asr" not in files(bench.out)


# A disk that is full.

def test_a_full_disk_leaves_what_was_whole(bench: Bench) -> None:
    store, run, hypotheses = bench.folder / "store", bench.out, bench.folder / "h.jsonl"
    hypotheses.write_text("the old one\n")
    with largest_file(200):
        done = asr("prep", bench.manifest, store, "--config", bench.config, "-j", 1)
        assert done.code == 1
        assert done.err.startswith(f"asr: {store}/shard-")
        assert done.err.endswith(".f16: cannot be written: File too large\n")
        assert done.err.count("\n") == 1
        done = bench.decode(bench.manifest, "--out", hypotheses)
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith(f"asr: {bench.folder}/.h.jsonl.")         # the record beside it is first to fail
        assert done.err.endswith(".done: cannot be written: File too large\n")
        assert done.err.count("\n") == 1
        done = asr("score", bench.manifest, bench.manifest, "--out", hypotheses)
        assert done == Done(1, "", f"asr: {hypotheses}: cannot be written: File too large\n")
    assert hypotheses.read_text() == "the old one\n"
    with largest_file(8000):            # the config can still be written, the model cannot
        done = bench.train()
        assert (done.code, done.out) == (1, "")
        assert done.err.splitlines()[-1].endswith(": cannot be written: File too large")
        assert done.err.splitlines()[-1].startswith(f"asr: {run}/")
    assert not (run / "model.asr").exists()
    assert not parts(bench.folder)
    assert bench.train(None, None, "--resume").code == 0          # room was made


def test_a_folder_that_is_read_only(bench: Bench) -> None:
    """Nor may root write there, once it is held to permissions as others are."""
    locked, store = bench.folder / "locked", bench.folder / "store"
    assert bench.prep().code == 0
    bench.out.rename(store)
    before = files(store)

    def work() -> None:
        held_to_permissions()
        for command in (("prep", bench.manifest, locked / "store"),
                        ("prep", bench.manifest, store, "-o", "features.mels=9"),
                        ("train", "--config", bench.config, "--train", bench.manifest, "--dev", bench.manifest, "--run",
                         locked / "run", "--device", "cpu"),
                        ("decode", bench.model, bench.manifest, "--out", locked / "h.jsonl", "--device", "cpu"),
                        ("score", bench.manifest, bench.manifest, "--out", locked / "score.txt")):
            done = asr(*command)
            assert (done.code, done.out, done.err.count("\n")) == (1, "", 1), done.err
            assert re.fullmatch(rf"asr: ({locked}|{store})\S*: cannot be written: Permission denied\n", done.err)
    locked.mkdir()
    for folder in (locked, store):
        folder.chmod(0o500)
    try:
        assert os.waitpid(forked(work), 0)[1] == 0
    finally:
        for folder in (locked, store):
            folder.chmod(0o700)
    assert (files(locked), files(store)) == ({}, before)


def test_a_full_disk_behind_standard_output(bench: Bench) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "asr", "score", bench.manifest, bench.manifest], stdout=full,
                              stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        1, "asr: standard output: cannot be written: No space left on device: make room and give the same command "
           "again\n")


def test_a_reader_that_leaves(bench: Bench) -> None:
    rows = [{**GOOD, "id": f"u{number}", "text": "a " * 50} for number in range(2000)]
    path = bench.rows(*rows)
    command = f"'{sys.executable}' -m asr score '{path}' '{path}' -f pra | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1


# Signals.

@pytest.mark.parametrize(("number", "code", "message"), [
    (signal.SIGINT, 130, "asr: interrupted: nothing half-written is left; give the same command again\n"),
    (signal.SIGTERM, 143, "asr: ended by SIGTERM: nothing half-written is left; give the same command again\n")])
@pytest.mark.parametrize("command", ["prep", "decode"])
def test_signals(bench: Bench, monkeypatch: pytest.MonkeyPatch, command: str, number: int, code: int,
                 message: str) -> None:
    """In the middle of the work, between two utterances."""
    from asr.frontend import store
    read, seen = store.read_utterance, []

    def interrupted(utterance, features):
        seen.append(utterance.id)
        if len(seen) == 3:
            os.kill(os.getpid(), number)
            time.sleep(1)
        return read(utterance, features)
    monkeypatch.setattr(store, "read_utterance", interrupted)
    monkeypatch.setattr("asr.prep.read_utterance", interrupted)
    bench.out.mkdir()
    before = signal.signal(number, signal.SIG_DFL)          # what a shell's background job ignores stays ignored
    try:
        done = bench.prep() if command == "prep" else bench.decode(bench.manifest, "--out", bench.out / "h.jsonl",
                                                                    "-o", "decode.batch_size=1")
    finally:
        signal.signal(number, before)
    assert done == Done(code, "", message)
    assert len(seen) == 3
    assert [name for name in files(bench.out) if not name.endswith(".done")] == []


def test_ctrl_c_in_training_saves_and_goes_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from asr.training.loop import Trainer
    update = Trainer.update

    def interrupted(self, *arguments):
        if self.progress.update == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return update(self, *arguments)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", interrupted)
        done = bench.train()
    assert done.code == 130
    assert done.err.splitlines()[-1] == (
        f"asr: {bench.out}: stopped at update 2, state saved; the same command with --resume goes on")
    assert not (bench.out / "model.asr").exists()
    assert not parts(bench.out)
    assert bench.train(None, None, "--resume").code == 0
    assert (bench.out / "model.asr").exists()


# Wrong use.

@pytest.mark.parametrize(("line", "message"), [
    (["prep"], "Error: Missing argument 'MANIFEST'."),
    (["prep", "a", "b", "-j", "0"], "Error: Invalid value for '-j' / '--jobs': 0 is not in the range x>=1."),
    (["train", "--run", "x"], "Error: Missing option '--train'."),
    (["train", "--epochs", "3"], "Error: No such option"),
    (["train", "--train", "a", "--dev", "b", "--run", "x", "--map", "names.tsv"],
     "Error: --map needs --init: it maps our phones to those of that model"),
    (["decode", "m.asr"], "Error: Missing argument 'INPUT...': what is the model to work on?"),
    (["decode", "m.asr", "x.wav", "-f", "doc"], "Error: Invalid value for '-f' / '--format': 'doc' is not one of "),
    (["score", "a"], "Error: Missing argument 'HYP [HYP2]…'."),
    (["tarin"], "Error: No such command 'tarin'.")])
def test_wrong_use_exits_2(line: list[str], message: str) -> None:
    done = asr(*line)
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[-1].startswith(message)


@pytest.fixture(autouse=True)
def no_traceback(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    yield
    assert "Traceback" not in capfd.readouterr().err
