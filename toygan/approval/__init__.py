"""Decides whether a picture is good enough to show: checks, calibrated score, decision."""
