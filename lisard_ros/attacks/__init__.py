"""Attacks, written once: the loops over an oracle, the stored perturbations, and the stage that injects them.

The loops use the Python array API, so NumPy on the vehicle and torch in the trainer run the same code. Pictures are
[N, 3, H, W] in [0, 1], budgets Linf in the same unit, random numbers an injected `Randomness`. In short:

    goals      oracle.Label(indices, loss), Target(indices, loss, own); loss: cross_entropy, margin, dlr, dlr_targeted
               oracle.Boxes(boxes, labels, loss): class, location, joint, vanish, fabricate, mislabel (detectors)
    x of       gradient.fgsm(oracle, x, goal, eps), gradient.pgd(oracle, x, goal, Pgd(), random),
               momentum.momentum(oracle, x, goal, Momentum(look_ahead, diversity, smoothing), random): MI, NI, DI, TI
    Attacked   (x, loss, fooled, gradients, queries), all [N], of the best-keeping attacks:
               restarts.pgd_restarts(oracle, x, goal, Restarts(), random), apgd.apgd(oracle, x, goal, Apgd(), random),
               apgd.apgd_targeted(oracle, x, own, ApgdTargeted(), random),
               square.square(oracle, x, goal, Square(), random)
    cascade    cascade.cascade(oracle, x, own, cascade.standard(eps), random) -> Cascaded(attacked, names, by)
    oracles    combined.Ensemble(oracles), combined.Expectation(oracle, samples, Gaussian(sigma, random)): EOT
    patches    patch.patch(oracle, x, sites, goal, PatchSettings(placement), seed); placement.draw, Layout.lay, .pull
    stored     universal.universal, store, patch_store, stage

For transfer take `momentum`, or `apgd` with `stop_when_fooled=False`, which goes on to the highest loss.
"""
