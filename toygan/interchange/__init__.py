"""Writes trained models for other systems: ONNX and Keras."""
