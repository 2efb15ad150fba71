"""Exports trained models to the formats of other systems: ONNX and Keras."""
