"""A run's state: two generations, and damage is noticed."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import pytest
import torch

from asr.errors import AsrError
from asr.training.checkpoint import load_run_state, save_run_state


def state(number: int) -> dict:
    progress = {"update": number, "history": [{"per": 1.5}]}
    return {"network": {"w": torch.full((50,), float(number))}, "progress": progress}


def number(run: Path) -> tuple[int, str]:
    found, remark = load_run_state(run)
    assert found is not None
    assert found["network"]["w"].tolist() == [float(found["progress"]["update"])] * 50
    return found["progress"]["update"], remark


def test_two_generations(tmp_path: Path) -> None:
    assert load_run_state(tmp_path) == (None, "")
    for n in (1, 2, 3):
        save_run_state(tmp_path, state(n))
        assert number(tmp_path) == (n, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["before.pt", "last.pt"]
    (tmp_path / "last.pt").unlink()
    assert number(tmp_path) == (2, f"{tmp_path}/last.pt: missing: going on from {tmp_path}/before.pt")


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "pickle"])
def test_a_damaged_state_gives_way_to_the_one_before(damage: str, tmp_path: Path) -> None:
    save_run_state(tmp_path, state(1))
    save_run_state(tmp_path, state(2))
    last = tmp_path / "last.pt"
    whole = last.read_bytes()
    flipped = whole[:-200] + bytes([whole[-200] ^ 1]) + whole[-199:]
    last.write_bytes({"cut": whole[:-1], "flip": flipped, "empty": b"", "pickle": whole.partition(b"\n")[2]}[damage])
    why = f"{last}: damaged (its checksum does not match)"
    assert number(tmp_path) == (1, f"{why}: going on from {tmp_path}/before.pt")
    (tmp_path / "before.pt").write_bytes(b"nonsense")
    with pytest.raises(AsrError) as error:
        load_run_state(tmp_path)
    assert str(error.value) == f"{why}, and there is none before it: start again with another --run"


def test_a_save_after_damage_keeps_the_good_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state that a run went on from stays until the new one is whole on the disk."""
    save_run_state(tmp_path, state(1))
    save_run_state(tmp_path, state(2))
    (tmp_path / "last.pt").write_bytes(b"nonsense")
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(AsrError):
            save_run_state(tmp_path, state(3))
    assert number(tmp_path)[0] == 1
    save_run_state(tmp_path, state(3))
    assert number(tmp_path) == (3, "")


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_run_state(tmp_path, state(1))
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")
    monkeypatch.setattr("os.fsync", full)
    for _ in range(3):
        with pytest.raises(AsrError) as error:
            save_run_state(tmp_path, state(2))
        assert str(error.value) == f"{tmp_path}/last.pt: cannot be written: No space left on device"
    assert number(tmp_path)[0] == 1


def test_nothing_in_a_state_can_run_code(tmp_path: Path) -> None:
    """Also with a good checksum: only plain data and tensors are read."""
    class Bomb:
        def __reduce__(self) -> tuple:
            return (os.mkdir, (str(tmp_path / "trap"),))
    buffer = io.BytesIO()
    torch.save({"network": Bomb()}, buffer)
    body = buffer.getvalue()
    (tmp_path / "last.pt").write_bytes(b"asr-run-1 " + hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    with pytest.raises(AsrError) as error:
        load_run_state(tmp_path)
    assert str(error.value).startswith(f"{tmp_path}/last.pt: damaged (")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "trap").exists()
