#!/bin/sh
# Everything behind docs/results/robustness.*: four trainings, the stored attacks and the evaluation.
#   bench/robustness.sh DATA        (DATA: image folder <class>/<track>_<frame>.png; about 1.5 h on two cores)
# An interrupted run goes on where it stopped.
set -eu
data=${1:?usage: bench/robustness.sh DATA}
cd "$(dirname "$0")/.."
export PYTHONPATH=.:trainer:engines OMP_WAIT_POLICY=PASSIVE
lisard() { "${PYTHON:-python3}" -m lisard_ros "$@"; }

for control in surrogate noise_only plain; do
    lisard train "trainer/recipes/traffic_signs_$control.yaml" --data "$data" --no-export
done
lisard train trainer/recipes/traffic_signs.yaml --data "$data"
lisard attack make models/traffic_signs --surrogate runs/traffic_signs_surrogate \
    --pictures data/gtsrb_tracks --data "$data"
lisard attack run models/traffic_signs
lisard evaluate models/traffic_signs --surrogate runs/traffic_signs_surrogate \
    --control noise_only=runs/traffic_signs_noise_only --control plain=runs/traffic_signs_plain \
    --data "$data" --json docs/results/robustness.json --table docs/results/robustness.md \
    --html out/robustness.html
