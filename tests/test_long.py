"""`asr decode` on long recordings, as its users run it: bounded memory, streams, silences, noise, what is cut off."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from command import asr

from asr.config import override_config
from asr.corpus.phones import PhoneSet
from asr.corpus.records import Utterance, read_hypotheses
from asr.frontend.fbank import Normaliser
from asr.measured import measure
from asr.model.file import load_model, save_model
from asr.search.bound import long_bound
from asr.search.health import is_poor
from asr.search.spans import Cutter, Loudness
from asr.transcriber import Heard, Tally, Transcriber

RATE = 16000
PHONES = ["a", "b", "c", "d", "e", "f"]
SETTINGS = ["decode.window.back=0.1", "decode.window.ahead=0.24", "decode.eos_gate=0.3", "decode.beam=2",
            "decode.fallback=false", "decode.long.after=5.0", "decode.long.span=6.0", "decode.long.block=2.0",
            "decode.long.margin=0.4"]


def marching(path: Path, *overrides: str) -> Path:
    """A model whose location attention steps on four frames (80 ms) a phone, and whose other weights are random."""
    from conftest import TINY

    from asr.config import Config
    from asr.model.recognizer import Recognizer
    config = override_config(Config(), [*TINY, "attention.kind=location", "attention.filters=1", "attention.taps=9",
                                        *SETTINGS, *overrides])
    mels = config.features.mels
    torch.manual_seed(0)
    network = Recognizer(config, mels, len(PHONES) + 1).eval()
    with torch.no_grad():
        for weights in network.parameters():
            weights.mul_(3)
        attention = network.decoder.attention
        attention.filters.weight.zero_()
        attention.filters.weight[0, 0, 0] = 1.0         # f_j = α_{j-4}
        attention.location.weight.fill_(2.0)
        attention.query.weight.zero_()
        attention.energy.weight.fill_(2.0)
    save_model(path, network, config, PhoneSet.of([PHONES]),
               Normaliser(torch.full((mels,), 12.0), torch.full((mels,), 4.0)), {})
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For all tests here."""
    return marching(tmp_path_factory.mktemp("long") / "m.asr")


