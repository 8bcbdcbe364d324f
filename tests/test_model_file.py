"""The model file: read back bit for bit, and every way in which it can be damaged is one line."""

from __future__ import annotations

import json
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from asr.config import Config
from asr.corpus.phones import PhoneSet
from asr.errors import AsrError
from asr.frontend.fbank import Normaliser
from asr.model.file import load_header, load_model, own_version, save_model
from asr.model.recognizer import Recognizer

Make = Callable[..., Recognizer]
PHONES = PhoneSet(["a", "ʃ", "sil", "ə"])
NORMALISER = Normaliser(torch.linspace(-1, 1, 8), torch.linspace(1, 2, 8))


@pytest.fixture
def model(tmp_path: Path, tiny_network: Make, tiny_config: Callable[..., Config]) -> Path:
    path = tmp_path / "m.asr"
    save_model(path, tiny_network(), tiny_config(), PHONES, NORMALISER, {"dev_per": 4.5, "train": "größe"})
    return path


def complaint(path: Path, load: Callable[[Path], object] = load_model) -> str:
    with pytest.raises(AsrError) as error:
        load(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def test_read_back_bit_for_bit(model: Path, tiny_network: Make, tiny_config: Callable[..., Config]) -> None:
    found, network = load_model(model), tiny_network()
    assert (found.config, found.phones) == (tiny_config(), PHONES)
    assert found.header.provenance == {"dev_per": 4.5, "train": "größe"}
    assert not found.network.training
    own = found.network.state_dict()
    assert own.keys() == network.state_dict().keys()
    assert all(torch.equal(own[name], tensor) for name, tensor in network.state_dict().items())
    assert torch.equal(found.normaliser.mean, NORMALISER.mean)
    assert torch.equal(found.normaliser.std, NORMALISER.std)
    feats, frames = torch.randn(1, 20, 8), torch.tensor([20])
    assert torch.equal(found.network.encode(feats, frames).keys, network.encode(feats, frames).keys)


def test_the_same_model_is_the_same_file(model: Path, tmp_path: Path, tiny_network: Make,
                                         tiny_config: Callable[..., Config]) -> None:
    for number in range(5):
        again = tmp_path / f"{number}.asr"
        save_model(again, tiny_network(), tiny_config(), PHONES, NORMALISER, {"dev_per": 4.5, "train": "größe"})
        assert again.read_bytes() == model.read_bytes()


def test_half(model: Path, tmp_path: Path, tiny_network: Make, tiny_config: Callable[..., Config]) -> None:
    network = tiny_network()
    save_model(tmp_path / "half.asr", network, tiny_config(), PHONES, NORMALISER, {}, half=True)
    assert (tmp_path / "half.asr").stat().st_size < 0.75 * model.stat().st_size
    found = load_model(tmp_path / "half.asr")
    for name, tensor in network.state_dict().items():
        assert torch.equal(found.network.state_dict()[name], tensor.half().float())
    assert torch.equal(found.normaliser.mean, NORMALISER.mean)      # the normaliser stays exact


def test_the_header_needs_no_torch(model: Path) -> None:
    script = ("import sys; from pathlib import Path; from asr.model.file import load_header\n"
              "header = load_header(Path(sys.argv[1]))\n"
              "print(*header.phones.phones, header.provenance['dev_per'], header.config.encoder.width)\n"
              "print('torch' in sys.modules)")
    done = subprocess.run([sys.executable, "-X", "utf8", "-c", script, str(model)], capture_output=True, text=True,
                          encoding="utf-8", check=True)
    assert done.stdout == "a ʃ sil ə 4.5 6\nFalse\n"


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.999])
def test_cut_short(share: float, model: Path) -> None:
    whole = model.read_bytes()
    model.write_bytes(whole[:int(len(whole) * share)])
    for load in (load_header, load_model):
        message = complaint(model, load)
        assert message.startswith("no model, or cut short (")
        assert message.endswith("): copy it again or train it anew")


