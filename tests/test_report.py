"""`asr report` and `asr decode -f png`: what stands on the page, what it needs, and what a click does."""

from __future__ import annotations

import base64
import io
import itertools
import json
import os
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile
from browser import Browser, find_browser

from asr.cli import main
from asr.config import Features
from asr.corpus.records import Hypothesis, TimedPhone, Utterance
from asr.errors import AsrError
from asr.formats.transcript import Transcript
from asr.formats.writers import WRITERS
from asr.report import Asked, chosen, report, short_names
from asr.reporting import charts, lanes, sound
from asr.reporting.cards import Card, ticks
from asr.reporting.gazer import Gazer
from asr.reporting.lanes import Lane, Mark
from asr.reporting.picture import draw
from asr.score import score_files
from asr.scoring.protocol import load_protocol
from asr.scoring.result import Result, System
from asr.scoring.score import Counts, score
from asr.scoring.significance import Interval

HOSTILE = '"><script>alert(1)</script>'
RATE = 16000


# Lanes --------------------------------------------------------------------------------------------------------------

def lanes_of(reference, hypothesis, said=None, heard=None, protocol="plain", seconds=1.0):
    one, two = tuple(reference.split()), tuple(hypothesis.split())
    rules = load_protocol(protocol)
    row, = score({"u": one}, {"u": two}, rules).rows
    return lanes.lanes(row, rules, Transcript("u", one, said), Transcript("u", two, heard), "system", seconds)


def test_phones_stand_at_their_times_with_what_is_wrong_with_them():
    above, below = lanes_of("a b c", "a x c d", ((0, .2), (.2, .5), (.5, .9)), ((0, .1), (.1, .4), (.4, .8), (.8, 1)))
    assert [(m.phone, m.start, m.end, m.kind) for m in above.marks] == [
        ("a", 0, .2, ""), ("b", .2, .5, "S"), ("c", .5, .9, "")]
    assert [(m.phone, m.start, m.end, m.kind) for m in below.marks] == [
        ("a", 0, .1, ""), ("x", .1, .4, "S"), ("c", .4, .8, ""), ("d", .8, 1, "I")]
    assert [m.tip for m in below.marks] == ["a  0.000 to 0.100 s", "x  0.100 to 0.400 s, against b",
                                            "c  0.400 to 0.800 s", "d  0.800 to 1.000 s, inserted"]
    assert (above.name, above.note, below.name, below.note) == ("reference", "", "system", "")


def test_phones_that_a_protocol_merges_and_drops_keep_the_times_of_their_parts():
    above, _ = lanes_of("h# pau t q iy", "h# t iy", ((0, .1), (.1, .2), (.2, .3), (.3, .4), (.4, .5)),
                        ((0, .2), (.2, .3), (.3, .5)), "timit39-merge-sil")
    assert [(m.phone, m.start, m.end) for m in above.marks] == [("sil", 0, .2), ("t", .2, .3), ("iy", .4, .5)]


def test_a_side_without_times_borrows_them():
    above, below = lanes_of("a b c", "a c", heard=((0, .4), (.4, 1)))
    assert [(m.phone, m.start, m.end, m.kind) for m in above.marks] == [
        ("a", 0, .2, ""), ("b", .2, .4, "D"), ("c", .4, 1, "")]
    assert (above.note, below.note) == ("times borrowed from the hypothesis", "")
    above, below = lanes_of("a", "x a y", said=((.2, .8),))
    assert (above.note, below.note) == ("", "times borrowed from the reference")
    assert [m.start for m in below.marks] == pytest.approx([.2, .4, .6])
    above, below = lanes_of("a b", "a b", seconds=3.0)
    assert [(m.start, m.end) for m in above.marks] == [(0, 1.5), (1.5, 3)]
    assert below.note == "no times known: spread evenly"


