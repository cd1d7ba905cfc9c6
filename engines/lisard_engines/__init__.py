"""lisard_engines: from a bundle's ONNX file to faster variants and TensorRT engines, verified to resist as it did.

Nothing here needs torch or the trainer; importing the package needs no TensorRT.
"""