def test_one_flipped_bit_anywhere(model: Path) -> None:
    """In the header or in the weights: it is noticed, and told in a line."""
    whole = model.read_bytes()
    (size,) = struct.unpack("<Q", whole[:8])
    places = [0, 7, 8, *range(9, 8 + size, 97), *range(8 + size, len(whole), 401), len(whole) - 1]
    text = whole[:8 + size].decode(errors="replace")
    for word in ("0.1", "softmax", "sil", "dev_per", "normaliser", "lstm", "4.5"):     # what a reader would believe
        places.append(whole.index(word.encode()))
        assert word in text
    for place in places:
        for bit in (1, 4):
            model.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1:])
            complaint(model)


def rewrite(path: Path, change: Callable[[dict[str, torch.Tensor]], None], **metadata: str) -> None:
    """The same model with other tensors, its checksum made good."""
    from asr.model import file
    tensors = load_file(path)
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8:8 + size])["__metadata__"] | metadata
    change(tensors)
    header["sha256"] = file._digest(tensors, header)
    save_file(tensors, path, header)


def test_weights_that_are_no_numbers(model: Path) -> None:
    rewrite(model, lambda tensors: tensors["ctc.bias"].fill_(float("nan")))
    assert complaint(model) == ("tensor 'ctc.bias' holds values that are no finite numbers: copy the file again or "
                                "train it anew")
    rewrite(model, lambda tensors: tensors.update({"ctc.bias": torch.zeros(5, dtype=torch.int32)}))
    assert "tensor 'ctc.bias' holds values that are no finite numbers" in complaint(model)


def test_bf16_weights_are_read(model: Path) -> None:
    rewrite(model, lambda tensors: tensors.update({"ctc.bias": torch.full((5,), 0.5, dtype=torch.bfloat16)}))
    assert load_model(model).network.ctc.bias.tolist() == [0.5] * 5


def test_tensors_of_another_shape(model: Path) -> None:
    rewrite(model, lambda tensors: tensors.update({"ctc.bias": torch.zeros(6)}))
    assert complaint(model) == ("tensor 'ctc.bias' is [6], the model's config says [5]: copy the file again or train "
                                "it anew")
    rewrite(model, lambda tensors: tensors.update({"ctc.bias": torch.zeros(5), "more": torch.zeros(1)}))
    assert complaint(model).startswith("tensor 'more' is [1], the model's config says no such tensor: ")
    def without(tensors: dict[str, torch.Tensor]) -> None:
        del tensors["more"], tensors["normaliser.std"]
    rewrite(model, without)
    assert complaint(model).startswith("tensor 'normaliser.std' is missing, the model's config says [8]: ")


