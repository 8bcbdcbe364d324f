#!/usr/bin/env bash
# From nothing to a phoneme error rate on synthetic speech: sentences and voices of the test are new to the model.
#
#   recipes/espeak/run.sh [FOLDER] [OPTION…]    FOLDER: exp/espeak, seen from the repository; options go to prepare.py, e.g. --train-hours 10
#
# Run again, it does only what is not done yet. CONFIG names another config than conf/espeak.yaml.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tools/setup
. tools/stage
PATH=$PWD/.venv/bin:$PATH
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE

exp=${1:-exp/espeak}
shift || true
config=${CONFIG:-conf/espeak.yaml}
DONE=$exp/.done
read -ra train <<< "$(trainer)"

DEPENDS=$(echo recipes/espeak/*.py recipes/espeak/*.txt recipes/espeak/*.tsv)
stage synth python recipes/espeak/prepare.py "$exp/corpus" "$@"
DEPENDS=$config
stage prep asr prep "$exp/corpus/train.jsonl" "$exp/train" --config "$config" -j "$(cores)"
# dev and test are minutes of speech: their features are computed on the fly
OUTPUT=$exp/run stage train "${train[@]}" --config "$config" --train "$exp/train" --dev "$exp/corpus/dev.jsonl" --run "$exp/run" --resume
stage decode asr decode "$exp/run/model.asr" "$exp/corpus/test.jsonl" --out "$exp/test.hyp.jsonl"
stage score asr score "$exp/corpus/test.jsonl" "$exp/test.hyp.jsonl" --by speaker > "$exp/score.part"
if [ -s "$exp/score.part" ]; then mv "$exp/score.part" "$exp/score.txt"; else rm "$exp/score.part"; fi
python tools/results.py "$exp/corpus/test.jsonl" "$exp/run" --hyp ../test.hyp.jsonl --by-speaker --title espeak \
    --command "recipes/espeak/run.sh" --out "$exp/RESULTS.md"
cat "$exp/score.txt"
