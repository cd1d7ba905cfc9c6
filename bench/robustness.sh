#!/bin/sh
# Everything behind docs/results/{robustness,gray_box,white_box,sanity,corruptions_accuracy}.* and the classifier's part of
# int8.json: the trainings, the stored attacks and the evaluations.
#   bench/robustness.sh DATA    (DATA: image folder <class>/<track>_<frame>.png; some 5 h on two cores)
# An interrupted run goes on where it stopped.
set -eu
data=${1:?usage: bench/robustness.sh DATA}
cd "$(dirname "$0")/.."
export OMP_WAIT_POLICY=PASSIVE
lisard() { "${PYTHON:-python3}" -m lisard_ros "$@"; }
evaluate() { # NAME TITLE, then what is measured
    name=$1 title=$2; shift 2
    lisard evaluate models/traffic_signs --data "$data" --title "$title" \
        --surrogate ordinary=runs/grid/gtsrb/surrogate_plain102 --baseline plain=runs/grid/gtsrb/ce_1 \
        --json "docs/results/$name.json" --table "docs/results/$name.md" --html "out/$name.html" "$@"
}

for recipe in surrogate base noise_only; do
    lisard train "trainer/recipes/traffic_signs_$recipe.yaml" --data "$data" --no-export
done
# Attackers, ordinary, published and adversarial training are variants of bench/grid.py.
for variant in surrogate_plain102 surrogate_resnet20 surrogate_lisard101 surrogate_linear101 ce_1 faithful_1 adversarial_1; do
    "${PYTHON:-python3}" bench/grid.py gtsrb --data "$data" --no-measure --only "$variant"
done
lisard train trainer/recipes/traffic_signs.yaml --data "$data" --replace
lisard attack make models/traffic_signs --surrogate runs/traffic_signs_surrogate \
    --images data/gtsrb_tracks --data "$data"
lisard attack run models/traffic_signs
"${PYTHON:-python3}" bench/int8.py traffic_signs --calibration "$data"

alike=alike=runs/grid/gtsrb/surrogate_linear101 noise_only=noise_only=runs/traffic_signs_noise_only
faithful=faithful=runs/grid/gtsrb/faithful_1 adversarial=adversarial=runs/grid/gtsrb/adversarial_1
# --only: strong white-box attacks are dear, so they have a page of their own with fewer baselines.
evaluate robustness "The shipped classifier under transfer attacks" --suite grid --only 'gray_*' --only white_pgd10 \
    --surrogate "$alike" --baseline "$noise_only" --baseline "$faithful" --baseline "$adversarial"
evaluate gray_box "More steps and APGD as transfer attacks" --suite standard --only 'gray_*' --limit 400 \
    --surrogate resnet20=runs/grid/gtsrb/surrogate_resnet20 --surrogate "$alike" --baseline "$noise_only" \
    --baseline "$faithful"
evaluate white_box "The shipped classifier under white-box attacks" --suite grid --only 'white_*' \
    --baseline "$faithful" --baseline "$adversarial"
evaluate sanity "Does the shipped classifier hide its gradients?" --suite standard --only 'sweep_*' --only 'query_*' \
    --only white_pgd50 --only 'smoothed_*' --only 'certified_*'
evaluate corruptions_accuracy "The shipped classifier under common corruptions and noise" --suite full \
    --only 'corruption_*' --only 'noise_*' --baseline "$noise_only" --baseline "$faithful" --baseline "$adversarial"
