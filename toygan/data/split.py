"""Which products train, which calibrate. `val` is set by the data and only ever measured on."""

from hashlib import sha256


def is_calibration_sku(sku: str) -> bool:
    """True for the tenth of the products whose photos calibrate the score: sha256(sku) is 0 modulo 10."""
    return int(sha256(sku.encode()).hexdigest(), 16) % 10 == 0
