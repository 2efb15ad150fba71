from toygan.data.split import is_calibration_sku, split_of_upload


def test_known_digests() -> None:
    """sha256sum and bc: of sku-0 to sku-50 the digests of these three are 0 modulo 10."""
    chosen = [number for number in range(51) if is_calibration_sku(f"sku-{number}")]
    assert chosen == [18, 24, 50]


def test_a_tenth_of_the_products_calibrates() -> None:
    chosen = sum(is_calibration_sku(f"sku-{number}") for number in range(10_000))
    assert abs(chosen - 1_000) < 4 * 30  # four standard deviations, sqrt(10,000 * 0.1 * 0.9) = 30


def test_another_tenth_of_the_uploaded_products_is_held_out() -> None:
    skus = [f"sku-{number}" for number in range(10_000)]
    held_out = {sku for sku in skus if split_of_upload(sku) == "val"}
    assert abs(len(held_out) - 1_000) < 4 * 30
    both = sum(is_calibration_sku(sku) for sku in held_out)
    assert abs(both - 100) < 4 * 10  # sqrt(10,000 * 0.01 * 0.99) = 10
    assert {split_of_upload(sku) for sku in skus} == {"train", "val"}
