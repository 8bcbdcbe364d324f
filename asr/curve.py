"""`asr curve`: phone error rate against length, over joins of test utterances whose phones are known exactly.

The base utterances are the same at every length: with k joins they stand in recordings of k, so that only length can
move the figures. Every length is decoded in a process of its own, for its peak memory.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile

from asr.config import Config, override_decoding
from asr.corpus.phones import PhoneSet
from asr.corpus.records import Hypothesis, Utterance, read_hypotheses, read_manifest, write_manifest
from asr.errors import AsrError
from asr.files import writing
from asr.frontend.audio import probe
from asr.frontend.store import read_utterance
from asr.measured import measure
from asr.model.file import load_header
from asr.scoring.curve import Curve, Line, Point, check_plot, curve_data, curve_text, plot_curve
from asr.scoring.protocol import Protocol, load_protocol
from asr.scoring.score import score
from asr.search.bound import walks
from asr.search.health import is_poor

SILENCES = ("pau", "sil", "h#", "SIL", "<sil>", "sp")      # a gap's label, where the model knows one of these
PLAIN = ("decode.window.enabled=false", "decode.eos_gate=0", "decode.jump_back=0", "decode.jump_ahead=0",
         "decode.ctc_weight=0", "decode.pace=0", "decode.beta=1", "decode.beta_log_length=false", "decode.keep=0",
         "decode.normaliser=as-trained", "decode.fallback=false", "decode.batch_size=1", "decode.long.after=1.0e+9")
PATIENCE = 3.0          # a length is stopped when it takes this much longer than it may; the forecast may err


@dataclass(frozen=True)
class Options:
    """What `asr curve` can be asked for."""

    joins: tuple[int, ...] = (1, 2, 5, 10, 20, 50, 100)
    hours: float = 0.0          # of one recording more, in which all utterances stand equally often; 0: none
    same: bool = False
    gap: float = 0.05           # s
    gap_phone: str | None = None    # None: what the model knows; "": none
    limit: int = 0              # base utterances; 0: all
    plain: bool = False         # decode without any aid as well
    budget: float = 300.0       # s on the clock that a length of plain decoding may take
    protocol: str = "plain"
    device: str = "auto"
    seed: int = 1               # of the order in which utterances meet


@dataclass(frozen=True)
class Join:
    """Base utterances that become one recording."""

    id: str
    parts: tuple[Utterance, ...]

    def phones(self, gap_phone: str) -> tuple[str, ...]:
        """The exact reference."""
        phones: list[str] = []
        for number, part in enumerate(self.parts):
            phones += ([gap_phone] if gap_phone and number else []) + list(part.phones or ())
        return tuple(phones)


def measure_curve(model: Path, manifest: Path, overrides: Sequence[str], options: Options,
                  out: Path | None = None) -> Curve:
    """Decode the joins of a manifest and score them.

    Args:
        model: the model file.
        manifest: test utterances with their phones.
        overrides: keys of the config, for the line that is not plain.
        options: what is asked for.
        out: folder for `curve.json`, `curve.png`, `curve.svg` and the hypotheses of every length.

    Raises:
        AsrError: the manifest has too few utterances or a phone that the protocol does not know, `out` cannot be
            written, both told before anything is decoded; a recording cannot be read, or decoding fails.
    """
    header = load_header(model)
    config = override_decoding(header.config, overrides)
    gap_phone = _gap_phone(options.gap_phone, header.phones)
    base = read_manifest(manifest, need_phones=True)[:options.limit or None]
    protocol = load_protocol(options.protocol)
    if options.hours:
        options = replace(options, joins=tuple(sorted({*options.joins, joins_of_hours(base, options)})))
    _check(base, options, manifest)
    for utterance in base:
        protocol([*(utterance.phones or ()), *filter(None, [gap_phone])], f"{manifest}: {utterance.id}")
    if out is not None:
        _make_folder(out)
    ways: list[tuple[str, str, tuple[str, ...], float | None]] = [
        ("as configured", _about(config), tuple(overrides), None)]
    if options.plain:
        ways.append(("plain", "attention alone: no window, whole encoder, no CTC, no guard",
                     (*overrides, *PLAIN), options.budget))
    lines = []
    with tempfile.TemporaryDirectory(prefix="asr-curve-") as scratch:
        bench = _Bench(model, config, base, gap_phone, protocol, options, Path(scratch), out)
        for name, about, settings, budget in ways:
            lines.append(bench.line(name, about, settings, budget))
    curve = Curve(str(model), str(manifest), protocol.name, len(base), sum(len(u.phones or ()) for u in base),
                  options.same, options.gap, gap_phone, tuple(lines), options.seed)
    if out is not None:
        write_curve(curve, out)
    return curve


def write_curve(curve: Curve, folder: Path) -> None:
    """Table, data and plots into a folder.

    Raises:
        AsrError: it cannot be written, or matplotlib is not installed.
    """
    with writing(folder / "curve.json") as file:
        json.dump(curve_data(curve), file, ensure_ascii=False, indent=1)
    with writing(folder / "curve.txt") as file:
        file.write(curve_text(curve))
    for ending in ("png", "svg"):
        plot_curve(curve, folder / f"curve.{ending}")


def joins_of(base: Sequence[Utterance], count: int, *, same: bool, seed: int = 1) -> list[Join]:
    """The recordings of `count` utterances each.

    With `same`, one for each utterance, joined with itself. Else utterances meet others, by one shuffled order for all
    counts; each stands in one recording, and the last recording may be shorter. A count of n times the base takes it n
    times, each time in another order, so that every utterance counts as much as at the other lengths.
    """
    if same:
        return [Join(f"{u.id}-x{count}", (u,) * count) for u in base]
    shuffle = np.random.default_rng(seed)
    order = [base[i] for _ in range(max(1, count // len(base))) for i in shuffle.permutation(len(base))]
    return [Join(f"join-{count}-{number:04}", tuple(order[first:first + count]))
            for number, first in enumerate(range(0, len(order), count), start=1)]


def joins_of_hours(base: Sequence[Utterance], options: Options) -> int:
    """How many utterances make one recording of `hours` or a little more: the whole base, n times.

    Raises:
        AsrError: a recording cannot be read, or each utterance is to be joined with itself.
    """
    if options.same:
        raise AsrError("--hours: takes utterances in several orders: leave out --same")
    once = sum(u.duration or probe(u.audio).duration - u.offset for u in base) + options.gap * len(base)
    return len(base) * math.ceil(3600 * options.hours / once)


class _Bench:
    """The work place: joins are written, decoded and scored here, one length after another."""

    def __init__(self, model: Path, config: Config, base: Sequence[Utterance], gap_phone: str, protocol: Protocol,
                 options: Options, scratch: Path, out: Path | None) -> None:
        self.model, self.config, self.base, self.gap_phone = model, config, base, gap_phone
        self.protocol, self.options, self.scratch, self.out = protocol, options, scratch, out

    def line(self, name: str, about: str, overrides: tuple[str, ...], budget: float | None) -> Line:
        """All lengths by one way of decoding, up to where it would take longer than the budget."""
        points: list[Point] = []
        left_out: list[str] = []
        for joins in self.options.joins:
            expected = _expected(points, joins)
            if budget is not None and expected > budget:
                left_out.append(f"{joins} joins: would take some {expected:.0f} s, more than --budget {budget:g} s "
                                "allows")
                break
            print(f"{name}: {joins} joins …", file=sys.stderr)
            point = self._point(name, joins, overrides, budget and PATIENCE * budget)
            if point is None:
                left_out.append(f"{joins} joins: was stopped after {PATIENCE * (budget or 0):.0f} s, --budget is "
                                f"{budget:g} s")
                break
            points.append(point)
        later = [joins for joins in self.options.joins if left_out and joins > self.options.joins[len(points)]]
        if later:
            left_out.append(f"{', '.join(map(str, later))} joins: longer still")
        return Line(name, about, tuple(points), tuple(left_out))

    def _point(self, name: str, joins: int, overrides: tuple[str, ...], timeout: float | None) -> Point | None:
        recordings = joins_of(self.base, joins, same=self.options.same, seed=self.options.seed)
        manifest = self._write(recordings)
        hypotheses = self.scratch / "hypotheses.jsonl"
        measured = measure(self.model, [str(manifest)], hypotheses, overrides, device=self.options.device,
                           timeout=timeout)
        if measured is None:
            return None
        if measured.failures:
            raise AsrError(f"{joins} joins: {measured.failures[0][0]}: {measured.failures[0][1]}")
        found = read_hypotheses(hypotheses)
        if self.out is not None:
            with writing(self.out / f"{name.replace(' ', '-')}-{joins}.hyp.jsonl") as file:
                file.write(hypotheses.read_text(encoding="utf-8"))
        total = score({join.id: join.phones(self.gap_phone) for join in recordings},
                      {h.id: [p.phone for p in h.phones] for h in found}, self.protocol).total
        return _point_of(Point(joins, len(found), measured.speech, total, measured.cpu, measured.wall, measured.above,
                               0, 0.0, 0, 0.0, 0), found)

    def _write(self, recordings: Sequence[Join]) -> Path:
        """The joins as WAV of 32-bit floats, so that nothing is rounded, and their manifest."""
        rate, rows = self.config.features.rate, []
        for number, join in enumerate(recordings):
            path = self.scratch / f"{number}.wav"
            with soundfile.SoundFile(path, "w", rate, 1, "FLOAT") as file:
                for piece in self._pieces(join):
                    file.write(piece)
            rows.append(Utterance(join.id, path))
        manifest = self.scratch / "joins.jsonl"
        write_manifest(manifest, rows)
        return manifest

    def _pieces(self, join: Join) -> Iterator[np.ndarray]:
        gap = np.zeros(round(self.options.gap * self.config.features.rate), np.float32)
        for number, part in enumerate(join.parts):
            if number:
                yield gap
            yield read_utterance(part, self.config.features)


def _point_of(point: Point, hypotheses: Sequence[Hypothesis]) -> Point:
    """The point with what the hypotheses' signs say."""
    signs = [h.health for h in hypotheses]
    phones = [len(h.phones) for h in hypotheses]
    steps = sum(count * sign.get("monotonic", 0.0) for count, sign in zip(phones, signs, strict=True))
    return replace(
        point, poor=sum("monotonic" not in sign or is_poor(sign, n) for sign, n in zip(signs, phones, strict=True)),
        monotonic=steps / max(1, sum(phones)), loops=sum(sign.get("loops", 0) for sign in signs),
        skipped=sum(sign.get("skipped", 0.0) for sign in signs),
        limits=sum(sign.get("ended") == "limit" for sign in signs))


