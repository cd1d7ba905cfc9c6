"""How good a model is: scores, average precision, intervals, and the self test of a bundle."""