def test_borrowed_times_tile_what_the_other_side_covers():
    rng = np.random.default_rng(0)
    for _ in range(200):
        said, heard = ("".join(rng.choice(list("ab"), rng.integers(0, 8))) for _ in range(2))
        edges = np.cumsum(np.r_[0, rng.random(len(heard)) + 0.1])
        row, = score({"u": list(said)}, {"u": list(heard)}).rows
        pairs = list(lanes.index_pairs(row.alignment))
        times = lanes.borrow(pairs, list(itertools.pairwise(edges)), 5.0)
        assert len(times) == len(said)
        flat = [edge for time in times for edge in time]
        assert (np.diff(flat) > -1e-9).all()
        if not heard and said:
            assert (flat[0], flat[-1]) == (0, pytest.approx(5.0))


# Sound --------------------------------------------------------------------------------------------------------------

def tone(path: Path, pitch: float, seconds: float) -> Path:
    time = np.arange(round(seconds * RATE)) / RATE
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * pitch * time), RATE)
    return path


def test_the_sound_of_a_page_is_the_sound(tmp_path):
    path = tone(tmp_path / "a.wav", 1000, 2.0)
    heard = sound.read_sound(Utterance("a", path), Features(), 1.5)
    assert (heard.seconds, heard.whole, heard.rate) == (1.5, 2.0, RATE)
    kind, data = sound.flac_uri(heard).split(";base64,")
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(data)))
    assert (kind, rate) == ("data:audio/flac", RATE)
    assert np.abs(samples - heard.samples).max() < 1e-4
    part = sound.read_sound(Utterance("a", path, offset=1.75), Features(), 30)
    assert (part.seconds, part.whole) == (0.25, 0.25)


def test_a_tone_lies_at_its_height_in_the_spectrogram(tmp_path):
    heard = sound.read_sound(Utterance("a", tone(tmp_path / "a.wav", 3000, 0.5)), Features(), 30)
    bands = sound.spectrogram(heard)
    assert bands.shape == (129, 126)
    assert (bands[:, 5:-5].argmax(0) == 3000 / 8000 * 128).all()
    assert (bands.min(), bands.max()) == (pytest.approx(0, abs=0.01), pytest.approx(1))
    silent = sound.Sound(np.zeros(4000, np.float32), RATE, 0.25)
    assert np.isfinite(sound.spectrogram(silent)).all()


def test_a_hypothesis_remembers_where_its_sound_is():
    known = Hypothesis("a", (), 0.0, extra={"audio_filepath": "x.wav", "offset": 1, "duration": 2.5})
    assert sound.origin(known) == Utterance("a", Path("x.wav"), 1.0, 2.5)
    assert sound.origin(Hypothesis("a", (), 0.0)) is None
    assert sound.origin(Hypothesis("a", (), 0.0, extra={"audio_filepath": "-"})) is None


def test_heat_has_a_pixel_a_value():
    from PIL import Image
    uri = sound.heat_uri(np.array([[0.0, 1.0, 0.5]]), "gray")
    image = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("L")
    assert (image.size, list(image.tobytes())) == ((3, 1), [0, 255, 128])


@pytest.mark.parametrize(("seconds", "last", "count"), [(0.05, 0, 1), (1.0, 1.0, 11), (3.2, 3.0, 7), (30, 30, 7)])
def test_ticks(seconds, last, count):
    found = ticks(seconds)
    assert (found[0], found[-1], len(found)) == (0, last, count)


# Charts -------------------------------------------------------------------------------------------------------------

def texts(svg: str) -> list[str]:
    tree = ElementTree.fromstring(f'<page xmlns:xlink="x">{svg}</page>')
    return [element.text or "" for element in tree.iter("text")]


def test_charts_show_hostile_names_as_text_and_share_no_id():
    groups = [(HOSTILE[:18], Counts(100, 5, 3, 2), Interval(5, 15, 100, 9, "utterances")),
              ("$x_$", Counts(50, 0, 1, 0), None), ("&amp;", Counts(0, 3, 0, 0), None)]
    one, two = (charts.group_chart(groups, "PER", name) for name in ("one", "two"))
    assert {HOSTILE[:18], "$x_$", "substitutions"} <= set(texts(one))
    assert "&amp;" not in texts(one)                # nothing to measure against: no bar
    assert "<script" not in one
    assert "http" not in one
    ids = [set(re.findall(r'\sid="([^"]+)"', chart)) for chart in (one, two)]
    assert ids[0]
    assert not ids[0] & ids[1]
    for chart, names in zip((one, two), ids, strict=True):
        assert set(re.findall(r'(?:href="|url\()#([^")]+)', chart)) <= names
    assert charts.group_chart([], "PER", "none") == ""


