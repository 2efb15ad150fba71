from toygan.data.split import is_calibration_sku


def test_known_digests() -> None:
    """sha256sum and bc: of sku-0 to sku-50 the digests of these three are 0 modulo 10."""
    chosen = [number for number in range(51) if is_calibration_sku(f"sku-{number}")]
    assert chosen == [18, 24, 50]


def test_a_tenth_of_the_products_calibrates() -> None:
    chosen = sum(is_calibration_sku(f"sku-{number}") for number in range(10_000))
    assert abs(chosen - 1_000) < 4 * 30  # four standard deviations, sqrt(10,000 * 0.1 * 0.9) = 30
