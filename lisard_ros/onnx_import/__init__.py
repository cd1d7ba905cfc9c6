"""From a foreign ONNX file to a bundle: what its metadata hold, what is proposed, and what proves it on images."""
