"""From a bundle's ONNX file to another one that also gives a loss and its gradient in the image.

`builder` holds a graph and what is known of its tensors, `rules` has one rule for each operator, `differentiate` walks
back from the loss, `objectives` puts the losses behind a model, and `derive` does all of it for a bundle.
"""
