#!/bin/sh
# Everything behind docs/results/detector.* and detector_white.*: four trainings, stored attacks and evaluations.
#   bench/detector.sh DATA [EVALUATE OPTIONS]        (DATA: folder of road_signs; about 3 h on two cores)
# Options choose what detector.md shows, for example --suite full; without any it is what it shows now.
# An interrupted run goes on where it stopped.
set -eu
data=${1:?usage: bench/detector.sh DATA [EVALUATE OPTIONS]}
shift
cd "$(dirname "$0")/.."
export OMP_WAIT_POLICY=PASSIVE
lisard() { "${PYTHON:-python3}" -m lisard_ros "$@"; }

for recipe in surrogate noise_only plain; do
    lisard train "trainer/recipes/road_signs_$recipe.yaml" --data "$data" --no-export
done
lisard train trainer/recipes/road_signs.yaml --data "$data" --replace
lisard attack make models/road_signs --surrogate runs/road_signs_surrogate --data "$data"
lisard attack run models/road_signs
"${PYTHON:-python3}" bench/int8.py road_signs --calibration "$data/train" --images "$data/val"
if [ $# -eq 0 ]; then
    set -- --suite standard --only 'gray_*_8' --only white_joint_8 --only 'noise_[124]*' --only '*_[135]' \
        --only gray_patch_on_20
fi
evaluate() {
    lisard evaluate models/road_signs --surrogate runs/road_signs_surrogate \
        --baseline plain=runs/road_signs_plain --baseline noise=runs/road_signs_noise_only --data "$data" "$@"
}
evaluate --suite standard --only 'white_*_8' --only 'white_joint_*' --only 'tog_*' \
    --json docs/results/detector_white.json --table docs/results/detector_white.md > /dev/null
evaluate "$@" --json docs/results/detector.json --table docs/results/detector.md --html out/detector.html