@pytest.mark.parametrize("load", [load_header, load_model])
def test_other_files(load: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "x.asr"
    assert complaint(path, load) == "cannot be read: No such file or directory"
    path.write_bytes(pickle.dumps({"weights": [1.0] * 50}))
    assert complaint(path, load).startswith("no model, or cut short (")
    torch.save({"weights": torch.zeros(9)}, path)
    assert complaint(path, load).startswith("no model, or cut short (")
    save_file({"weights": torch.zeros(9)}, path)
    assert complaint(path, load) == "no model of ours: its format is 'not named', not 'asr-1'"
    save_file({"weights": torch.zeros(9)}, path, {"format": "pt"})
    assert complaint(path, load) == "no model of ours: its format is 'pt', not 'asr-1'"
    save_file({"weights": torch.zeros(9)}, path, {"format": "asr-1"})
    assert complaint(path, load) == "the model's header is damaged: copy the file again or train it anew"


def test_a_header_that_says_nonsense(model: Path) -> None:
    rewrite(model, lambda tensors: None, phones='["a", "a"]')
    assert complaint(model, load_header) == "a phone set names a phone twice"
    rewrite(model, lambda tensors: None, phones='["a"]', config='{"encoder": {"width": "wide"}}')
    assert complaint(model, load_header) == "encoder.width is 'wide': input should be a valid integer"


@pytest.mark.parametrize(("version", "writer"), [
    ("9.1", "asr 9.1"), ("", "a version that left no name"), (own_version(), f"another state of asr {own_version()}")])
@pytest.mark.parametrize("key", ["encoder.wings", "features.low.a", "times.clock", "wings", "attention.a.b"])
def test_a_key_that_changes_what_the_weights_compute_is_refused(key: str, version: str, writer: str, model: Path,
                                                                tiny_config: Callable[..., Config]) -> None:
    tree = tiny_config().model_dump()
    section, _, name = key.partition(".")
    if name == "low.a":
        tree["features"]["low"] = {"a": 1}
    else:
        (tree[section] if name else tree)[name or section] = 1
    rewrite(model, lambda tensors: None, config=json.dumps(tree), version=version)
    for load in (load_header, load_model):
        assert complaint(model, load) == (
            f"was written by {writer}; this is asr {own_version()}, which does not know '{key}' of its config: "
            "install the version that wrote it, or train the model anew")


def test_a_key_from_elsewhere_does_not_reach_the_terminal_as_it_stands(
        model: Path, tiny_config: Callable[..., Config], capsys: pytest.CaptureFixture[str]) -> None:
    """It could clear the screen, or add lines of its own."""
    tree = tiny_config().model_dump()
    tree["decode"]["\x1b[2Jok\n"] = 1
    rewrite(model, lambda tensors: None, config=json.dumps(tree), version="9\r1")
    load_model(model)
    assert capsys.readouterr().err == (
        f"asr: {model}: was written by asr 9\\r1: decode.\\x1b[2Jok\\n of its config mean nothing to this one and are "
        "passed over\n")


def test_a_key_that_only_trained_or_searched_is_passed_over(
        model: Path, tmp_path: Path, tiny_config: Callable[..., Config], capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny_config()
    tree = config.model_dump()
    tree["train"] |= {"wings": True, "a.b": {"c": 1}}
    tree["decode"]["window"]["glass"] = "clear"
    rewrite(model, lambda tensors: None, config=json.dumps(tree), version="9.1")
    found = load_model(model)
    assert found.config == config
    assert capsys.readouterr().err == (f"asr: {model}: was written by asr 9.1: train.wings, train.a.b, "
                                       "decode.window.glass of its config mean nothing to this one and are passed "
                                       "over\n")
    save_model(tmp_path / "again.asr", found.network, found.config, found.phones, found.normaliser, {})
    assert load_model(tmp_path / "again.asr").header.passed_over == ()
    assert capsys.readouterr().err == ""


def test_a_file_without_a_version_and_with_fewer_keys_is_read(model: Path, tiny_config: Callable[..., Config]) -> None:
    tree = tiny_config().model_dump()
    del tree["times"], tree["decode"]["window"]
    rewrite(model, lambda tensors: None, config=json.dumps(tree), version="")
    assert load_model(model).config == tiny_config()


def test_a_pickle_under_the_name_runs_nothing(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    class Bomb:
        def __reduce__(self) -> tuple:
            return (Path.touch, (trap,))
    (tmp_path / "m.asr").write_bytes(pickle.dumps(Bomb()))
    complaint(tmp_path / "m.asr")
    assert not trap.exists()


def test_nothing_is_left_in_place_of_a_whole_file(model: Path, monkeypatch: pytest.MonkeyPatch, tiny_network: Make,
                                                  tiny_config: Callable[..., Config]) -> None:
    before = model.read_bytes()
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(AsrError) as error:
        save_model(model, tiny_network(seed=1), tiny_config(), PHONES, NORMALISER, {})
    assert str(error.value) == f"{model}: cannot be written: No space left on device"
    assert model.read_bytes() == before
    assert [path.name for path in model.parent.iterdir()] == ["m.asr"]
