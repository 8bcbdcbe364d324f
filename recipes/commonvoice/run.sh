#!/usr/bin/env bash
# Common Voice in one language, or any table like it.
#
#   recipes/commonvoice/run.sh /path/to/cv-corpus/en /path/to/lexicon.txt|letters [FOLDER]
#
# FOLDER: exp/commonvoice, seen from the repository. The word `letters` instead of a lexicon trains on letters.
# Run again, it does only what is not done yet. CONFIG names another config than conf/commonvoice.yaml.
set -euo pipefail
corpus=$(realpath -- "${1:?the folder of one language, with train.tsv and clips/}")
units=(--letters)
if [ "${2:?a lexicon in the format of the CMU dictionary, or the word: letters}" != letters ]; then
    units=(--lexicon "$(realpath -- "$2")")
fi
cd "$(dirname "$0")/../.."
. tools/setup
. tools/stage
PATH=$PWD/.venv/bin:$PATH
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE

exp=${3:-exp/commonvoice}
config=${CONFIG:-conf/commonvoice.yaml}
DONE=$exp/.done
read -ra train <<< "$(trainer)"

DEPENDS=$(echo recipes/commonvoice/*.py)
stage prepare python recipes/commonvoice/prepare.py "$corpus" "$exp/data" "${units[@]}"
DEPENDS=$config
for split in train dev test; do
    stage "prep-$split" asr prep "$exp/data/$split.jsonl" "$exp/$split" --config "$config" -j "$(cores)"
done
OUTPUT=$exp/run stage train "${train[@]}" --config "$config" \
    --train "$exp/train" --dev "$exp/dev" --run "$exp/run" --resume
stage decode asr decode "$exp/run/model.asr" "$exp/test" --out "$exp/run/test.hyp.jsonl"
asr score "$exp/data/test.jsonl" "$exp/run/test.hyp.jsonl" | tee "$exp/score.txt"
