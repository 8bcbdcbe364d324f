#!/usr/bin/env bash
# Read English, 100 to 960 hours.
#
#   recipes/librispeech/run.sh /path/to/LibriSpeech /path/to/lexicon.txt [FOLDER]
#
# FOLDER: exp/librispeech, seen from the repository. Trains on every train-* subset that is there.
# Run again, it does only what is not done yet. CONFIG names another config than conf/librispeech.yaml.
set -euo pipefail
corpus=$(realpath -- "${1:?the corpus: recipes/librispeech/run.sh /path/to/LibriSpeech /path/to/lexicon.txt [FOLDER]}")
lexicon=$(realpath -- "${2:?the lexicon, in the format of the CMU dictionary}")
cd "$(dirname "$0")/../.."
. tools/setup
. tools/stage
PATH=$PWD/.venv/bin:$PATH
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE

exp=${3:-exp/librispeech}
config=${CONFIG:-conf/librispeech.yaml}
DONE=$exp/.done
read -ra train <<< "$(trainer)"

DEPENDS=$(echo recipes/librispeech/*.py)
stage prepare python recipes/librispeech/prepare.py "$corpus" "$exp/data" --lexicon "$lexicon"
DEPENDS=$config
for split in train dev-clean test-clean; do
    stage "prep-$split" asr prep "$exp/data/$split.jsonl" "$exp/$split" --config "$config" -j "$(cores)"
done
OUTPUT=$exp/run stage train "${train[@]}" --config "$config" \
    --train "$exp/train" --dev "$exp/dev-clean" --run "$exp/run" --resume
stage decode asr decode "$exp/run/model.asr" "$exp/test-clean" --out "$exp/run/test.hyp.jsonl"
asr score "$exp/data/test-clean.jsonl" "$exp/run/test.hyp.jsonl" | tee "$exp/score.txt"
