"""Attacks, written once: the loops over an oracle, the stored perturbations, and the stage that injects them.

The loops use the Python array API, so NumPy on the vehicle and torch in the trainer run the same code. Pictures are
[N, 3, H, W] in [0, 1], budgets Linf in the same unit, random numbers an injected `Randomness`. In short:

    goals       oracle.Label(indices, loss), Target(indices, loss, own); loss: cross_entropy, margin, dlr, dlr_targeted
    last step   gradient.fgsm(oracle, x, goal, eps), pgd(oracle, x, goal, Pgd(), random) -> x
    transfer    momentum.momentum(oracle, x, goal, Momentum(look_ahead, diversity, smoothing), random) -> x
    strongest   restarts.pgd_restarts(oracle, x, goal, Restarts(), random) -> Attacked
    stored      universal.universal, store, stage; corruptions have a package of their own

"""