def _expected(points: Sequence[Point], joins: int) -> float:
    """Seconds that a length will take: a search that scores every frame at every step is quadratic in it."""
    if not points:
        return 0.0
    return points[-1].wall * joins / points[-1].joins


def _gap_phone(asked: str | None, phones: PhoneSet) -> str:
    if asked is None:
        return next((name for name in SILENCES if name in phones), "")
    if asked and asked not in phones:
        raise AsrError(f"--gap-phone {asked}: the model does not know this phone")
    return asked


def _check(base: Sequence[Utterance], options: Options, manifest: Path) -> None:
    for count in options.joins:
        if not options.same and count > len(base) and count % len(base):
            raise AsrError(f"{manifest}: has {len(base)} utterances, too few for {count} joins: ask for fewer "
                           f"(--joins) or for a multiple of {len(base)}, or join each with itself (--same)")


def _make_folder(out: Path) -> None:
    """The folder of the results, made while nothing is lost if it cannot be."""
    check_plot(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AsrError(f"{out}: cannot be made a folder for the results: {error.strerror}") from error


def _about(config: Config) -> str:
    decode = config.decode
    window = f"window {decode.window.back:g} s back and {decode.window.ahead:g} s ahead" if walks(config) \
        else "no attention" if config.attention.kind == "none" else "no window"
    ctc = f"CTC {decode.ctc_weight:g}" if decode.ctc_weight and config.train.ctc_weight else "no CTC"
    return f"beam {decode.beam}, {window}, {ctc}"
