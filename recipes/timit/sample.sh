#!/usr/bin/env bash
# NLTK's free sample of TIMIT: three minutes of training speech, so a baseline and no boast. Two models of some
# minutes of one core each: from scratch, and begun with the model in the box.
#
#   recipes/timit/sample.sh /path/to/timit_sample/flac [FOLDER]
#
# FOLDER: exp/timit-sample, seen from the repository. Run again, it does only what is not done yet.
# INIT=asr/models/english.asr is the model to begin with, of the sizes that conf/timit-sample.yaml has; INIT=none leaves
# that run out.
set -euo pipefail
corpus=$(realpath -- "${1:?the corpus: recipes/timit/sample.sh /path/to/timit_sample/flac [FOLDER]}")
cd "$(dirname "$0")/../.."
. tools/setup
. tools/stage
PATH=$PWD/.venv/bin:$PATH
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE

exp=${2:-exp/timit-sample}
config=conf/timit-sample.yaml
init=${INIT:-asr/models/english.asr}
DONE=$exp/.done
if [ "$init" != none ] && [ ! -f "$init" ]; then
    say "$init: is not there: run recipes/english/run.sh first, or leave it out with INIT=none"
    exit 1
fi

DEPENDS=$(echo recipes/timit/*.py recipes/timit/*.tsv)
stage prepare python recipes/timit/prepare.py "$corpus" "$exp/data"
DEPENDS=$config
for split in train dev test; do
    stage "prep-$split" asr prep "$exp/data/$split.jsonl" "$exp/$split" --config "$config" -j "$(cores)"
done
runs=()
for run in scratch pretrained; do
    begin=()
    if [ $run = pretrained ]; then
        if [ "$init" = none ]; then continue; fi
        begin=(--init "$init" --map recipes/timit/from-arpabet.tsv)
    fi
    OUTPUT=$exp/$run stage "train-$run" asr train --config "$config" "${begin[@]}" \
        --train "$exp/train" --dev "$exp/dev" --run "$exp/$run" --resume
    stage "decode-$run" asr decode "$exp/$run/model.asr" "$exp/test" --out "$exp/$run/test.hyp.jsonl"
    runs+=("$exp/$run")
done
python tools/results.py "$exp/data/test.jsonl" "${runs[@]}" --protocol timit39 --protocol timit39-merge-sil \
    --protocol timit39-no-sil --title "TIMIT, NLTK's sample" --times --command "recipes/timit/sample.sh" --out "$exp/RESULTS.md"
cat "$exp/RESULTS.md"
