"""Feed broken input to every reader of the package: each case must end in a result or in one line.

    python tools/fuzz.py --count 100000
    python tools/fuzz.py --count 500 --only model --seed 7

A case takes a good file, damages it (bits, cuts, numbers, words that mean something to its format, text where a number
should be) and reads it. A traceback, more than 5 s, more than 1 GB on top of what was there, or a file written outside
the output folder is a failure: it is printed with the seed that makes it again, and the exit is 1.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from asr.config import Config
from asr.errors import AsrError

SECONDS = 5             # of the processor's time that one case may take
WAITING = 12            # times that, by the clock
MEMORY = 1 << 30        # bytes that all cases together may add to the largest size of the process
NUMBERS = [b"0", b"-1", b"1e309", b"nan", b"99999999999999999999", b"0.0000001", b"-0", b"1e-400", b"\xff\xff\xff\xff"]
WORDS = [b"../../x", b"/etc/passwd", b"a\0b", b"\xed\xa0\x80", "\u2028".encode(), b"\xef\xbb\xbf", b"{", b"}",
         b"[" * 2000, b'"', b"\n", b"\r", b"\t", b" ", b"(", b")", b"%s", b"!!python/object:os.system", b"touch x |",
         b"&a [*a, *a]", b"<eos>", b"a" * 5000, b"cat x |", b"'", b"\\", b"#", b":",
         b"\\ud800", b"\\udce9"]


@dataclass(frozen=True)
class Target:
    """A reader and a good file for it."""

    name: str                                   # of the file
    good: bytes
    read: Callable[[Path, random.Random], object]


@contextmanager
def limited() -> Iterator[None]:
    """A case that hangs is a failure. The processor's seconds count, so that a busy machine is none."""
    def ring(number: int, frame: object) -> None:
        raise TimeoutError(f"more than {SECONDS} s")
    timers = {signal.SIGPROF: (signal.ITIMER_PROF, SECONDS), signal.SIGALRM: (signal.ITIMER_REAL, WAITING * SECONDS)}
    before = {number: signal.signal(number, ring) for number in timers}
    for timer, seconds in timers.values():
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


def damaged(data: bytes, dice: random.Random) -> bytes:
    """One to four injuries."""
    body = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        place = dice.randrange(len(body) + 1)
        match dice.randrange(7):
            case 0 if body:
                body[place % len(body)] ^= 1 << dice.randrange(8)
            case 1:
                del body[place:]
            case 2:
                del body[place:place + dice.randint(1, 40)]
            case 3:
                body[place:place] = dice.choice(WORDS)
            case 4:
                body[place:place + dice.randint(0, 6)] = dice.choice(NUMBERS)
            case 5:
                body[place:place] = body[dice.randrange(len(body) + 1):][:dice.randint(1, 200)]
            case _:
                body[place:place] = dice.randbytes(dice.randint(1, 8))
    return bytes(body)


