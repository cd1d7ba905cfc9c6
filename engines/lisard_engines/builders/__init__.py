"""Builders of TensorRT plans behind one interface."""
