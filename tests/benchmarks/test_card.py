"""A card says what an evaluation found."""

from typing import Any

from tests.benchmarks.card import figures


def scores(kid: float, recall: float, **more: float) -> dict[str, Any]:
    names = ("fid", "precision", "density", "coverage", "colour_delta_e", "category_accuracy")
    return {
        **dict.fromkeys((*names, "nearest_training"), 1.25),
        **{"kid": {"value": kid, "error": 0.001}, "recall": recall, "layout_agreement": None},
        **more,
    }


def evaluation() -> dict[str, Any]:
    interval = {"value": 0.0204, "low": 0.01, "high": 0.0312}
    both = {"pictures": scores(0.0091, 0.31, colour_delta_e=6.84), "photos": scores(0.0, 1.0)}
    nothing = dict.fromkeys(both["pictures"])
    return {
        "overall": both,
        "training_photos": scores(0.0004, 0.88),
        "categories": {"car": both, "plant": both, "wheel": {"pictures": nothing, "photos": nothing}},
        "approval": {
            "calibration_error": interval,
            "category_calibration_error": {"car": interval, "plant": None, "wheel": None},
            "by_score": scores(0.0089, 0.49),
            "approved": scores(0.0088, 0.5),
            "random": scores(0.0, 0.57),
        },
    }


def test_every_figure_stands_in_its_column() -> None:
    lines = figures(evaluation()).splitlines()
    assert "| KID x 1000 | 9.1 ± 1.0 | 0.4 ± 1.0 | |" in lines
    assert "| precision, recall | 1.25, 0.31 | 1.25, 0.88 | |" in lines
    assert "| colour error, median CIEDE2000 | 6.8 | | 1.2 |" in lines
    assert "| car | 9.1 ± 1.0 | 0.31 | 6.8, 1.2 | 1.25, 1.25 | 0.02 (0.01 to 0.03) |" in lines
    assert "| wheel | - | - | -, - | -, - | - |" in lines
    assert "| plant | 9.1 ± 1.0 | 0.31 | 6.8, 1.2 | 1.25, 1.25 | - |" in lines
    assert "Calibration error over all categories: 0.020 (0.010 to 0.031). KID x 1000 and recall:" in lines
    assert lines[-1] == "| 9.1 ± 1.0; 0.31 | 8.9 ± 1.0; 0.49 | 8.8 ± 1.0; 0.50 | 0.0 ± 1.0; 0.57 |"
    assert not any("layout agreement" in line for line in lines)


def test_layout_agreement_is_said_of_a_model_that_draws_layouts() -> None:
    found = evaluation()
    found["overall"] = {
        "pictures": scores(0.01, 0.5, layout_agreement=0.654),
        "photos": scores(0.0, 1.0, layout_agreement=0.69),
    }
    assert "| layout agreement, mean IoU | 0.65 | | 0.69 |" in figures(found).splitlines()


def test_rows_of_a_table_have_as_many_cells() -> None:
    tables = figures(evaluation()).split("\n\n")
    for table in tables:
        rows = [line for line in table.splitlines() if line.startswith("|")]
        assert len({row.count("|") for row in rows}) <= 1
