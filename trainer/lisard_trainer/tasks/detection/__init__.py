"""Detection: an anchor-free one-stage detector; its assignment, losses, LISArD terms, training and evaluation."""
