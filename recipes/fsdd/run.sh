#!/usr/bin/env bash
# Spoken digits, single or connected: a check on real speech that trains in minutes.
#
#   recipes/fsdd/run.sh /path/to/fsdd [FOLDER]
#
# FOLDER: exp/fsdd, seen from the repository. CONNECTED=no trains on single digits.
# Run again, it does only what is not done yet. CONFIG names another config than conf/fsdd.yaml.
# INIT=model.asr begins with the weights of an English model, and takes conf/fsdd-english.yaml:
#   INIT=asr/models/english.asr recipes/fsdd/run.sh /path/to/fsdd
set -euo pipefail
corpus=$(realpath -- "${1:?the corpus: recipes/fsdd/run.sh /path/to/fsdd [FOLDER]}")
cd "$(dirname "$0")/../.."
. tools/setup
. tools/stage
PATH=$PWD/.venv/bin:$PATH
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE

exp=${2:-exp/fsdd}
init=
config=${CONFIG:-conf/fsdd.yaml}
if [ -n "${INIT:-}" ]; then
    init="--init $INIT"
    config=${CONFIG:-conf/fsdd-english.yaml}
fi
DONE=$exp/.done
connected=--connected
if [ "${CONNECTED:-yes}" = no ]; then connected=; fi
read -ra train <<< "$(trainer)"

DEPENDS=$(echo recipes/fsdd/*.py)
stage prepare python recipes/fsdd/prepare.py "$corpus" "$exp/data" $connected
DEPENDS=$config
for split in train dev test; do
    stage "prep-$split" asr prep "$exp/data/$split.jsonl" "$exp/$split" --config "$config" -j "$(cores)"
done
OUTPUT=$exp/run stage train "${train[@]}" --config "$config" \
    --train "$exp/train" --dev "$exp/dev" --run "$exp/run" --resume $init
stage decode asr decode "$exp/run/model.asr" "$exp/test" --out "$exp/run/test.hyp.jsonl"
asr score "$exp/data/test.jsonl" "$exp/run/test.hyp.jsonl" | tee "$exp/score.txt"
