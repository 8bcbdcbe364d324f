#!/usr/bin/env bash
# Single words in many languages, IPA: a check of labels and times, not of accuracy.
#
#   recipes/voxangeles/run.sh /path/to/voxangeles [FOLDER]
#
# FOLDER: exp/voxangeles, seen from the repository.
# Run again, it does only what is not done yet. CONFIG names another config than conf/voxangeles.yaml.
# INIT=model.asr begins with the weights of an English model, and takes conf/voxangeles-english.yaml:
#   INIT=asr/models/english.asr recipes/voxangeles/run.sh /path/to/voxangeles
set -euo pipefail
corpus=$(realpath -- "${1:?the corpus: recipes/voxangeles/run.sh /path/to/voxangeles [FOLDER]}")
cd "$(dirname "$0")/../.."
. tools/setup
. tools/stage
PATH=$PWD/.venv/bin:$PATH
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE

exp=${2:-exp/voxangeles}
init=
config=${CONFIG:-conf/voxangeles.yaml}
if [ -n "${INIT:-}" ]; then
    init="--init $INIT --map recipes/voxangeles/from-arpabet.tsv"
    config=${CONFIG:-conf/voxangeles-english.yaml}
fi
DONE=$exp/.done
read -ra train <<< "$(trainer)"

DEPENDS=$(echo recipes/voxangeles/*.py)
stage prepare python recipes/voxangeles/prepare.py "$corpus" "$exp/data"
DEPENDS=$config
for split in train dev test; do
    stage "prep-$split" asr prep "$exp/data/$split.jsonl" "$exp/$split" --config "$config" -j "$(cores)"
done
OUTPUT=$exp/run stage train "${train[@]}" --config "$config" \
    --train "$exp/train" --dev "$exp/dev" --run "$exp/run" --resume $init
stage decode asr decode "$exp/run/model.asr" "$exp/test" --out "$exp/run/test.hyp.jsonl"
python tools/results.py "$exp/data/test.jsonl" "$exp/run" --times --title VoxAngeles \
    --command "recipes/voxangeles/run.sh" --out "$exp/RESULTS.md"
asr score "$exp/data/test.jsonl" "$exp/run/test.hyp.jsonl" --boundaries | tee "$exp/score.txt"