def test_of_many_groups_the_worst_are_drawn():
    many = [(f"s{n:02d}", Counts(100, n, 0, 0), None) for n in range(40)]
    drawn = texts(charts.group_chart(many, "PER", "many"))
    assert "PER (the worst 30 of 40)" in drawn
    assert "s10" in drawn
    assert "s09" not in drawn


def test_the_heat_map_names_what_was_confused():
    pairs = {("æ", "ɛ"): 38, ("æ", "æ"): 100, (None, "t"): 3, ("d", None): 2, ("<i>", "$"): 1, ("s", "s"): 50}
    drawn = texts(charts.confusion_chart(charts.Confusions(pairs), "heat"))
    assert {"æ", "ɛ", "t", "d", "<i>", "$", "del", "ins", "38"} <= set(drawn)
    assert "s" not in drawn
    assert charts.confusion_chart(charts.Confusions({("s", "s"): 50}), "heat") == ""


def test_curves_of_a_run_pass_over_what_is_not_finite():
    log = [{"event": "update", "update": n, "lr": 0.001, "attention": 3 - n / 100, "ctc": float("inf")}
           for n in range(20, 200, 20)]
    log += [{"event": "epoch", "epoch": 0, "update": 200, "per": 50.0}, {"event": "skipped", "update": 3},
            {"event": "epoch", "epoch": 1, "update": 300, "per": 12.5}]
    loss, dev, rate = charts.training_charts(log, "run")
    assert "12.5" in texts(dev) or "12.4" in texts(dev)
    assert {"Loss, nats a phone", "attention"} <= set(texts(loss))
    assert "Learning rate" in texts(rate)
    assert charts.training_charts([{"event": "done"}], "run") == []


def test_a_loss_of_nothing_is_not_drawn_as_a_loss_of_zero():
    log = [{"event": "update", "update": n, "lr": 0.001, "attention": 0.0 if n < 100 else 3.0, "ctc": 5.0}
           for n in range(20, 200, 20)]
    warmed, = charts.training_charts(log, "run")[:1]
    cleared = [line if line["attention"] else line | {"attention": None} for line in log]
    later, = charts.training_charts(cleared, "run")[:1]
    assert warmed == later


def test_a_strip_has_room_for_the_names_of_short_phones():
    def wide(step):
        marks = tuple(Mark("a", n * step, (n + 1) * step, "", "") for n in range(20))
        return Card("x", None, "", (), False, 2.0, 2.0, (Lane("hypothesis", marks),), (), None, None, "").width
    assert [wide(0.1), wide(0.05), wide(0.01)] == [480, 560, 640]       # px: 240, 280 and 320 a second


# The page -----------------------------------------------------------------------------------------------------------

