"""Attacks, written once: the loops over an oracle, the stored perturbations, and the stage that injects them.

The loops use the Python array API, so NumPy on the vehicle and torch in the trainer run the same code.
"""
