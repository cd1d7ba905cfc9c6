"""Which format a foreign ONNX file has, and the same file with the one input and output that a bundle needs.

`read_file` reads it with its weights, `input_format` looks at its input, `recognise` runs it on images and judges its
outputs. docs/onnx.md lists the formats. Package onnx is imported only when a file must be changed.
"""

from __future__ import annotations

from lisard_ros.onnx_formats.files import InputFormat, OnnxFile, TensorSpec, input_format, read_file
from lisard_ros.onnx_formats.recognition import Recognition, recognise

__all__ = ["InputFormat", "OnnxFile", "Recognition", "TensorSpec", "input_format", "read_file", "recognise"]
