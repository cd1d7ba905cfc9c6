"""Attacks, written once: the algorithms over an attack model, and the stored perturbations.

The loops use the Python array API, so NumPy on the vehicle and torch in the trainer run the same code. Images are
[N, 3, H, W] in [0, 1], budgets Linf in the same unit, random numbers an injected `Randomness`. In short:

    criteria   model.Untargeted(labels, loss), Targeted(targets, loss, labels); loss: cross_entropy, margin, dlr,
               dlr_targeted; model.BoxCriterion(boxes, labels, loss) for detectors: class, location, joint, vanish,
               fabricate, mislabel
    x of       gradient.fgsm(model, x, criterion, eps), gradient.pgd(model, x, criterion, PGD(), random),
               mifgsm.mifgsm(model, x, criterion, MIFGSM(look_ahead, diversity, smoothing), random): MI, NI, DI, TI
    Attacked   (x, loss, fooled, gradients, queries), all [N], of the best-keeping attacks:
               restarts.pgd_restarts(model, x, criterion, Restarts(), random),
               apgd.apgd(model, x, criterion, APGD(), random),
               apgd.apgd_targeted(model, x, labels, APGDTargeted(), random),
               square.square(model, x, criterion, Square(), random)
    suite      attack_suite.run_suite(model, x, labels, standard_suite(eps), random) -> SuiteResult
    models     ensemble.Ensemble(models), ensemble.EOT(model, samples, GaussianNoise(sigma, random))
    patches    patch.patch(model, x, regions, criterion, PatchSettings(placement), seed); placement.draw,
               PatchRenderer.render, .vjp
    stored     universal.universal, store, patch_store

For transfer take `mifgsm`, or `apgd` with `stop_when_fooled=False`, which goes on to the highest loss.
"""
