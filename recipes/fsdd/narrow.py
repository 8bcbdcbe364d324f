"""A model of 16 kHz as one of 8 kHz to begin with: the mel bands that are left, and the weights that read them.

    python recipes/fsdd/narrow.py asr/models/english.asr exp/fsdd/narrow.asr

A mel filter is the same at both rates where it lies below 4 kHz, and so are the weights behind it. What is left was
used to hearing the upper bands as well: it is for `asr train --init`, not for decoding.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import click
import torch

from asr.config import Features
from asr.corpus.splits import run_recipe
from asr.errors import AsrError
from asr.frontend.fbank import Normaliser
from asr.model.file import Model, load_model, save_model
from asr.model.recognizer import Recognizer

INPUTS = ("encoder.layers.0.rnn.forwards.weight_ih_l0", "encoder.layers.0.rnn.backwards.weight_ih_l0")


def narrow_features(features: Features, rate: int) -> Features:
    """The features without the bands that reach above half of `rate`, all others where they were.

    Raises:
        AsrError: there is more in a frame than mel bands, or the rate is no lower.
    """
    if features.energy or features.deltas:
        raise AsrError("the model hears energy or deltas as well as mel bands: that is not provided for")
    if rate >= features.rate:
        raise AsrError(f"the model hears {features.rate} Hz: name a rate below that")
    low, high = _mel(features.low), _mel(features.high or features.rate / 2)
    step = (high - low) / (features.mels + 1)
    mels = min(features.mels, int((_mel(rate / 2) - low) / step) - 1)
    return features.model_copy(update={"rate": rate, "mels": mels, "speeds": [1.0],
                                       "high": round(_hertz(low + step * (mels + 1)), 1)})


def narrow(model: Model, rate: int) -> Model:
    """The model with the weights of the bands below half of `rate` alone; without its classifier of frames.

    Raises:
        AsrError: as `narrow_features`.
    """
    config, bands = model.config, model.config.features.mels
    features = narrow_features(config.features, rate)
    kept = torch.arange(config.encoder.pyramid[0]).unsqueeze(1) * bands + torch.arange(features.mels)
    config = config.model_copy(update={"features": features})
    network = Recognizer(config, features.mels, len(model.phones))
    network.load_state_dict({name: tensor[:, kept.flatten()] if name in INPUTS else tensor
                             for name, tensor in model.network.state_dict().items()})
    normaliser = Normaliser(model.normaliser.mean[:features.mels], model.normaliser.std[:features.mels])
    return Model(replace(model.header, config=config), network, normaliser)


def _mel(hertz: float) -> float:
    """Kaldi's scale."""
    return 1127 * math.log(1 + hertz / 700)


def _hertz(mel: float) -> float:
    return 700 * (math.exp(mel / 1127) - 1)


@click.command(help=__doc__)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--rate", default=8000, show_default=True, help="Hz.")
def main(model: Path, out: Path, rate: int) -> None:
    small = narrow(load_model(model), rate)
    features = small.config.features
    save_model(out, small.network, small.config, small.phones, small.normaliser, dict(small.header.provenance))
    click.echo(f"{out}: features: {{rate: {rate}, mels: {features.mels}, high: {features.high}}}", err=True)


if __name__ == "__main__":
    run_recipe(main)
