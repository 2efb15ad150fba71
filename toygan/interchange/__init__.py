"""Trained models for other systems: ONNX."""
