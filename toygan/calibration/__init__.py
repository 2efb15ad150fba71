"""Calibrates a model with photos and with pictures that it generates."""
