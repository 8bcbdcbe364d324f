#!/usr/bin/env bash
# The model in the box: English, 39 phones, first from synthetic speech, then from real.
#
#   recipes/english/run.sh /path/to/speechocean762 [FOLDER]
#
# FOLDER: exp/english, seen from the repository. Needs the program flite (Debian: apt install flite). Run again, it does
# only what is not done yet. HOURS of each synthesiser: 3.
set -euo pipefail
corpus=$(realpath -- "${1:?the corpus: recipes/english/run.sh /path/to/speechocean762 [FOLDER]}")
cd "$(dirname "$0")/../.."
. tools/setup
. tools/stage
PATH=$PWD/.venv/bin:$PATH
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE

exp=${2:-exp/english}
hours=${HOURS:-3}
DONE=$exp/.done
read -ra train <<< "$(trainer)"
compose() {     # sentences out of the words of the training split: one half for each synthesiser
    mkdir -p "$exp"
    python recipes/english/compose.py "$exp/data/train.jsonl" 14000 > "$exp/sentences.part"
    head -n 7000 "$exp/sentences.part" > "$exp/flite.txt"
    tail -n 7000 "$exp/sentences.part" > "$exp/espeak.txt"
}
mix() {
    python recipes/english/merge.py "$exp"/{flite,espeak}/train.jsonl --out "$exp/synthetic.jsonl"
    python recipes/english/merge.py "$exp/espeak/dev.jsonl" --out "$exp/synthetic-dev.jsonl"
    python recipes/english/merge.py "$exp/data/train.jsonl" --part "$exp/synthetic.jsonl" 0.8 --out "$exp/train.jsonl"
}

DEPENDS=$(echo recipes/speechocean762/*.py recipes/english/*.py recipes/english/*.tsv recipes/espeak/*.py)
stage prepare python recipes/speechocean762/prepare.py "$corpus" "$exp/data"
stage compose compose
stage flite python recipes/english/flite.py "$exp/flite.txt" "$exp/flite" --hours "$hours" -j "$(cores)"
stage espeak python recipes/espeak/prepare.py "$exp/espeak" --sentences "$exp/espeak.txt" --train-hours "$hours"
stage mix mix
DEPENDS=conf/english-synthetic.yaml
stage prep-synthetic asr prep "$exp/synthetic.jsonl" "$exp/synthetic" --config conf/english-synthetic.yaml -j "$(cores)"
OUTPUT=$exp/first stage train-synthetic "${train[@]}" --config conf/english-synthetic.yaml \
    --train "$exp/synthetic" --dev "$exp/synthetic-dev.jsonl" --run "$exp/first" --resume
DEPENDS=conf/english.yaml
stage prep asr prep "$exp/train.jsonl" "$exp/train" --config conf/english.yaml -j "$(cores)"
OUTPUT=$exp/run stage train "${train[@]}" --config conf/english.yaml --init "$exp/first/model.asr" \
    --train "$exp/train" --dev "$exp/data/dev.jsonl" --run "$exp/run" --resume
DEPENDS=conf/english-joins.yaml
stage prep-joins asr prep "$exp/train.jsonl" "$exp/train-joins" --config conf/english-joins.yaml -j "$(cores)"
OUTPUT=$exp/joins stage train-joins "${train[@]}" --config conf/english-joins.yaml --init "$exp/run/model.asr" \
    --train "$exp/train-joins" --dev "$exp/data/dev.jsonl" --run "$exp/joins" --resume
stage decode asr decode "$exp/joins/model.asr" "$exp/data/test.jsonl" --out "$exp/joins/test.hyp.jsonl"
asr score "$exp/data/test.jsonl" "$exp/joins/test.hyp.jsonl" | tee "$exp/score.txt"
python tools/results.py "$exp/data/test.jsonl" "$exp/joins" --title "English, the model in the box" \
    --command "recipes/english/run.sh CORPUS" --out "$exp/RESULTS.md"