def targets(folder: Path) -> dict[str, Target]:
    """Every reader, by name; what good files they need is made in `folder`."""
    from asr.config import load_config
    from asr.corpus.kaldi import read_kaldi
    from asr.corpus.labels import read_phn
    from asr.corpus.lexicon import read_lexicon
    from asr.corpus.nemo import read_nemo
    from asr.corpus.records import Hypothesis, TimedPhone, each_row, read_manifest
    from asr.corpus.textgrid import read_textgrid
    from asr.formats.reading import read_transcripts
    from asr.formats.textgrid import textgrid
    from asr.formats.writers import write_hypotheses

    spoken = Hypothesis("u1", (TimedPhone("a", 0.0, 0.1), TimedPhone("b", 0.1, 0.25)), -1.5, {}, {"duration": 0.3})
    row = {"id": "u1", "audio_filepath": "a.wav", "text": "a b", "offset": 0.0, "duration": 0.3, "speaker": "s",
           "phone_times": [[0, 0.1], [0.1, 0.3]]}
    manifest = "".join(json.dumps({**row, "id": f"u{n}"}) + "\n" for n in range(3)).encode()

    def kaldi(path: Path, dice: random.Random) -> object:
        read_kaldi(path.parent, audio=folder / "out" / "audio")
        return None

    def written(path: Path, dice: random.Random) -> object:
        id = path.read_bytes().decode("utf-8", "surrogateescape")
        id = id.encode("utf-8", "replace").decode()
        hypothesis = Hypothesis(id, spoken.phones, -1.0, {}, {"duration": 0.3})
        return write_hypotheses([hypothesis], ["textgrid", "srt", "jsonl", "txt"], folder / "out" / "hyp")

    def scored(kind: str | None) -> Callable[[Path, random.Random], object]:
        return lambda path, dice: read_transcripts(str(path), kind)

    good = {
        "manifest": Target("m.jsonl", manifest, lambda path, dice: (read_manifest(path), list(each_row(path)))),
        "nemo": Target("m.json", manifest, lambda path, dice: read_nemo(path)),
        "yaml": Target("c.yaml", b"features: {mels: 40, speeds: [0.9, 1.0]}\nencoder:\n  pyramid: [1, 2]\ntrain:\n"
                                 b"  lr: 0.002\n  mask: {time_masks: 2}\n", lambda path, dice: load_config(path)),
        "override": Target("o", b"train.lr=0.01", lambda path, dice: load_config(
            None, [path.read_bytes().decode("utf-8", "replace")])),
        "kaldi-scp": Target("wav.scp", b"r1 r1.wav\nr2 sub/r2.flac\nr3 x.ark:12\n", kaldi),
        "kaldi-text": Target("text", b"u1 a b\nu2 b\nu3 a\n", kaldi),
        "kaldi-segments": Target("segments", b"u1 r1 0.0 0.2\nu2 r1 0.2 0.4\nu3 r2 0 -1\n", kaldi),
        "textgrid": Target("u.TextGrid", textgrid(spoken).encode(), lambda path, dice: read_textgrid(path)),
        "trn": Target("h.trn", b"a b c (u1)\n{ a / b } (u2)\n(u3)\n", scored("trn")),
        "ctm": Target("h.ctm", b"u1 1 0.0 0.1 a 0.9\nu1 1 0.1 0.1 b 0.8\n;; empty u2\n", scored("ctm")),
        "phn": Target("s.PHN", b"0 1600 h#\n1600 3200 ae\n3200 4000 h#\n", lambda path, dice: read_phn(path)),
        "hypotheses": Target("h.jsonl", json.dumps({"id": "u1", "text": "a b", "score": -1.0, "phones": [
            {"phone": "a", "start": 0.0, "end": 0.1, "confidence": 0.5}], "health": {}}).encode(), scored("jsonl")),
        "any": Target("h", b"u1 a b c\nu2 d\n", scored(None)),
        "lexicon": Target("l.txt", b"ABC  AH0 B K\nABC(2)  AH1\n;;; note\nDEF  D EH1 F\n",
                          lambda path, dice: read_lexicon(path)),
        "id": Target("id", b"speaker/u1", written),
    }
    return good | _audio(folder) | _models(folder) | _made(folder)


def _audio(folder: Path) -> dict[str, Target]:
    """Recordings whose headers and bodies are damaged."""
    import numpy as np
    import soundfile

    from asr.frontend.audio import probe, read_audio, stream_audio

    def read(path: Path, dice: random.Random) -> object:
        for _ in stream_audio(path, rate=16000, name="stream"):
            pass
        return probe(path), read_audio(path, rate=16000)

    def head(path: Path, dice: random.Random) -> object:
        data = bytearray(path.read_bytes())
        for place in range(4, min(44, len(data) - 4), 2):
            if dice.random() < 0.15:
                data[place:place + 4] = struct.pack("<I", dice.choice([0, 1, 2, 300, 2**15, 2**16, 2**31, 2**32 - 1]))
        path.write_bytes(data)
        return read(path, dice)

    noise = 0.1 * np.random.default_rng(0).standard_normal(800)
    found = {}
    for name, how in (("x.wav", {}), ("f.wav", {"subtype": "FLOAT"}), ("x.flac", {}), ("x.ogg", {}), ("x.mp3", {}),
                      ("x.sph", {"format": "NIST"})):
        soundfile.write(folder / name, noise, 16000, **how)
        found[f"audio-{name}"] = Target(name, (folder / name).read_bytes(), read)
    return found | {"audio-header": Target("h.wav", (folder / "x.wav").read_bytes(), head)}