PITCHES = {"a": 300, "b": 900, "c": 2500, "<i>": 4000}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Four utterances of tones with phone times; hypotheses with a substitution, an insertion and a deletion."""
    folder = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    rows, found = [], []
    for id, said, heard in [(HOSTILE, "a b <i> a", "a b c a"), ("two", "a b c", "a b c"), ("three", "c b", "c b b"),
                            ("four", "b a b c b", "b a b b")]:
        phones = said.split()
        sounds = [0.3 * np.sin(2 * np.pi * PITCHES[phone] * np.arange(3200) / RATE) for phone in phones]
        file = f"{len(rows)}.wav"
        samples = np.concatenate(sounds)
        soundfile.write(folder / file, samples + 0.001 * rng.standard_normal(len(samples)), RATE)
        rows.append({"id": id, "audio_filepath": file, "text": said, "speaker": f"<b>{len(rows) % 2}", "words": "x & y",
                     "phone_times": [[round(0.2 * n, 1), round(0.2 * n + 0.2, 1)] for n in range(len(phones))]})
        step = 0.2 * len(phones) / len(heard.split())
        timed = [{"phone": p, "start": n * step, "end": (n + 1) * step, "confidence": 0.9}
                 for n, p in enumerate(heard.split())]
        found.append({"id": id, "text": heard, "score": -1.5, "phones": timed, "duration": 0.2 * len(phones),
                      "audio_filepath": str(folder / file), "health": {
                          "monotonic": 1.0, "jumps_back": 0, "skipped": 0, "loops": int(id == "three"), "entropy": 0.5,
                          "ended": "eos"}})
    for name, lines in (("ref", rows), ("hyp", found)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "old.jsonl").write_text("".join(
        json.dumps({"id": row["id"], "text": row["text"].replace("<i>", "b")}) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def page(data):
    out = data / "page.html"
    assert report([str(data / "hyp.jsonl")], out, Asked(data / "ref.jsonl", worst=3, best=1, title="A & B")) == []
    return out


class Outline(HTMLParser):
    """Tags and attributes of a page; `open_tags` is empty at the end of a sound one."""

    def __init__(self, text):
        super().__init__()
        self.open_tags, self.found = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in ("meta", "br", "img"):
            self.open_tags.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if self.open_tags[-1:] == [tag]:
            self.open_tags.pop()
        else:
            self.open_tags.append(f"/{tag}")

    def all(self, tag, name):
        return [attributes[name] for found, attributes in self.found if found == tag and name in attributes]


def test_the_page_needs_nothing_beside_it(page):
    text = page.read_text()
    outline = Outline(text)
    assert outline.open_tags == []
    assert "http:" not in text
    assert "https:" not in text
    for tag, attributes in outline.found:
        for name in ("src", "href", "xlink:href", "data", "action", "poster", "srcset"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes[name])
    assert not re.search(r"@import|url\((?!#)", text)
    assert "link" not in {tag for tag, _ in outline.found}
    ids = [id for _, attributes in outline.found if (id := attributes.get("id"))]
    assert len(ids) == len(set(ids))


def test_the_page_tells_what_asr_score_tells(page, data):
    text = page.read_text()
    for part in ("<title>A &amp; B</title>", "%PER 21.4 [ 3 / 14, 1 ins, 1 del, 1 sub ]", "%SER 75.0 [ 3 / 4 ]",
                 "95 % interval", "Protocol plain", "of 2 speakers, 0.0 minutes of speech", "attention went astray",
                 "x &amp; y", "1 of 4 phones wrong", "PER by speaker", "heard"):
        assert part in text, part
    assert text.count('<details class="utterance"') == 4
    assert [HOSTILE in text, "<script>alert" in text, "<i>" in text, "<b>0" in text] == [False] * 4
    outline = Outline(text)
    starts = outline.all("button", "data-start")
    assert starts[:4] == ["0.0000", "0.2000", "0.0000", "0.1333"]        # "three": said twice 0.2 s, heard three phones
    assert len(outline.all("audio", "src")) == 4
    assert outline.all("audio", "src")[0].startswith("data:audio/flac;base64,")


def test_several_systems_are_compared_on_one_page(data):
    out, both = data / "two.html", [str(data / "old.jsonl"), str(data / "hyp.jsonl")]
    assert report(both, out, Asked(data / "ref.jsonl", worst=1, best=0)) == []
    text = out.read_text()
    assert Outline(text).open_tags == []
    assert "p MAPSSWE" in text
    assert text.count('<div class="lane">') == 3
    assert "times borrowed from the reference" in text


def test_sound_that_is_missing_is_told_on_its_card(data, tmp_path):
    (tmp_path / "ref.trn").write_text("a b (u)\n")
    (tmp_path / "hyp.trn").write_text("a (u)\n")
    assert report([str(tmp_path / "hyp.trn")], tmp_path / "o.html", Asked(tmp_path / "ref.trn")) == []
    text = (tmp_path / "o.html").read_text()
    assert "its audio is not known: a manifest as reference would name it" in text
    assert "<audio" not in text
    assert text.count('class="mark') == 3
    row = {"id": "u", "audio_filepath": "gone.wav", "text": "a b"}
    (tmp_path / "ref.jsonl").write_text(json.dumps(row))
    assert report([str(tmp_path / "hyp.trn")], tmp_path / "o.html", Asked(tmp_path / "ref.jsonl")) == []
    assert "gone.wav: " in (tmp_path / "o.html").read_text()


def test_the_worst_come_first_then_the_best_long_ones_first():
    said = {"right": "a b", "long": "a b c d", "bad": "a b", "half": "a b c d", "empty": ""}
    heard = {"right": "a b", "long": "a b c d", "bad": "x y", "half": "a b x y", "empty": "a"}
    scored = score({k: v.split() for k, v in said.items()}, {k: v.split() for k, v in heard.items()})
    result = Result((System("s", scored, None),))
    assert chosen(result, 3, 1) == ["empty", "bad", "half", "long"]
    assert chosen(result, 0, 0) == []
    assert sorted(chosen(result, 9, 9)) == sorted(said)


# A run, its model, and pictures ---------------------------------------------------------------------------------------

@pytest.fixture
def run(tmp_path, tiny_config, tiny_network, data):
    """A run's folder with a tiny model of random weights that was measured by the utterances above."""
    import torch

    from asr.corpus.phones import PhoneSet
    from asr.frontend.fbank import Normaliser, feature_width
    from asr.model.file import save_model
    folder = tmp_path / "run"
    folder.mkdir()
    width = feature_width(tiny_config().features)
    save_model(folder / "model.asr", tiny_network(gain=3.0), tiny_config(), PhoneSet(["a", "b", "c", "<i>"]),
               Normaliser(torch.zeros(width), torch.ones(width)), {"dev": str(data / "ref.jsonl"), "seed": 1})
    lines = [{"event": "epoch", "epoch": n, "update": 10 * n + 10, "per": 90 / (n + 1), "loss": 2.0} for n in range(3)]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "config.yaml").write_text("train:\n  lr: 0.002 # <u>\n")
    return folder


