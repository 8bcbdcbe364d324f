#!/usr/bin/env bash
# What each part of conf/english.yaml is worth on real speech: single changes of it, two seeds each.
#
#   recipes/english/ablation.sh [FOLDER]      FOLDER: exp/english, where run.sh has been
#
# Every model begins with the synthetic half and hears speechocean762's training split five times, eleven minutes of one
# core. Run again, it does only what is not done yet. SEEDS="1 2 3" trains more of them.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tools/setup
. tools/stage
PATH=$PWD/.venv/bin:$PATH
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE

exp=${1:-exp/english}
out=$exp/ablation
config=conf/english.yaml
DONE=$out/.done
DEPENDS=$config
read -ra train <<< "$(trainer)"
short=(-o train.epochs=5 -o train.warmup=100)
runs=()

change() {      # NAME STORE KEY=VALUE…: train with other keys, decode the test
    local name=$1 store=$2 run seed keys=()
    shift 2
    for key in "$@"; do keys+=(-o "$key"); done
    for seed in ${SEEDS:-1 2}; do
        run=$out/$name/seed$seed
        OUTPUT=$run stage "$name-$seed" "${train[@]}" --config "$config" --init "$exp/first/model.asr" "${short[@]}" \
            "${keys[@]}" -o "train.seed=$seed" --train "$store" --dev "$exp/data/dev.jsonl" --run "$run" --resume
        stage "decode-$name-$seed" asr decode "$run/model.asr" "$exp/data/test.jsonl" --out "$run/test.hyp.jsonl"
        runs+=("$run")
    done
}

stage prep asr prep "$exp/data/train.jsonl" "$out/train" --config "$config" -j "$(cores)"
stage prep-one asr prep "$exp/data/train.jsonl" "$out/train-one" --config "$config" -o 'features.speeds=[1.0]' -j "$(cores)"
change base "$out/train"
change float32 "$out/train" train.precision=float32
change no-masks "$out/train" train.mask.time_masks=0 train.mask.mel_masks=0
change warp "$out/train" train.mask.warp=0.15
change no-joins "$out/train" train.join.probability=0
change one-speed "$out/train-one" 'features.speeds=[1.0]'
change no-ctc "$out/train" train.ctc_weight=0 decode.ctc_weight=0
python tools/results.py "$exp/data/test.jsonl" "${runs[@]}" --against base --title "English, single changes" \
    --command "recipes/english/ablation.sh" --out "$out/ABLATION.md"
