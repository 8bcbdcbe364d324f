#!/usr/bin/env bash
# Read English of Mandarin speakers: 39 phones, 2.4 hours of training.
#
#   recipes/speechocean762/run.sh /path/to/speechocean762 [FOLDER]
#
# FOLDER: exp/speechocean762, seen from the repository.
# Run again, it does only what is not done yet. CONFIG names another config than conf/speechocean762.yaml. Training begins
# with the weights of the espeak model, INIT=exp/demo/run/model.asr (`tools/demo` makes it), or at random with INIT=none.
set -euo pipefail
corpus=$(realpath -- "${1:?the corpus: recipes/speechocean762/run.sh /path/to/speechocean762 [FOLDER]}")
cd "$(dirname "$0")/../.."
. tools/setup
. tools/stage
PATH=$PWD/.venv/bin:$PATH
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE

exp=${2:-exp/speechocean762}
config=${CONFIG:-conf/speechocean762.yaml}
DONE=$exp/.done
read -ra train <<< "$(trainer)"

DEPENDS=$(echo recipes/speechocean762/*.py)
stage prepare python recipes/speechocean762/prepare.py "$corpus" "$exp/data"
DEPENDS=$config
for split in train dev test; do
    stage "prep-$split" asr prep "$exp/data/$split.jsonl" "$exp/$split" --config "$config" -j "$(cores)"
done
init=${INIT:-exp/demo/run/model.asr}
begin=()
if [ "$init" != none ]; then
    [ -f "$init" ] || { say "$init: is not there: run tools/demo first, or begin at random with INIT=none"; exit 1; }
    begin=(--init "$init" --map recipes/speechocean762/from-espeak.tsv)
fi
OUTPUT=$exp/run stage train "${train[@]}" --config "$config" "${begin[@]}" \
    --train "$exp/train" --dev "$exp/dev" --run "$exp/run" --resume
stage decode asr decode "$exp/run/model.asr" "$exp/test" --out "$exp/run/test.hyp.jsonl"
asr score "$exp/data/test.jsonl" "$exp/run/test.hyp.jsonl" | tee "$exp/score.txt"
python tools/results.py "$exp/data/test.jsonl" "$exp/run" --title speechocean762 \
    --command "recipes/speechocean762/run.sh CORPUS" --out "$exp/RESULTS.md"
