#!/usr/bin/env bash
# Chorowski et al. 2015, figure 4, as a table: error rate against length for four kinds of attention and three ways to decode.
#
#   recipes/espeak/table.sh [FOLDER] [JOINS]    FOLDER: exp/espeak, where run.sh has been; JOINS: 1,5,20
#
# Trains a model for each attention (conf/espeak.yaml with other `attention` keys, no training on joins, so that length
# is news to all of them alike) and decodes joins of the test set. Run again, it does only what is not done yet.
# PRECISION: auto, or bf16, which trains almost twice as fast on a CPU that multiplies it.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tools/setup
. tools/stage
PATH=$PWD/.venv/bin:$PATH
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE

exp=${1:-exp/espeak}
joins=${2:-1,5,20}
config=conf/espeak.yaml
precision=${PRECISION:-auto}
DONE=$exp/table/.done
DEPENDS=$config
read -ra train <<< "$(trainer)"
unaided=(-o decode.window.enabled=false -o decode.eos_gate=0 -o decode.jump_back=0 -o decode.ctc_weight=0
         -o decode.fallback=false -o decode.batch_size=1 -o decode.long.after=1.0e+9)

attend() {      # NAME KEY=VALUE…: train one kind of attention and decode with it
    local name=$1 run=$exp/table/$1 keys=()
    shift
    for key in "$@"; do keys+=(-o "$key"); done
    OUTPUT=$run/run stage "train-$name" "${train[@]}" --config "$config" -o train.join.probability=0 -o train.precision="$precision" \
        "${keys[@]}" \
        --train "$exp/train" --dev "$exp/corpus/dev.jsonl" --run "$run/run" --resume
    stage "plain-$name" asr curve "$run/run/model.asr" "$exp/corpus/test.jsonl" --joins "$joins" \
        "${unaided[@]}" --out "$run/plain"
    if [ "$name" = none ]; then return; fi      # nothing to sharpen, and nowhere to put a window
    stage "sharpened-$name" asr curve "$run/run/model.asr" "$exp/corpus/test.jsonl" --joins "$joins" \
        "${unaided[@]}" -o decode.beta=2.0 --out "$run/sharpened"
    stage "windowed-$name" asr curve "$run/run/model.asr" "$exp/corpus/test.jsonl" --joins "$joins" --out "$run/windowed"
}

attend none attention.kind=none
attend content attention.kind=content
attend hybrid attention.kind=hybrid
attend hybrid-smooth attention.kind=hybrid attention.normaliser=smooth
python recipes/espeak/table.py "$exp/table" | tee "$exp/table/table.md"