def bursts(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise in bursts of a tenth of a second, each of its own colour and loudness."""
    rng = np.random.default_rng(seed)
    sound = rng.standard_normal((round(seconds * 10), RATE // 10)).astype(np.float32)
    tilt = rng.uniform(-0.9, 0.9, (len(sound), 1)).astype(np.float32)
    sound[:, 1:] += tilt * sound[:, :-1]
    return (sound * rng.uniform(0.01, 0.2, (len(sound), 1)).astype(np.float32)).ravel()


def write(path: Path, sound: np.ndarray) -> Path:
    soundfile.write(path, sound, RATE)
    return path


def decoded(*arguments: object, stdin: bytes = b"") -> list[dict]:
    done = asr("decode", *arguments, stdin=stdin)
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def check(row: dict, seconds: float) -> None:
    """The phones tile the recording, and there are some."""
    assert row["duration"] == pytest.approx(seconds, abs=0.01)
    times = [(p["start"], p["end"]) for p in row["phones"]]
    assert times
    assert times[0][0] >= 0
    assert times[-1][1] <= seconds + 0.01
    assert all(a[1] <= b[0] + 1e-6 and a[0] <= a[1] for a, b in itertools.pairwise(times))


def test_half_an_hour_stays_below_the_bound(tmp_path: Path) -> None:
    """In a process of its own, by its own peak: what `asr info` promises holds, and is the same for five minutes.

    Of half an hour, the encoder's frames alone would be 23 MB more, the features 29, the samples 115.
    """
    model = marching(tmp_path / "m.asr", "features.mels=40", "encoder.width=32")
    with soundfile.SoundFile(tmp_path / "long.wav", "w", RATE, 1) as file:
        for minute in range(30):
            file.write(bursts(60, seed=minute))
    write(tmp_path / "short.wav", bursts(300))
    long = measure(model, [str(tmp_path / "long.wav")], tmp_path / "long.jsonl")
    short = measure(model, [str(tmp_path / "short.wav")], tmp_path / "short.jsonl")
    assert long is not None
    assert short is not None
    assert long.failures == []
    assert long.speech == pytest.approx(1800)
    bound = long_bound(load_model(model).config, len(PHONES) + 1).total
    assert long.above < bound, f"{long.above / 1e6:.1f} MB above the model, the bound says {bound / 1e6:.1f}"
    phones = len(read_hypotheses(tmp_path / "long.jsonl")[0].phones)
    assert phones > 1800 * 5
    most = 1.1 * short.above + 3e6 + 120 * phones       # what the allocator happens to hold, and the transcript
    assert most < short.above + 15e6                    # so that what grows with the recording would be seen
    assert long.above < most, f"{long.above / 1e6:.1f} MB above the model, five minutes {short.above / 1e6:.1f}"


@pytest.mark.parametrize("road", ["spans", "stream"])
def test_five_minutes_of_silence_in_the_middle(road: str, model: Path, tmp_path: Path) -> None:
    sound = np.concatenate([bursts(8), np.zeros(300 * RATE, np.float32), bursts(8, seed=1)])
    [row] = decoded(model, write(tmp_path / "x.wav", sound), "-o", f"decode.long.road={road}")
    check(row, 316)
    spoken = [p for p in row["phones"] if p["start"] > 308.5]
    assert spoken, "nothing was heard behind the silence"
    assert row["health"]["ended"] == "eos"


def test_music(model: Path, tmp_path: Path) -> None:
    """Chords that nobody speaks over are no reason to stop."""
    time = np.arange(20 * RATE) / RATE
    chord = sum(np.sin(2 * np.pi * pitch * time) for pitch in (220, 277.2, 329.6)) * (0.5 + 0.5 * np.sin(3 * time))
    [row] = decoded(model, write(tmp_path / "x.wav", (0.1 * chord).astype(np.float32)))
    check(row, 20)


def test_two_channels_are_mixed(model: Path, tmp_path: Path) -> None:
    sound = bursts(12)
    [mono] = decoded(model, write(tmp_path / "x.wav", sound))
    (tmp_path / "x.wav").unlink()
    [stereo] = decoded(model, write(tmp_path / "x.wav", np.stack([sound, sound], axis=1)))
    assert stereo == mono


def test_a_tenth_of_a_second(model: Path, tmp_path: Path) -> None:
    [row] = decoded(model, write(tmp_path / "x.wav", bursts(0.1)))
    assert row["duration"] == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("piped", [False, True])
def test_no_samples(piped: bool, model: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "x.wav", np.zeros(0, np.float32))
    done = asr("decode", model, "-" if piped else path, stdin=path.read_bytes() if piped else b"")
    assert (done.code, done.out) == (1, "")
    assert "holds no samples: record it again or take it out" in done.err


@pytest.mark.parametrize("piped", [False, True])
def test_shorter_than_a_window(piped: bool, model: Path, tmp_path: Path) -> None:
    """A pipe of 10 ms was an empty transcript and success."""
    path = write(tmp_path / "x.wav", bursts(0.1)[:160])
    done = asr("decode", model, "-" if piped else path, stdin=path.read_bytes() if piped else b"")
    assert (done.code, done.out) == (1, "")
    assert done.err.endswith("shorter than one window of 25 ms: there is nothing to recognise\n")


@pytest.mark.parametrize("road", ["spans", "stream"])
@pytest.mark.parametrize("form", ["txt", "jsonl"])
def test_a_long_silence_leaves_no_half_line(form: str, road: str, model: Path, tmp_path: Path) -> None:
    """What it was taken for was shown before the end told that nothing had been recorded."""
    write(tmp_path / "a.wav", np.zeros(12 * RATE, np.float32))
    late = write(tmp_path / "b.wav", np.concatenate([np.zeros(12 * RATE, np.float32), bursts(3)]))
    keys = ["-o", f"decode.long.road={road}", "-o", "decode.ctc_weight=0", "-o", "decode.long.batch=1"]
    done = asr("decode", model, tmp_path, "-f", form, *keys)
    assert done.code == 1
    assert "asr: a: is silent, every sample is the same" in done.err
    alone = asr("decode", model, late, "-f", form, *keys)
    assert alone.code == 0
    assert done.out == alone.out
    assert alone.out.count("\n") == 1


@pytest.mark.parametrize("road", ["spans", "stream"])
def test_a_pipe_is_the_file(road: str, model: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "x.wav", bursts(15))
    [file] = decoded(model, path, "-o", f"decode.long.road={road}")
    [pipe] = decoded(model, "-", "-o", f"decode.long.road={road}", stdin=path.read_bytes())
    assert {**pipe, "id": "", "audio_filepath": ""} == {**file, "id": "", "audio_filepath": ""}


@pytest.mark.parametrize("road", ["spans", "stream"])
@pytest.mark.parametrize("keys", [["train.ctc_weight=0"], ["decode.window.enabled=false"],
                                  ["train.ctc_weight=0", "decode.window.enabled=false"]])
def test_without_a_window_or_a_ctc_branch(keys: list[str], road: str, tmp_path: Path) -> None:
    """Also with a silence in the middle, behind which speech is found, and through a pipe."""
    model = marching(tmp_path / "m.asr", *keys, f"decode.long.road={road}", "decode.beam=1")
    path = write(tmp_path / "x.wav", np.concatenate([bursts(8), np.zeros(9 * RATE, np.float32), bursts(8, seed=1)]))
    [file] = decoded(model, path)
    check(file, 25)
    assert [p for p in file["phones"] if p["start"] < 8]
    assert [p for p in file["phones"] if p["start"] > 17.5]
    [pipe] = decoded(model, "-", stdin=path.read_bytes())
    assert pipe["text"] == file["text"]


def test_without_attention_there_are_spans(tmp_path: Path) -> None:
    """A decoder that sees the encoder's final state says what it can of each span, in bounded memory."""
    import conftest

    from asr.config import Config
    from asr.model.recognizer import Recognizer
    config = override_config(Config(), [*conftest.TINY, "attention.kind=none", *SETTINGS, "decode.long.road=stream"])
    torch.manual_seed(0)
    save_model(tmp_path / "m.asr", Recognizer(config, 8, len(PHONES) + 1), config, PhoneSet.of([PHONES]),
               Normaliser(torch.full((8,), 12.0), torch.full((8,), 4.0)), {})
    [row] = decoded(tmp_path / "m.asr", write(tmp_path / "x.wav", bursts(14)))
    assert row["duration"] == pytest.approx(14, abs=0.01)


@pytest.mark.parametrize("rate", [8000, 16000, 22050])
@pytest.mark.parametrize(("offset", "duration"), [(0.0, 9.3), (7.77, 13.01), (12.5, None)])
def test_a_stretch_is_heard_as_if_it_were_a_file(rate: int, offset: float, duration: float | None, model: Path,
                                                 tmp_path: Path) -> None:
    """Exactly the frames of the cut file, read piece by piece."""
    sound = bursts(36)[::max(1, RATE // rate)]
    soundfile.write(tmp_path / "whole.wav", sound, rate, "FLOAT")
    end = len(sound) if duration is None else round((offset + duration) * rate)
    soundfile.write(tmp_path / "cut.wav", sound[round(offset * rate):end], rate, "FLOAT")
    loaded = load_model(model)
    transcriber = Transcriber(loaded, loaded.config.decode, torch.device("cpu"))
    heard = Heard()
    pieces = list(transcriber.frames(Utterance("x", tmp_path / "whole.wav", offset, duration), heard))
    cut = list(transcriber.frames(Utterance("x", tmp_path / "cut.wav"), Heard()))
    assert torch.equal(torch.cat(pieces), torch.cat(cut))
    assert max(map(len, pieces)) <= 1128            # ten seconds, and what a tile had to wait for
    assert heard.seconds == pytest.approx((end - round(offset * rate)) / rate, abs=1e-3)


def test_bfloat16_reaches_the_encoder_of_a_long_recording(model: Path, tmp_path: Path) -> None:
    """It was float32 whatever `decode.precision` said."""
    utterance, frames = Utterance("x", write(tmp_path / "x.wav", bursts(14))), list[torch.Tensor]()
    for precision in ("float32", "bf16"):
        loaded = load_model(model).told([f"decode.precision={precision}"])
        with torch.inference_mode(), Transcriber(loaded, loaded.config.decode, torch.device("cpu")).blocks(
                utterance, Heard(), None) as blocks:
            frames.append(torch.cat(list(blocks)))
    assert 0 < float((frames[0] - frames[1]).abs().max()) < 0.1


def test_a_long_row_with_an_offset(model: Path, tmp_path: Path) -> None:
    sound = bursts(20)
    write(tmp_path / "whole.wav", sound)
    write(tmp_path / "cut.wav", sound[4 * RATE:16 * RATE])
    row = {"id": "x", "audio_filepath": "whole.wav", "offset": 4, "duration": 12}
    (tmp_path / "m.jsonl").write_text(json.dumps(row))
    [row] = decoded(model, tmp_path / "m.jsonl")
    [cut] = decoded(model, tmp_path / "cut.wav")
    assert row["offset"] == 4
    assert (row["phones"], row["duration"]) == (cut["phones"], cut["duration"])


def test_strict(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is written, then the exit code tells; also of what an earlier call found."""
    names = [f"x{number}.wav" for number in range(7)]
    for number, name in enumerate(names):
        write(tmp_path / name, bursts(0.8 if number else 7, seed=number))
    files = [tmp_path / name for name in names]
    bad = ["-o", "decode.longest=2"]                # phones a second: the end is not reached in time
    loose = asr("decode", model, *files, *bad)
    done = asr("decode", model, *files, *bad, "--strict")
    assert (loose.code, done.code) == (0, 1)
    assert done.out == loose.out
    assert done.err.splitlines()[-1] == (
        "asr: --strict: 7 hypotheses are not to be trusted, the attention went astray or the sound broke off: "
        "'x0', 'x1', 'x2', 'x3', 'x4' and 2 more: listen to them; 'health' in the output tells where")
    one = [model, files[1], *bad, "--strict", "--out", tmp_path / "hyp.jsonl", "--resume"]
    for _ in range(2):                              # found; then known by the record, with nothing to do
        again = asr("decode", *one)
        assert again.code == 1
        assert again.err.splitlines()[-1] == (
            "asr: --strict: 1 hypothesis is not to be trusted, the attention went astray or the sound broke off: "
            "'x1': listen to them; 'health' in the output tells where")
    monkeypatch.setattr("asr.transcriber.is_poor", lambda signs, phones: False)
    assert asr("decode", model, files[0], "--strict").code == 0


def test_a_batch_is_as_large_as_told(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In seconds with their padding, be there utterances enough or not; and what is found is the same."""
    for number, seconds in enumerate([0.5, 3.0, 1.0, 0.7, 4.0, 1.5, 2.5, 0.6]):
        write(tmp_path / f"x{number}.wav", bursts(seconds, seed=number))
    sizes: list[tuple[int, int]] = []
    whole = Transcriber.batch

    def batch(self, utterances, seconds, batch):
        sizes.append(batch.feats.shape[:2])
        return whole(self, utterances, seconds, batch)
    monkeypatch.setattr(Transcriber, "batch", batch)
    rows = decoded(model, tmp_path, "-o", "decode.batch_seconds=3.2")
    assert [count for count, _ in sizes] == [3, 1, 1, 1, 1, 1]      # of six files, then of two
    assert all(count * frames <= 320 for count, frames in sizes if count > 1)
    sizes.clear()
    assert [row["text"] for row in decoded(model, tmp_path)] == [row["text"] for row in rows]
    assert [count for count, _ in sizes] == [8]


def test_nothing_found_is_flagged(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_poor({"ended": "limit"}, 0)
    assert not is_poor({"ended": "eos"}, 0)
    monkeypatch.setattr("asr.transcriber.search_memory",
                        lambda network, memory, settings: [[] for _ in memory.lengths])
    done = asr("decode", model, write(tmp_path / "x.wav", bursts(1)), "--strict")
    assert done.code == 1
    assert json.loads(done.out)["text"] == ""
    assert "1 hypothesis is not to be trusted" in done.err


def test_a_cut_is_made_where_it_is_quiet() -> None:
    """By the energy of the features, where no CTC branch knows what is silence."""
    torch.manual_seed(0)
    feats = torch.randn(400, 8) + 0.5
    feats[:, 4:] = 0                                # deltas do not count
    feats[286:310, :4] -= 2.0
    loudness = Loudness(4, 2)
    assert torch.equal(torch.cat(list(loudness.features(feats.split(77)))), feats)
    cutter = Cutter(longest=190, overlap=0, pause=10, pad=2, smooth=3)
    spans = [*cutter.push(torch.cat([loudness.quiet(150), loudness.quiet(50)])), *cutter.finish()]
    assert [(span.start, span.end) for span in spans] == [(0, spans[1].start), (spans[0].end, 200)]
    assert 143 <= spans[0].end <= 155


def test_one_channel_of_two(model: Path, tmp_path: Path) -> None:
    """Short and long, what is told at decode time counts; a record of the other channel is not taken for this one."""
    for seconds in (2, 15):
        left, right = bursts(seconds), bursts(seconds, seed=1)
        alone = decoded(model, write(tmp_path / "right.wav", right))[0]["phones"]
        both = write(tmp_path / f"both{seconds}.wav", np.stack([left, right], axis=1))
        out = tmp_path / f"{seconds}.jsonl"
        heard = []
        for channel in (0, 1):
            assert asr("decode", model, both, "-o", f"features.channel={channel}", "--out", out, "--resume").code == 0
            heard.append(json.loads(out.read_text())["phones"])
        assert heard[1] == alone != heard[0]


def test_a_pipe_that_breaks_off(model: Path, tmp_path: Path) -> None:
    """What was heard is written, the exit code tells."""
    path = write(tmp_path / "x.wav", bursts(15))
    done = asr("decode", model, "-", stdin=path.read_bytes()[:44 + 2 * 10 * RATE])
    assert done.code == 1
    assert "breaks off after 10.00 of 15.00 s" in done.err
    check(json.loads(done.out), 10)
    assert json.loads(done.out)["health"]["ended"] == "cut"


@pytest.mark.parametrize("bytes_left", [44 + 2 * 10 * RATE, 44 + 2 * 10 * RATE + 1])
def test_a_long_file_that_was_cut_off(bytes_left: int, model: Path, tmp_path: Path) -> None:
    """What is left of it is transcribed as the same sound would be, and it is named; a resumed call does so again."""
    path = write(tmp_path / "x.wav", bursts(15))
    path.write_bytes(path.read_bytes()[:bytes_left])
    [whole] = decoded(model, write(tmp_path / "whole.wav", bursts(15)[:10 * RATE]))
    [short] = decoded(model, write(tmp_path / "short.wav", bursts(1)))
    signs = {name: type(sign) for name, sign in short["health"].items()}
    out = tmp_path / "x.jsonl"
    for _ in range(2):
        done = asr("decode", model, path, "--out", out, "--resume")
        assert done.code == 1
        lack = 30 * RATE - (bytes_left - 44)
        assert done.err.splitlines()[-1] == (
            f"asr: x: cut off: its header promises {lack:,} bytes more than there are: get it again or take it "
            "out; the 10.0 s before are transcribed")
        [row] = [json.loads(line) for line in out.read_text().splitlines()]
        assert (row["phones"], row["duration"]) == (whole["phones"], whole["duration"])
        assert row["health"] == {**whole["health"], "ended": "cut"}
        assert {name: type(sign) for name, sign in row["health"].items()} == signs


def test_what_fails_as_a_whole_leaves_no_file(model: Path, tmp_path: Path) -> None:
    """Nor does it take an earlier one away; a short file that was cut off is refused."""
    path, out = write(tmp_path / "x.wav", bursts(1)), tmp_path / "x.txt"
    path.write_bytes(path.read_bytes()[:-100])
    for before in ([], ["earlier"]):
        out.write_text("earlier") if before else None
        assert asr("decode", model, path, "-f", "txt", "--out", out).code == 1
        assert [file.read_text() for file in [out] if file.exists()] == before
    assert asr("decode", model, path, "-f", "ctm", "-f", "txt", "--out", tmp_path / "both").code == 1
    assert not list((tmp_path / "both").glob("*"))


@pytest.mark.parametrize("road", ["spans", "stream"])
def test_what_is_heard_live_stays(road: str, model: Path, tmp_path: Path) -> None:
    loaded = load_model(model)
    settings = override_config(loaded.config, [f"decode.long.road={road}", "decode.long.batch=2"]).decode
    transcriber = Transcriber(loaded, settings, torch.device("cpu"))
    sound = io.BytesIO()
    soundfile.write(sound, bursts(40), RATE, format="WAV")
    sound.seek(0)
    live: list[str] = []
    moments: list[float] = []

    def hear(id: str, phones, seconds: float) -> None:
        live.extend(p.phone for p in phones)
        moments.append(seconds)
    [final] = transcriber.long(Utterance("x", Path("-")), Tally(), sound, hear)
    assert live == [p.phone for p in final.phones]
    assert moments == sorted(moments)
    assert moments[0] < 40, "nothing was given before the end"