def test_a_run_is_shown_with_its_dev_set_decoded_once(run, capsys):
    out = run / "report.html"
    assert report([str(run)], out, Asked(worst=2, best=0)) == []
    text = out.read_text()
    assert Outline(text).open_tags == []
    for part in ("Dev PER, %", "lr: 0.002 # &lt;u&gt;", "Where the model comes from", 'class="attention"',
                 'alt="attention, a row a phone"'):
        assert part in text, part
    assert "decoding it with" in capsys.readouterr().err
    decoded = run / "dev.hyp.jsonl"
    os.utime(decoded, (os.path.getmtime(run / "model.asr") + 5,) * 2)
    assert report([str(run)], out, Asked()) == []
    assert capsys.readouterr().err == ""


def test_a_run_whose_model_is_damaged_is_shown_as_far_as_it_goes(run, data):
    (run / "model.asr").write_bytes(b"nothing")
    problems = report([str(run)], run / "report.html", Asked())
    assert len(problems) == 2
    assert all("model.asr" in problem for problem in problems)
    assert "Dev PER, %" in (run / "report.html").read_text()
    assert len(report([str(run), str(data / "hyp.jsonl")], run / "o.html", Asked(data / "ref.jsonl"))) == 1
    with pytest.raises(AsrError, match=r"bad\.asr"):
        report([str(run)], run / "o.html", Asked(model=run / "bad.asr"))


@pytest.mark.parametrize("window", [True, False])
def test_the_weights_are_those_of_teacher_forcing(tiny_network, window):
    import torch

    from asr.config import Decode
    from asr.search.gaze import attention_weights
    network = tiny_network(gain=3.0)
    feats = torch.randn(60, 8)
    settings = Decode().model_copy(update={"window": Decode().window.model_copy(
        update={"enabled": window, "back": 0.1, "ahead": 0.2})})
    with torch.inference_mode():
        memory = network.encode(feats.unsqueeze(0), torch.tensor([60]))
    weights = attention_weights(network, memory, [1, 2, 3], settings)
    assert weights.shape == (4, 30)
    assert torch.allclose(weights.sum(1), torch.ones(4), atol=1e-5)
    with torch.inference_mode():
        forced = network.decoder(torch.tensor([[0, 1, 2, 3]]), memory)[1][0]
    assert torch.allclose(weights, forced, atol=1e-5) is not window
    if window:
        assert (weights > 0).sum(1).max() <= 16        # 5 frames back, the focus, 10 ahead


