"""The model in the box: taken where none is named, told apart from recordings, packed small, with its card."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from command import asr
from safetensors.torch import load_file

import asr as package
from asr import boxed
from asr.boxed import ENGLISH, looks_like_a_model
from asr.config import Config
from asr.corpus.phones import PhoneSet
from asr.errors import AsrError
from asr.frontend.fbank import Normaliser
from asr.model.file import load_header, load_model, own_version, save_model
from asr.model.recognizer import Recognizer
from asr.pack import pack, read_card

Make = Callable[..., Recognizer]
ROOT = Path(__file__).parents[1]
CARD = "language: English\nPER: ['words test: 24.5 % (plain)', 'TIMIT: 36 %']\nhours: 2.5\n"
NOTE = "asr: no model is named: the English one in the box (what it can and cannot do: asr info)\n"
WRONG = "Usage: asr {command} [OPTIONS] [MODEL] {what}…\nTry 'asr {command} --help' for help.\n\nError: {message}\n"


@pytest.fixture
def model(tmp_path: Path, tiny_network: Make, tiny_config: Callable[..., Config]) -> Path:
    path = tmp_path / "m.asr"
    save_model(path, tiny_network(gain=4.0), tiny_config(), PhoneSet(["a", "b", "c", "sil"]),
               Normaliser(torch.zeros(8), torch.ones(8)), {"train": "/home/anna/exp/words/train", "dev": "exp/dev",
                                                           "dev_per": 12.5})
    return path


@pytest.fixture
def box(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model in the box, of our own making."""
    path = tmp_path / "models" / "english.asr"
    card = tmp_path / "card.yaml"
    card.write_text(CARD)
    pack(model, path, half=True, card=card)
    monkeypatch.setattr(boxed, "ENGLISH", path)
    return path


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "x.wav", 0.1 * np.random.default_rng(1).standard_normal(16000), 16000)
    return tmp_path / "x.wav"


# Without a model --------------------------------------------------------------------------------------------------

def test_decode_takes_the_model_in_the_box(box: Path, sound: Path, manifest: Callable[..., Path]) -> None:
    rows = manifest("u", 2)
    for inputs in ([sound], [sound, sound.with_name("u-0.wav")], [rows], [sound.parent]):
        named = asr("decode", box, *inputs, "-f", "trn")
        boxed = asr("decode", *inputs, "-f", "trn")
        assert (boxed.code, boxed.out) == (named.code, named.out)
        assert named.out.count("\n") >= len(inputs)
        assert boxed.err.startswith(NOTE)
        assert not named.err.startswith("asr: ")
    assert asr("decode", "-", "-f", "txt", stdin=sound.read_bytes()).out == \
        asr("decode", box, "-", "-f", "txt", stdin=sound.read_bytes()).out != ""


def test_align_and_info_and_load_take_it_too(box: Path, manifest: Callable[..., Path]) -> None:
    rows = manifest("u", 2)
    done = asr("align", rows, "-f", "ctm")
    assert done.out == asr("align", box, rows, "-f", "ctm").out != ""
    assert done.err.startswith(NOTE)
    assert asr("info").out == asr("info", box).out
    path = rows.with_name("u-0.wav")
    assert package.load(device="cpu").transcribe(path) == package.load(box, device="cpu").transcribe(path)


def test_an_input_that_is_not_there_is_named(box: Path) -> None:
    done = asr("decode", "no.wav")
    assert (done.code, done.out) == (1, "")
    assert done.err == f"{NOTE}asr: no.wav (utterance 'no'): cannot be read: No such file or directory\n"


def test_a_copy_without_a_model_says_so(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boxed, "ENGLISH", tmp_path / "no.asr")
    for arguments in (["decode", sound], ["align", "x.jsonl"], ["info"]):
        done = asr(*arguments)
        assert done == type(done)(1, "", "asr: this copy of asr has no model in the box: name one, as in `asr decode "
                                         "model.asr speech.wav` (`tools/demo` trains one in minutes)\n")


@pytest.mark.parametrize(("arguments", "message"), [
    (["m.asr"], "Missing argument '{what}...': what is the model to work on?"),
    (["x.wav", "m.asr"], "m.asr is a model: name it before the {what}"),
    (["a.asr", "b.asr", "x.wav"], "b.asr is a second model: name one")])
