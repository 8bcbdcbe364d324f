#!/usr/bin/env bash
# Read English of Mandarin speakers: 39 phones, 2.4 hours of training.
#
#   recipes/speechocean762/run.sh /path/to/speechocean762 [FOLDER]
#
# FOLDER: exp/speechocean762, seen from the repository.
# Run again, it does only what is not done yet. CONFIG names another config than conf/speechocean762.yaml.
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
OUTPUT=$exp/run stage train "${train[@]}" --config "$config" \
    --train "$exp/train" --dev "$exp/dev" --run "$exp/run" --resume
stage decode asr decode "$exp/run/model.asr" "$exp/test" --out "$exp/run/test.hyp.jsonl"
asr score "$exp/data/test.jsonl" "$exp/run/test.hyp.jsonl" | tee "$exp/score.txt"
