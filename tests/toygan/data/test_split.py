from hashlib import sha256

from toygan.data.split import is_calibration_sku


def test_the_last_decimal_digit_of_the_hash_decides() -> None:
    # `printf 3001-red | sha256sum`, read as a decimal number, ends in the digit that counts.
    for sku in ("3001-red", "car-12", "x", "ü"):
        assert is_calibration_sku(sku) is (str(int.from_bytes(sha256(sku.encode()).digest()))[-1] == "0")


def test_about_a_tenth_of_the_products_calibrate() -> None:
    assert 900 < sum(is_calibration_sku(f"sku-{number}") for number in range(10_000)) < 1100
