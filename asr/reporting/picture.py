"""One utterance as a PNG: spectrogram, attention and phones over the same seconds."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from asr.corpus.records import Hypothesis, TimedPhone
from asr.errors import AsrError
from asr.formats.writers import Format
from asr.reporting.plotting import BLUE, figure, need_matplotlib, style
from asr.reporting.sound import Sound, origin, read_sound, spectrogram

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from asr.reporting.gazer import Gazer

LONGEST = 30.0              # s of an utterance that a picture holds
COLOURS = "magma"
END = "end"                 # the last row of an attention picture


def png_format(gazer: Gazer) -> Format:
    """The picture as a format of `asr decode`.

    Raises:
        AsrError: matplotlib is not installed.
    """
    need_matplotlib("-f png")
    return Format(lambda hypothesis: picture_of(hypothesis, gazer), ".png", each=True, binary=True)


def picture_of(hypothesis: Hypothesis, gazer: Gazer) -> bytes:
    """The picture of an utterance that has just been decoded, whose sound is read once more.

    Raises:
        AsrError: the sound is not at hand any more, or cannot be read.
    """
    utterance = origin(hypothesis)
    if utterance is None:
        raise AsrError(f"-f png: {hypothesis.id}: a picture needs the sound once more: give a file, not a stream")
    sound = read_sound(utterance, gazer.features, LONGEST)
    return draw(sound, hypothesis, gazer.weights(sound, hypothesis.phones), gazer.frame)


def draw(sound: Sound, hypothesis: Hypothesis, weights: np.ndarray | None, frame: float) -> bytes:
    """The picture as a PNG.

    Args:
        sound: the utterance, or the first seconds of it
        hypothesis: its phones; those that begin behind the sound's end are left out
        weights: (U + 1, S) attention of these phones, the end last; None: no such panel
        frame: s of an encoder frame
    """
    phones = within(hypothesis.phones, sound.seconds)
    rows = 0 if weights is None else len(weights)
    heights = [2.0, *([max(1.5, 0.125 * rows)] if rows else []), 0.5]
    with style(**{"axes.grid": False, "savefig.transparent": False}):
        picture = figure(min(60.0, max(6.0, 2.6 * sound.seconds)), sum(heights) + 1.0)
        panels = list(picture.subplots(len(heights), 1, sharex=True, height_ratios=heights))
        _sound_panel(panels[0], sound)
        if weights is not None:
            _attention_panel(panels[1], weights, [p.phone for p in phones], frame)
        _phones_panel(panels[-1], phones)
        panels[-1].set(xlabel="s", xlim=(0, sound.seconds))
        part = f", the first {sound.seconds:.0f} s of {sound.whole:.0f}" if sound.whole > sound.seconds + 0.1 else ""
        panels[0].set_title(hypothesis.id + part)
        file = io.BytesIO()
        picture.savefig(file, format="png", dpi=110)
    return file.getvalue()


def within(phones: Sequence[TimedPhone], seconds: float) -> list[TimedPhone]:
    """The phones that begin before so many seconds."""
    return [p for p in phones if p.start < seconds]


def attention_heat(weights: np.ndarray) -> np.ndarray:
    """Weights as shades from 0 to 1: the square root, so that what is faint is seen."""
    shades: np.ndarray = np.sqrt(np.clip(weights, 0, 1))
    return shades


def _sound_panel(axes: Axes, sound: Sound) -> None:
    axes.imshow(spectrogram(sound), origin="lower", aspect="auto", cmap=COLOURS, interpolation="bilinear",
                extent=(0, sound.seconds, 0, sound.rate / 2000))
    axes.set_ylabel("kHz")


def _attention_panel(axes: Axes, weights: np.ndarray, phones: Sequence[str], frame: float) -> None:
    rows, S = weights.shape
    axes.imshow(attention_heat(weights), aspect="auto", cmap=COLOURS, interpolation="nearest", vmin=0, vmax=1,
                extent=(0, S * frame, rows - 0.5, -0.5))
    labels: Any = [*phones, END]
    axes.set_yticks(range(rows), labels[:rows], fontsize=7)
    axes.tick_params(axis="y", length=0)
    axes.set_ylabel("attention")


def _phones_panel(axes: Axes, phones: Sequence[TimedPhone]) -> None:
    """Each phone in its interval, the paler the less sure."""
    from matplotlib.patches import Rectangle
    for p in phones:
        axes.add_patch(Rectangle((p.start, 0), p.end - p.start, 1, facecolor=BLUE, edgecolor="white", linewidth=0.8,
                                 alpha=0.15 + 0.6 * min(1.0, max(0.0, p.confidence))))
        axes.text((p.start + p.end) / 2, 0.5, p.phone, ha="center", va="center", fontsize=9, clip_on=True)
    axes.set(yticks=[], ylim=(0, 1), ylabel="phones")
