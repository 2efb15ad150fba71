"""A quote that is never closed sets one row aside and swallows no other."""

import csv
import io
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.toygan.planning.files import read, write
from toygan.errors import CatalogError
from toygan.planning.catalog_check import look_at_catalog
from toygan.planning.catalog_files import delimited

HEAD = "sku,category,title,description\n"


def reason(line: int) -> str:
    return f"quote_not_closed: line {line}; close the quote, or double each quote inside the text"


def titles(good: dict[int, dict[str, str]]) -> list[tuple[str, str]]:
    return [(row["sku"], row["title"]) for row in good.values()]


@pytest.mark.parametrize(
    ("after", "skus"),
    [
        ("2,car,Bus,x\n3,car,Van,y\n", ["2", "3"]),  # the end of the file is in the quote
        ('2,car,"Bus, red",x\n3,car,Van,y\n', ["2", "3"]),
        ('"2","car","Bus","x"\n3,car,Van,y\n', ["2", "3"]),
        ('2,car,Bus,""\n3,car,"Van",y\n', ["2", "3"]),
        ('2,car,Bus,"two\nlines"\n3,car,Van,y\n', ["2", "3"]),
        ("", []),
    ],
)
def test_the_rows_after_an_open_quote_are_read(tmp_path: Path, after: str, skus: list[str]) -> None:
    path = write(tmp_path / "c.csv", f'{HEAD}0,car,Car,x\n\n1,car,"Open,x\n{after}')
    good, rejected = read(path)
    assert [row["sku"] for row in good.values()] == ["0", *skus]
    assert list(good) == [0, *range(2, 2 + len(skus))]
    assert rejected[0] == (1, "1", "title", reason(4))
    assert len(rejected) == 1


def test_each_open_quote_is_named(tmp_path: Path) -> None:
    text = '1,car,"Open,x\n2,car,Car,x\n3,car,"Open,x\n"4,car,Car,x\n"5",car,Car,"\n'
    good, rejected = read(write(tmp_path / "c.csv", HEAD + text))
    assert titles(good) == [("2", "Car")]
    assert [each for each in rejected if each[3] != "null"] == [
        (0, "1", "title", reason(2)),
        (2, "3", "title", reason(4)),
        (3, "4,car,Car,x", "sku", reason(5)),
        (4, "5", "description", reason(6)),
    ]
    said = look_at_catalog(str(tmp_path / "c.csv"), {}).text()
    assert "2 x title: quote_not_closed, such as row 0 (1, line 2), 2 (3, line 4)" in said


letters = st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="\ufffd")
cells = st.text(letters | st.sampled_from('\n",;'), min_size=1, max_size=12).map("t{}".format)
fields = st.fixed_dictionaries({"title": cells, "is_open": st.booleans()})


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(fields, min_size=1, max_size=8), quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
)
def test_no_row_is_lost_to_the_quote_of_another(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str | bool]], quoting: int
) -> None:
    file = io.StringIO(newline="")
    writer = csv.writer(file, quoting=quoting)  # type: ignore[arg-type]
    writer.writerow(["sku", "category", "title"])
    for number, row in enumerate(rows):
        if row["is_open"]:
            file.write(f'{number},car,"open\r\n')
        else:
            writer.writerow([number, "car", row["title"]])
    path = tmp_path_factory.mktemp("csv") / "c.csv"
    path.write_bytes(file.getvalue().encode())
    good, rejected = read(path)
    whole = [(str(i), str(row["title"]).strip()) for i, row in enumerate(rows) if not row["is_open"]]
    assert titles(good) == whole
    assert [sku for _, sku, _, _ in rejected] == [str(i) for i, row in enumerate(rows) if row["is_open"]]


def test_a_row_of_several_lines_with_too_many_cells_is_an_open_quote(tmp_path: Path) -> None:
    text = '1,car,Car,"Open\n2,car,5" pipe,y\n3,car,Car,"Open\n4,car,5",y\n5,car,"Car","x\ny"\n'
    good, rejected = read(write(tmp_path / "c.csv", HEAD + text))
    assert titles(good) == [("2", '5" pipe'), ("4", '5"'), ("5", "Car")]
    assert [(row, why) for row, _, _, why in rejected] == [(0, reason(2)), (2, reason(4))]


def test_a_legal_row_of_several_lines_may_lack_cells(tmp_path: Path) -> None:
    good, rejected = read(write(tmp_path / "c.csv", f'{HEAD}1,car,"Red\n""car"""\n\n2,car,Bus,"\n\n"\n'))
    assert (titles(good), rejected) == ([("1", 'Red\n"car"'), ("2", "Bus")], [])


def test_sloppy_quotes_in_one_line_are_read_as_before(tmp_path: Path) -> None:
    text = '1,car,"Car" red,x\n2,car,5" pipe,x\n3,car,"Car" ,"two\n\nlines"\n4,car,Car,x\n'
    good, rejected = read(write(tmp_path / "c.csv", HEAD + text))
    assert titles(good)[:2] == [("1", "Car red"), ("2", '5" pipe')]
    assert titles(good)[-1] == ("4", "Car")
    assert rejected[0] == (2, "3", "description", reason(4))


def test_an_open_quote_in_the_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="line 1 opens a quote that is never closed; close the quote"):
        read(write(tmp_path / "c.csv", 'sku,category,title,"notes\n1,car,Car,x\n2,car,Car,x\n'))


def test_a_row_of_shopify_that_cannot_be_read_is_no_picture(tmp_path: Path) -> None:
    head = "Handle,Title,Body,Type,SKU,Option1 Name,Option1 Value\n"
    rows = 'car,Car,,cars,1,Color,Red\ncar,,"x,,2,,Blue\nbus,Bus,,cars,3,Color,Red\n'
    good, rejected = read(write(tmp_path / "c.csv", head + rows))
    assert [row["sku"] for row in good.values()] == ["1", "3"]
    assert rejected[0][2:] == ("Body", reason(3))
    assert {row for row, *_ in rejected} == {1}


def test_a_long_way_to_the_end_of_the_file_sets_one_row_aside(tmp_path: Path) -> None:
    rows = "".join(f"{number},car,Car,x\n" for number in range(2, 30_000))
    path = write(tmp_path / "c.csv", f'{HEAD}1,car,"Open,x\n{rows}')
    tracemalloc.start()
    with path.open(encoding="utf-8", newline="") as file:
        count = sum(1 for _ in delimited._read(file, ",", path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 30_000
    assert peak < 10_000_000
    found = look_at_catalog(str(path), {})
    assert (found.good, found.set_aside) == (29_998, 1)


def test_a_file_of_open_quotes_is_refused_before_it_takes_hours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited, "MOST_REREAD_LETTERS", 1000)
    path = write(tmp_path / "c.csv", HEAD + '1,car,5","x\n' * 100)
    with pytest.raises(CatalogError, match=r"line \d+ opens one of too many quotes.* write the file again"):
        read(path)
