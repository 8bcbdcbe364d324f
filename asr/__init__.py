"""Phoneme recognition in speech of any length with an attention model.

    import asr
    hypothesis = asr.load("model.asr").transcribe("speech.wav")
    print(hypothesis.text)
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")     # before torch: spinning threads starve other processes
