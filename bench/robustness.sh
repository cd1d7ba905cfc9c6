#!/bin/sh
# Everything behind docs/results/{robustness,gray_box,white_box,sanity,corruptions_accuracy}.*: the trainings, the stored
# attacks and the evaluations.
#   bench/robustness.sh DATA    (DATA: image folder <class>/<track>_<frame>.png; some 4 h on two cores)
# An interrupted run goes on where it stopped.
set -eu
data=${1:?usage: bench/robustness.sh DATA}
cd "$(dirname "$0")/.."
export PYTHONPATH=.:trainer:engines OMP_WAIT_POLICY=PASSIVE
lisard() { "${PYTHON:-python3}" -m lisard_ros "$@"; }

for recipe in surrogate plain base noise_only; do
    lisard train "trainer/recipes/traffic_signs_$recipe.yaml" --data "$data" --no-export
done
# The published training, and an attacker who knows our recipe: both are arms of the control grid.
for arm in faithful_1 surrogate_plain102 surrogate_resnet20 surrogate_lisard101 surrogate_linear101; do
    "${PYTHON:-python3}" bench/grid.py gtsrb --data "$data" --no-measure --only "$arm"
done
lisard train trainer/recipes/traffic_signs.yaml --data "$data"
lisard attack make models/traffic_signs --surrogate runs/traffic_signs_surrogate \
    --pictures data/gtsrb_tracks --data "$data"
lisard attack run models/traffic_signs
# --only: strong white-box attacks are dear, so they have a page of their own with fewer controls.
lisard evaluate models/traffic_signs --suite grid --only 'gray_*' --only white_pgd10 --data "$data" \
    --surrogate ordinary=runs/traffic_signs_surrogate --surrogate alike=runs/grid/gtsrb/surrogate_linear101 \
    --control noise_only=runs/traffic_signs_noise_only --control faithful=runs/grid/gtsrb/faithful_1 \
    --control plain=runs/traffic_signs_plain --json docs/results/robustness.json --table docs/results/robustness.md \
    --html out/robustness.html
# More steps and APGD, made on surrogates that were trained as long as the models: on 400 of the pictures.
lisard evaluate models/traffic_signs --suite standard --only 'gray_*' --limit 400 --data "$data" \
    --surrogate ordinary=runs/grid/gtsrb/surrogate_plain102 --surrogate resnet20=runs/grid/gtsrb/surrogate_resnet20 \
    --surrogate alike=runs/grid/gtsrb/surrogate_linear101 --control noise_only=runs/traffic_signs_noise_only \
    --control faithful=runs/grid/gtsrb/faithful_1 --control plain=runs/traffic_signs_plain \
    --json docs/results/gray_box.json --table docs/results/gray_box.md
lisard evaluate models/traffic_signs --suite grid --only 'white_*' --data "$data" \
    --surrogate ordinary=runs/traffic_signs_surrogate --control faithful=runs/grid/gtsrb/faithful_1 \
    --control plain=runs/traffic_signs_plain --json docs/results/white_box.json --table docs/results/white_box.md
# Does the model hide its gradients? Budgets up to 32/255, restarts, Square, and what noise and votes can certify.
lisard evaluate models/traffic_signs --suite standard --only 'sweep_*' --only 'query_*' --only white_pgd50 \
    --only 'smoothed_*' --only 'certified_*' --data "$data" --surrogate ordinary=runs/traffic_signs_surrogate \
    --control plain=runs/traffic_signs_plain --json docs/results/sanity.json --table docs/results/sanity.md \
    --html out/sanity.html
# Where nobody attacks: 15 corruptions at 5 severities, and noise.
lisard evaluate models/traffic_signs --suite full --only 'corruption_*' --only 'noise_*' --data "$data" \
    --surrogate ordinary=runs/traffic_signs_surrogate --control noise_only=runs/traffic_signs_noise_only \
    --control faithful=runs/grid/gtsrb/faithful_1 --control plain=runs/traffic_signs_plain \
    --json docs/results/corruptions_accuracy.json --table docs/results/corruptions_accuracy.md
