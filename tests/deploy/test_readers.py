"""Quantities and YAML as Kubernetes reads them."""

from decimal import Decimal

import pytest

from deploy.go_yaml import load_all
from deploy.quantities import parse_quantity


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("250m", "0.25"),
        (1, "1"),
        (0.5, "0.5"),
        (".5", "0.5"),
        ("1Gi", "1073741824"),
        ("1.5Ki", "1536"),
        ("100M", "100000000"),
        ("1e3", "1000"),
        ("1E", "1000000000000000000"),
        ("2E3", "2000"),
    ],
)
def test_quantities_are_numbers_with_suffixes(written: object, number: str) -> None:
    assert parse_quantity(written) == Decimal(number)


@pytest.mark.parametrize("written", ["", "lots", "1GB", "1 Gi", "-1", "1gi", "1KI", "m", "1e", None, True])
def test_what_is_no_quantity_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        parse_quantity(written)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("n", False),
        ("Y", True),
        ("off", False),
        ("1e3", 1000.0),
        ("0x10", 16),
        ("2026-11-24", "2026-11-24"),
        ("'n'", "n"),
        ("name", "name"),
        ("1.2.3", "1.2.3"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("=", "="),
    ],
)
def test_plain_scalars_are_read_as_go_reads_them(written: str, read: object) -> None:
    [document] = load_all(f"key: {written}\n")

    assert document["key"] == read
    assert type(document["key"]) is type(read)
