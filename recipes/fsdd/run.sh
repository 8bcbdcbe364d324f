#!/usr/bin/env bash
# Connected digits of a speaker never heard: three real voices, and as many synthetic ones as it takes.
#
#   recipes/fsdd/run.sh /path/to/fsdd [FOLDER]
#
# FOLDER: exp/fsdd, seen from the repository. Run again, it does only what is not done yet. CONNECTED=no tests on single
# digits. SEEDS="1 2" trains as often. FLITE=yes takes the voices of flite as well (Debian: apt install flite).
# INIT names another model of 16 kHz to begin with than the one in the box; INIT=none begins with nothing, and takes
# conf/fsdd.yaml. CONFIG names another config.
set -euo pipefail
corpus=$(realpath -- "${1:?the corpus: recipes/fsdd/run.sh /path/to/fsdd [FOLDER]}")
cd "$(dirname "$0")/../.."
. tools/setup
. tools/stage
PATH=$PWD/.venv/bin:$PATH
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE

exp=${2:-exp/fsdd}
init=${INIT:-asr/models/english.asr}
config=${CONFIG:-conf/fsdd-english.yaml}
if [ "$init" = none ]; then config=${CONFIG:-conf/fsdd.yaml}; fi
connected=--connected
if [ "${CONNECTED:-yes}" = no ]; then connected=; fi
flite=
if [ "${FLITE:-no}" = yes ]; then flite=--flite; fi
DONE=$exp/.done
read -ra train <<< "$(trainer)"

DEPENDS=$(echo recipes/fsdd/*.py recipes/fsdd/*.tsv recipes/fsdd/*.txt recipes/espeak/espeak.py recipes/espeak/voices.tsv)
stage prepare python recipes/fsdd/prepare.py "$corpus" "$exp/data" $connected
stage synthesise python recipes/fsdd/synthesise.py "$exp/synthetic" $flite -j "$(cores)"
stage perturb python recipes/fsdd/perturb.py "$corpus" "$exp/perturbed" --synthetic "$exp/synthetic" -j "$(cores)"
begin=
if [ "$init" != none ]; then
    DEPENDS=$init stage narrow python recipes/fsdd/narrow.py "$init" "$exp/narrow.asr"
    begin="--init $exp/narrow.asr"
fi
DEPENDS=$config
stage prep asr prep "$exp/perturbed/train.jsonl" "$exp/train" --config "$config" -j "$(cores)"
for seed in ${SEEDS:-1}; do
    run=$exp/beam10/seed$seed greedy=$exp/greedy/seed$seed
    OUTPUT=$run stage "train-$seed" "${train[@]}" --config "$config" --train "$exp/train" --dev "$exp/data/dev.jsonl" \
        --run "$run" --resume -o "train.seed=$seed" $begin
    stage "decode-$seed" asr decode "$run/model.asr" "$exp/data/test.jsonl" --out "$run/test.hyp.jsonl"
    mkdir -p "$greedy"
    ln -sf "$(realpath "$run/model.asr")" "$(realpath "$run/log.jsonl")" "$greedy"
    stage "greedy-$seed" asr decode "$greedy/model.asr" "$exp/data/test.jsonl" -o decode.beam=1 \
        --out "$greedy/test.hyp.jsonl"
done
python tools/results.py "$exp/data/test.jsonl" "$exp"/beam10/seed* "$exp"/greedy/seed* --title "FSDD, connected digits" \
    --command "SEEDS='${SEEDS:-1}' recipes/fsdd/run.sh CORPUS" --out "$exp/RESULTS.md"
asr score "$exp/data/test.jsonl" "$exp"/beam10/seed*/test.hyp.jsonl | tee "$exp/score.txt"