@pytest.mark.parametrize(("command", "what"), [("decode", "INPUT"), ("align", "MANIFEST")])
def test_wrong_use(command: str, what: str, arguments: list[str], message: str) -> None:
    done = asr(command, *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err == WRONG.format(command=command, what=what, message=message.format(what=what))


def test_a_model_under_any_name_is_known(model: Path, sound: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "my model"
    renamed.write_bytes(model.read_bytes())
    assert asr("decode", renamed, sound).out == asr("decode", model, sound).out
    for name in ("not-there.asr", "last.pt", "x.SAFETENSORS", renamed):
        assert looks_like_a_model(str(name))
    (tmp_path / "text").write_text("01234567{")
    for name in (sound, tmp_path, tmp_path / "text", "-", "x.wav", "x.jsonl", "no", "a\0b", ""):
        assert not looks_like_a_model(str(name))
    assert asr("decode", tmp_path / "last.pt", sound).err == \
        f"asr: {tmp_path}/last.pt: cannot be read: No such file or directory\n"


# Packing ----------------------------------------------------------------------------------------------------------

def test_what_goes_along(model: Path, tmp_path: Path) -> None:
    (tmp_path / "card.yaml").write_text(CARD)
    done = asr("export", "model", model, tmp_path / "a.asr", "--half", "--card", tmp_path / "card.yaml")
    assert (done.code, done.out, done.err) == (0, "", f"{tmp_path}/a.asr: 0.0 MB\n")
    header = load_header(tmp_path / "a.asr")
    assert header.provenance == {"train": "words/train", "dev": "exp/dev", "dev_per": 12.5, "card": {
        "language": "English", "PER": ["words test: 24.5 % (plain)", "TIMIT: 36 %"], "hours": 2.5}}
    assert header.version == own_version()
    changed = asr("export", "model", model, tmp_path / "c.asr", "-o", "decode.beam=3", "-o", "features.channel=1")
    assert changed.code == 0
    config = load_header(tmp_path / "c.asr").config
    assert (config.decode.beam, config.features.channel) == (3, 1)
    pack(tmp_path / "a.asr", tmp_path / "b.asr", half=True)
    assert (tmp_path / "b.asr").read_bytes() == (tmp_path / "a.asr").read_bytes()     # nothing is lost a second time


def test_halves_are_the_same_model_to_three_digits(model: Path, tmp_path: Path) -> None:
    pack(model, tmp_path / "whole.asr")
    pack(model, tmp_path / "half.asr", half=True)
    whole, half = load_model(tmp_path / "whole.asr"), load_model(tmp_path / "half.asr")
    assert {tensor.dtype for name, tensor in load_file(tmp_path / "half.asr").items()
            if not name.startswith("normaliser.")} == {torch.float16}
    given = load_model(model).network.state_dict()
    for name, tensor in half.network.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(whole.network.state_dict()[name], given[name])
        torch.testing.assert_close(tensor, given[name], rtol=2 ** -11, atol=2 ** -24)
    torch.manual_seed(1)
    feats, frames = torch.randn(2, 40, 8), torch.tensor([40, 30])
    torch.testing.assert_close(half.network.encode(feats, frames).keys, whole.network.encode(feats, frames).keys,
                               rtol=0, atol=0.02)


def test_a_weight_beyond_float16(model: Path, tmp_path: Path) -> None:
    found = load_model(model)
    with torch.no_grad():
        found.network.ctc.bias[0] = 1e5
    save_model(model, found.network, found.config, found.phones, found.normaliser, {})
    with pytest.raises(AsrError) as error:
        pack(model, tmp_path / "half.asr", half=True)
    assert str(error.value) == (f"{model}: tensor 'ctc.bias' holds 1e+05, which is beyond float16: export it without "
                                "--half")
    assert not (tmp_path / "half.asr").exists()


@pytest.mark.parametrize(("text", "message"), [
    ("a: [", ":1: not YAML: give lines like 'language: English'"),
    ("", ": a card is lines like 'language: English', not None"),
    ("- a", ": a card is lines like 'language: English', not ['a']"),
    ("a: {b: 1}", ": a: expected a text, a number, or a list of them, not {'b': 1}"),
    ("a: []", ": a: expected a text, a number, or a list of them, not []"),
    ("1: x", ": 1: expected a text, a number, or a list of them, not 'x'")])
def test_a_card_that_is_none(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(AsrError) as error:
        read_card(tmp_path / "c.yaml")
    assert str(error.value) == f"{tmp_path}/c.yaml{message}"
    with pytest.raises(AsrError, match=r"no\.yaml: cannot be read: No such file or directory$"):
        read_card(tmp_path / "no.yaml")


def test_info_shows_the_card_first(box: Path) -> None:
    lines = asr("info", box).out.splitlines()
    assert lines[0].startswith(str(box))
    first = next(number for number, line in enumerate(lines) if line.startswith("language"))
    assert lines[first - 1].endswith("parameters, 0.0 MB, stored as float16")
    assert lines[first:first + 4] == ["language       English", "PER            words test: 24.5 % (plain)",
                                      "PER            TIMIT: 36 %", "hours          2.5"]
    assert f"written by     asr {own_version()}" in lines
    assert not [line for line in lines if line.startswith("card")]


# The package ------------------------------------------------------------------------------------------------------

def test_a_wheel_holds_all_that_lies_in_the_package(tmp_path: Path) -> None:
    """Whatever git tracks under asr/, and a model in the box."""
    listed = subprocess.run(["git", "ls-files", "-z", "asr"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is no git checkout")
    names = {name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()}
    names.add("asr/models/english.asr")
    for name in [*names, "pyproject.toml", "README.md"]:
        copy = tmp_path / "tree" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((ROOT / name).read_bytes() if (ROOT / name).is_file() else b"a model")
    script = "from setuptools import setup; setup()"        # what a wheel is made of; `wheel` itself may not be here
    done = subprocess.run([sys.executable, "-c", script, "build_py", "--build-lib", tmp_path / "built"],
                          cwd=tmp_path / "tree", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {name for name in names if not (tmp_path / "built" / name).is_file()} == set()


def test_the_model_that_comes_along() -> None:
    if not ENGLISH.is_file():
        pytest.skip("asr/models/english.asr is not here")
    assert ENGLISH.stat().st_size <= 12e6
    found = load_model(ENGLISH)
    card = found.header.provenance["card"]
    assert {"language", "heard", "PER", "limits", "licence"} <= set(card), "what `asr info` is there to tell"
    assert found.config.features.rate == 16000
    assert not [value for value in found.header.provenance.values() if str(value).startswith("/")]
    assert set(found.header.passed_over) == set()