def test_without_attention_there_is_nothing_to_show(tiny_network):
    import torch

    from asr.config import Decode
    from asr.search.gaze import attention_weights
    network = tiny_network("attention.kind=none")
    with torch.inference_mode():
        memory = network.encode(torch.randn(1, 20, 8), torch.tensor([20]))
    assert attention_weights(network, memory, [1], Decode()) is None
    assert Gazer(None).weights(sound.Sound(np.zeros(800, np.float32), RATE, 0.05), ()) is None


def test_a_picture_is_as_wide_as_the_sound_is_long():
    from PIL import Image
    phones = tuple(TimedPhone("$a$", n, n + 1.0, 0.5) for n in range(6))
    sizes = []
    for seconds in (3, 6):
        noise = np.random.default_rng(0).standard_normal(seconds * RATE).astype(np.float32)
        data = draw(sound.Sound(noise, RATE, 60.0), Hypothesis("<x>", phones, 0.0), np.eye(seconds + 1), 1.0)
        sizes.append(Image.open(io.BytesIO(data)).size)
    assert sizes[1][0] == 2 * sizes[0][0]


def asr(line, capfdbinary):
    with pytest.raises(SystemExit) as stop:
        main(line)
    printed = capfdbinary.readouterr()
    return stop.value.code or 0, printed.out, printed.err.decode()


def test_decode_draws_one_utterance_or_a_folder_of_them(run, data, tmp_path, capfdbinary):
    model, png = str(run / "model.asr"), b"\x89PNG\r\n\x1a\n"
    code, out, _ = asr(["decode", model, str(data / "1.wav"), "-f", "png"], capfdbinary)
    assert (code, out[:8]) == (0, png)
    code, out, err = asr(["decode", model, str(data / "1.wav"), str(data / "2.wav"), "-f", "png"], capfdbinary)
    assert (code, out) == (1, b"")
    assert "asr: png of several utterances needs a folder: give --out FOLDER" in err
    code, _, _ = asr(["decode", model, str(data / "ref.jsonl"), "-f", "png", "-f", "txt", "--out", str(tmp_path / "o")],
                     capfdbinary)
    assert code == 0
    assert len(list((tmp_path / "o").glob("*.png"))) == 4
    assert (tmp_path / "o" / "two.png").read_bytes()[:8] == png
    assert "png" not in WRITERS


# What is wrong --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("line", "error"), [
    ("hyp.jsonl", "hyp.jsonl: what was said is not known: add --ref MANIFEST"),
    ("- --ref ref.jsonl", "-: a report reads its hypotheses twice, and standard input can be read once: give a file"),
    ("gone.jsonl --ref ref.jsonl", "gone.jsonl: cannot be read: No such file or directory"),
    ("hyp.jsonl --ref ref.jsonl --protocol timit61",
     f"ref.jsonl: {HOSTILE}: phone 'a' is not in the table of protocol timit61"),
])
def test_errors_are_one_line(data, monkeypatch, capfdbinary, line, error):
    monkeypatch.chdir(data)
    code, out, err = asr(["report", *line.split(), "-o", "o.html"], capfdbinary)
    wrong_use = "--ref ref.jsonl" not in line or line.startswith("- ")
    assert (code, out, err.count("\n")) == (2 if wrong_use else 1, b"", 1)
    assert err.startswith(f"asr: {error}")
    assert not (data / "o.html").exists()


@pytest.mark.parametrize(("module", "name"), [("matplotlib", "matplotlib"), ("jinja2", "Jinja2")])
def test_what_is_not_installed_is_named_with_its_extra(data, monkeypatch, capfdbinary, module, name):
    monkeypatch.chdir(data)
    monkeypatch.setitem(sys.modules, module, None)
    code, _, err = asr(["report", "hyp.jsonl", "--ref", "ref.jsonl", "-o", "o.html", "--worst", "0"], capfdbinary)
    assert (code, err) == (1, f"asr: asr report: needs {name}: pip install 'asr[report]'\n")


# In a browser ---------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium is here: chromium, google-chrome or chrome on the path")
    with Browser(program, tmp_path_factory.mktemp("profile")) as started:
        yield started


