"""Conditions: which clauses hold of which values, and what is no condition."""

import pytest

from caffe_merge.passes.targets.conditions import Value, parse


@pytest.mark.parametrize(
    ("condition", "value", "expected"),
    [
        ("fact", True, True),
        ("fact", "", False),
        ("fact", None, False),
        ("not fact", None, True),
        ("not fact", 3.0, False),
        ("fact = AVE or MAX", "MAX", True),
        ("fact = AVE or MAX", "STOCHASTIC", False),
        ("fact != 1", 2, True),
        ("fact != 1", 1, False),
        ("fact != 1", None, False),
        ("fact > 7", 7, False),
        ("fact > 7", 8, True),
        ("fact <= 0.5", 0.5, True),
        ("fact > 7", "many", False),
        ("fact > 7", True, False),
        ("fact = true", True, True),
        ("fact ends _cpu", "conv_cpu", True),
        ("fact ends _cpu", "conv", False),
        ("fact given", True, True),
        ("fact absent", False, True),
    ],
)
def test_a_clause(condition: str, value: Value, expected: bool) -> None:
    (clause,) = parse(condition)
    assert clause.fact == "fact"
    assert clause.holds(value) is expected


def test_clauses_are_joined_by_and() -> None:
    assert [clause.fact for clause in parse("pool = AVE and partial and not pad")] == [
        "pool", "partial", "pad",
    ]  # fmt: skip
    assert parse("") == ()


@pytest.mark.parametrize("condition", ["kernel is 3", "kernel >", "a b", "not a b"])
def test_what_is_no_condition(condition: str) -> None:
    with pytest.raises(ValueError, match="expected a clause such as 'kernel > 7'"):
        parse(condition)