def _models(folder: Path) -> dict[str, Target]:
    """A model file: damaged anywhere, and with a header that says nonsense under a checksum that is right."""
    import torch
    from safetensors.torch import load_file, save_file

    from asr.config import override_config
    from asr.corpus.phones import PhoneSet
    from asr.frontend.fbank import Normaliser
    from asr.model.file import _digest, load_header, load_model, save_model
    from asr.model.recognizer import Recognizer

    config = override_config(Config(), ["features.mels=8", "encoder.width=4", "encoder.pyramid=[2]",
                                        "attention.width=4", "attention.filters=2", "attention.taps=3",
                                        "decoder.width=4", "decoder.embedding=3", "decoder.output_width=4"])
    model = folder / "m.asr"
    save_model(model, Recognizer(config, 8, 3), config, PhoneSet(["a", "b"]), Normaliser(torch.zeros(8), torch.ones(8)),
               {})
    metadata, tensors = dict(load_header(model).metadata), load_file(model)

    def lying(path: Path, dice: random.Random) -> object:
        texts, weights = dict(metadata), dict(tensors)
        key = dice.choice(["config", "phones", "provenance", "format", "weights", "config", "config"])
        if key == "weights":
            name = dice.choice(sorted(weights))
            weights[name] = dice.choice([weights[name].double(), weights[name].int(), weights[name][:0],
                                         weights[name] * float("nan"), weights[name].unsqueeze(0)])
        elif key == "config" and dice.random() < 0.7:
            tree = json.loads(texts["config"])
            section = tree[dice.choice(sorted(tree))]
            section[dice.choice(sorted(section))] = dice.choice([10**9, 10**18 + 1, -1, 0, 1, "x", None, [], [1] * 12,
                                                                 3.5, {}, True, 10**400, [10**9] * 3, "lstm", "gru"])
            texts["config"] = json.dumps(tree)
        else:
            texts[key] = damaged(texts[key].encode(), dice).decode("utf-8", "replace")
        texts["sha256"] = _digest(weights, texts)
        save_file(weights, path, texts)
        return load_model(path)

    return {"model": Target("d.asr", model.read_bytes(), lambda path, dice: (load_header(path), load_model(path))),
            "model-lies": Target("l.asr", b"x", lying)}


def _made(folder: Path) -> dict[str, Target]:
    """What our own commands leave and read again: a store, the state of a run, the record of a decoder; an archive."""
    import torch

    from asr.config import override_config
    from asr.corpus.kaldi import read_kaldi
    from asr.corpus.records import Hypothesis, TimedPhone
    from asr.formats.record import Record
    from asr.frontend.store import Store
    from asr.prep import prepare
    from asr.scoring.protocol import load_protocol
    from asr.train import read_names
    from asr.training.checkpoint import load_run_state, save_run_state
    from asr.training.journal import read_log

    made = folder / "made"
    made.mkdir()
    manifest = made / "m.jsonl"
    manifest.write_text("".join(json.dumps({"id": f"u{n}", "audio_filepath": str(folder / "x.wav"), "text": "a b"})
                                + "\n" for n in range(3)))
    store = made / "store"
    prepare(manifest, store, override_config(Config(), ["features.mels=8", "features.speeds=[1.0, 1.1]"]), 1)
    save_run_state(made, {"network": {"w": torch.zeros(3)}, "progress": {"epoch": 1}})
    hypothesis = Hypothesis("u1", (TimedPhone("a", 0.0, 0.1), TimedPhone("b", 0.1, 0.25)), -1.5, {}, {"duration": 0.3})
    with Record(made / "h.jsonl", "key", {"u1": "m1"}, ["jsonl"], resume=False) as record:
        record.add(hypothesis)
    done = record.path

    def stored(path: Path, dice: random.Random) -> object:
        hurt = dice.choice(sorted(store.iterdir()))
        shutil.copytree(store, path.parent / "store", dirs_exist_ok=True)
        for file in store.iterdir():
            (path.parent / "store" / file.name).write_bytes(
                damaged(file.read_bytes(), dice) if file == hurt else file.read_bytes())
        found = Store(path.parent / "store")
        return [found.static(i, speed) for i in range(len(found.utterances)) for speed in found.speeds]

    def resumed(path: Path, dice: random.Random) -> object:
        there = folder / "out" / done.name
        shutil.copy(path, there)
        with Record(folder / "out" / "h.jsonl", "key", {"u1": "m1"}, ["jsonl"], resume=True) as found:
            return found.known

    def unpacked(path: Path, dice: random.Random) -> object:
        (path.parent / "ark").mkdir(exist_ok=True)
        (path.parent / "ark" / "wav.scp").write_text(f"r1 {path}:{dice.choice([3, 3, 3, 0, 2, 1000, 10**20])}\n")
        return read_kaldi(path.parent / "ark", audio=folder / "out" / "audio")

    return {
        "store": Target("store.x", b"x", stored),
        "state": Target("last.pt", (made / "last.pt").read_bytes(), lambda path, dice: load_run_state(path.parent)),
        "record": Target("h.done", done.read_bytes(), resumed),
        "kaldi-ark": Target("x.ark", b"r1 " + (folder / "x.wav").read_bytes(), unpacked),
        "protocol": Target("p.yaml", b"about: x\ndrop: [sil]\nmerge: [sil]\nclamp: false\nsplits:\n  - {name: x, "
                           b"utterances: 1, speakers: 2, phones: 3}\n", lambda path, dice: load_protocol(str(path))),
        "names": Target("n.tsv", b"# ours\tits\na\tb\nc\td\n", lambda path, dice: read_names(path)),
        "log": Target("log.jsonl", b'{"event": "epoch", "epoch": 0, "update": 3}\n{"event": "done"}\n',
                      lambda path, dice: read_log(path))}