def column(number):
    return (f"[...document.querySelectorAll('#all tbody tr')].map(row => row.cells[{number}].textContent)"
            ".join(' ')")


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (390, True)])
def test_the_page_opens_without_a_complaint_and_fits(browser, page, tmp_path, width, dark):
    browser.open(page, width, 844, dark=dark)
    assert browser.run("document.title") == "A & B"
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    paper = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, re.findall(r"\d+", paper)[:3])) < 64) is dark
    assert browser.run("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    browser.screenshot(tmp_path / "page.png")
    assert browser.complaints == []


def test_a_click_on_a_column_sorts_by_it(browser, page):
    browser.open(page)
    assert browser.run(column(3)) == "50.0 25.0 20.0 0.0"
    browser.click("#all th:nth-child(3) button")
    assert browser.run(column(2)) == "5 4 3 2"
    browser.click("#all th:nth-child(3) button")
    assert browser.run(column(2)) == "2 3 4 5"
    assert browser.run("document.querySelector('#all th[aria-sort]').getAttribute('aria-sort')") == "ascending"
    browser.click("#all th:nth-child(1) button")
    assert browser.run(column(0)).split()[-3:] == ["four", "three", "two"]
    assert browser.complaints == []


SPY = """
window.played = [];
const start = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (when, offset, duration) {
  const { sampleRate } = this.buffer;
  const samples = this.buffer.getChannelData(0).slice(offset * sampleRate, (offset + duration) * sampleRate);
  let crossings = 0;
  for (let n = 1; n < samples.length; n++) crossings += samples[n - 1] < 0 && samples[n] >= 0;
  const played = { offset, duration, pitch: crossings / duration, ended: false };
  this.addEventListener("ended", () => { played.ended = true; });
  window.played.push(played);
  return start.call(this, when, offset, duration);
};
"""


def test_a_click_on_a_phone_plays_its_interval(browser, page):
    browser.open(page)
    browser.run(SPY)
    cards = "[...document.querySelectorAll('.utterance')]"
    browser.run(f"{cards}.forEach(card => {{ card.open = card.id === {cards}.find("
                "c => c.querySelector('summary').textContent.includes('four')).id })")
    for number, (start, pitch) in enumerate([(0.2, PITCHES["a"]), (0.6, PITCHES["c"])]):
        browser.click(f".utterance[open] .mark[data-start='{start:.4f}']")
        browser.wait_for(f"window.played[{number}]?.ended")
        played = browser.run(f"window.played[{number}]")
        assert played["offset"] == pytest.approx(start)
        assert played["duration"] == pytest.approx(0.2)
        assert played["pitch"] == pytest.approx(pitch, rel=0.05)       # what was heard is the phone that was clicked
    browser.wait_for("document.querySelector('.utterance[open] .playhead').hidden")
    assert browser.run("document.querySelectorAll('.playing').length") == 0
    assert browser.complaints == []


def test_a_click_on_the_picture_plays_from_there(browser, page):
    browser.open(page)
    browser.click(".utterance[open] .panel")
    began = browser.wait_for("document.querySelector('.utterance[open] audio').currentTime")
    seconds = browser.run("Number(document.querySelector('.utterance[open] .strip').dataset.seconds)")
    assert seconds / 2 - 0.01 <= began <= seconds
    assert browser.complaints == []


def test_the_page_of_asr_score_opens_and_fits(browser, data, tmp_path):
    from asr.score import Options, render
    result = score_files(str(data / "ref.jsonl"), [str(data / "hyp.jsonl")], Options(by=("speaker", "length")))
    (tmp_path / "score.html").write_text(render(result, "html"))
    browser.open(tmp_path / "score.html", 390, 844, dark=True)
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    assert browser.complaints == []


def test_names_are_as_short_as_tells_them_apart() -> None:
    assert short_names(["exp/a/test.hyp.jsonl"]) == ["test.hyp.jsonl"]
    assert short_names(["exp/a/x.jsonl", "exp/b/x.jsonl"]) == ["a/x.jsonl", "b/x.jsonl"]
    assert short_names(["x.jsonl", "b/x.jsonl"]) == ["x.jsonl", "b/x.jsonl"]
    assert short_names(["x.jsonl", "x.jsonl"]) == ["x.jsonl", "x.jsonl"]
    assert short_names([]) == []
