"""espeak-ng through ctypes: a sentence in, samples and timed phones out.

The library comes with the wheel `espeakng-loader`. It is GPL-3, so it is loaded here, in a recipe, and the package
`asr` never imports it. One process holds one synthesiser, and the synthesiser remembers what it said before (the
flutter of its pitch runs on), so bytes can be repeated only from a fresh process.
"""

from __future__ import annotations

import ctypes
import unicodedata
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr.errors import AsrError

SYNCHRONOUS = 2                     # output mode: samples go to the callback before espeak_Synth returns
PHONEME_EVENTS, IPA = 1, 2          # options of espeak_Initialize
UTF8 = 1                            # flag of espeak_Synth
RATE, PITCH, RANGE = 1, 3, 4        # of espeak_SetParameter
END_OF_LIST, PHONE = 0, 7           # kinds of event
QUIET = 0.002                       # share of the peak below which a sample is silence
CLOSURE = 0.07                      # s; a longer silence before a phone is a pause
LATERALS = ("l", "ɫ")
GLIDE = 0.025                       # s; an l that is shorter was rendered inside the vowel


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("unique", ctypes.c_uint), ("text_position", ctypes.c_int),
                ("length", ctypes.c_int), ("milliseconds", ctypes.c_int), ("sample", ctypes.c_int),
                ("user_data", ctypes.c_void_p), ("id", _Id)]


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True)
class Speech:
    """What was said: samples (N,) int16 at `rate` Hz, and (phone, first sample, sample behind the last) in order."""

    samples: NDArray[np.int16]
    rate: int
    phones: list[tuple[str, int, int]]


class Synthesiser:
    """The espeak-ng library, initialised."""

    def __init__(self, seed: int = 1) -> None:
        """Load and start it; `seed` is that of its noise (breath), which else begins with the clock."""
        try:
            import espeakng_loader
        except ImportError as error:
            raise AsrError("espeak-ng is not installed: pip install espeakng-loader (the extra 'espeak')") from error
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        self.rate: int = self._library.espeak_Initialize(SYNCHRONOUS, 0, data, PHONEME_EVENTS | IPA)
        if self.rate <= 0:
            raise AsrError(f"{data.decode()}: espeak-ng does not start from this data: install espeakng-loader anew")
        self._library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        self._library.espeak_ng_SetRandSeed(seed)
        ctypes.CDLL(None).srand(seed)       # the Klatt voices draw from C's own
        self._chunks: list[NDArray[np.int16]] = []
        self._events: list[tuple[str, int]] = []
        self._callback = _CALLBACK(self._collect)       # kept here: the library holds no reference of Python's
        self._library.espeak_SetSynthCallback(self._callback)

    @property
    def version(self) -> str:
        """Of the library, like `1.52.0`."""
        self._library.espeak_Info.restype = ctypes.c_char_p
        return self._library.espeak_Info(None).decode().split()[0]

    def voice(self, language: str, variant: str) -> None:
        """Choose who speaks.

        Raises:
            AsrError: espeak-ng has no such language or variant.
        """
        if self._library.espeak_SetVoiceByName(language.encode()) != 0:
            raise AsrError(f"--language {language}: espeak-ng has no such language: try en-us, de, fr, es, cmn, …")
        if self._library.espeak_SetVoiceByName(f"{language}+{variant}".encode()) != 0:
            raise AsrError(f"espeak-ng has no voice '{language}+{variant}'")

    def say(self, sentence: str, *, rate: int = 175, pitch: int = 50, range_: int = 50) -> Speech:
        """Speak a sentence.

        Args:
            rate: words a minute.
            pitch: 0 to 100; 50 is the voice's own.
            range_: of the pitch, 0 (monotone) to 100; 50 is the voice's own.
        """
        for parameter, value in ((RATE, rate), (PITCH, pitch), (RANGE, range_)):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._chunks, self._events = [], []
        text = sentence.encode()
        failed = self._library.espeak_Synth(text, len(text) + 1, 0, 1, 0, UTF8, None, None)
        if failed or not self._chunks:
            raise AsrError(f"espeak-ng says nothing for {sentence!r:.80}")
        samples = np.concatenate(self._chunks)
        return Speech(samples, self.rate, _intervals(self._events, samples, self.rate))

    def _collect(self, wave: ctypes._Pointer[ctypes.c_short], count: int, events: ctypes._Pointer[_Event]) -> int:
        if wave and count > 0:
            self._chunks.append(np.ctypeslib.as_array(wave, (count,)).copy())
        number = 0
        while events[number].type != END_OF_LIST:
            if events[number].type == PHONE:
                # eight bytes, closed by a NUL only if there is room for one: `.string` of ctypes reads just so
                self._events.append((events[number].id.string.decode("utf-8", "ignore"), events[number].sample))
            number += 1
        return 0


def normalise(name: str) -> str:
    """An event's name without stress marks, in Unicode's composed form; length (ː) stays. Empty for a pause."""
    return unicodedata.normalize("NFC", "".join(name.replace("ˈ", "").replace("ˌ", "").split()))


def _intervals(events: list[tuple[str, int]], samples: NDArray[np.int16], rate: int) -> list[tuple[str, int, int]]:
    """Phones with both ends, from events that tell where a phone or a pause begins.

    espeak marks a stop at its burst. The closure before it, a few hundredths of a second of silence, belongs to the
    stop by every convention of labelling, so the boundary is moved to where the silence begins. And it renders an l
    behind a vowel as the vowel's own glide, marking the l where it is over: such an l gets the last third of the two.
    """
    loud = np.abs(samples.astype(np.int32)) > QUIET * max(1, np.abs(samples.astype(np.int32)).max())
    starts = [min(sample, len(samples)) for _, sample in events]
    for number in range(1, len(events)):
        if normalise(events[number][0]) and normalise(events[number - 1][0]):
            reach = max(starts[number] - int(CLOSURE * rate), (starts[number - 1] + starts[number]) // 2)
            heard = np.flatnonzero(loud[reach:starts[number]])
            starts[number] = reach + (int(heard[-1]) + 1 if len(heard) else 0)
    ends = [*starts[1:], len(samples)]
    for number in range(1, len(events)):
        name, before = normalise(events[number][0]), normalise(events[number - 1][0])
        if name in LATERALS and before and ends[number] - starts[number] < GLIDE * rate:
            starts[number] = ends[number - 1] = ends[number] - (ends[number] - starts[number - 1]) // 3
    return [(normalise(name), start, end) for (name, _), start, end in zip(events, starts, ends, strict=True)
            if normalise(name)]