def run_case(target: Target, folder: Path, seed: str) -> str:
    """Read a damaged file; what is wrong with how that ended, "" if nothing is."""
    dice = random.Random(seed)
    return read_bytes(target, folder, damaged(target.good, dice), dice)


def read_bytes(target: Target, folder: Path, data: bytes, dice: random.Random) -> str:
    """Read a file of these bytes; what is wrong with how that ended, "" if nothing is."""
    path = folder / "in" / target.name
    path.write_bytes(data)
    try:
        with limited():
            target.read(path, dice)
    except AsrError as error:
        message = str(error)
        if not message.isprintable():
            return f"more than one line: {message!r:.300}"
    except RecursionError:
        return traceback.format_exc(limit=-4)
    except Exception:
        return traceback.format_exc(limit=-6)
    return ""


def fuzz(folder: Path, count: int, seed: int, only: str = "") -> Iterator[tuple[str, str]]:
    """Run so many cases, the targets in turn; gives `(seed of the case, what was wrong)` of each that failed."""
    (folder / "in").mkdir(parents=True)
    (folder / "out").mkdir()
    (folder / "good").mkdir()
    known = targets(folder / "good")
    os.makedirs(folder / "good" / "out", exist_ok=True)
    for name, data in (("wav.scp", b"r1 r1.wav\nr2 r2.wav\n"), ("text", b"u1 a b\nu2 b\nu3 a\n"),
                       ("segments", b"u1 r1 0 0.2\nu2 r1 0.2 0.4\nu3 r2 0 1\n")):
        (folder / "good" / name).write_bytes(data)
    names = [name for name in known if name.startswith(only)]
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for number in range(count):
        target = known[names[number % len(names)]]
        if target.name in ("wav.scp", "text", "segments"):
            for name in ("wav.scp", "text", "segments"):
                shutil.copy(folder / "good" / name, folder / "in" / name)
        case = f"{names[number % len(names)]}-{seed}-{number}"
        wrong = run_case(target, folder, case)
        if wrong:
            yield case, wrong
        if number % 1000 == 999 or number == count - 1:
            strays = [p for p in folder.iterdir() if p.name not in ("in", "out", "good")]
            strays += [p for p in (folder / "good").iterdir() if p.is_dir() and p.name not in ("out", "made")]
            if strays:
                yield case, f"written outside the output folder: {strays}"
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - base
            if grown > MEMORY:
                yield case, f"memory grew by {grown >> 20} MB"
                base += grown


@click.command()
@click.option("--count", default=2000, show_default=True, help="Cases in all.")
@click.option("--seed", default=1, show_default=True, help="Of the damage.")
@click.option("--only", default="", metavar="NAME", help="Only targets whose name begins so.")
def main(count: int, seed: int, only: str) -> None:
    """Feed broken input to every reader of the package."""
    began, failures = time.monotonic(), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for case, wrong in fuzz(Path(folder) / "fuzz", count, seed, only):
            failures[case.split("-")[0]] += 1
            print(f"{case}: {wrong}", flush=True)
    print(f"{count:,} cases in {time.monotonic() - began:.0f} s, {failures.total()} failed {dict(failures) or ''}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
