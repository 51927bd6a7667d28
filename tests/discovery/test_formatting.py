"""Numbers are formatted in one place, and read well."""

import pytest

from rl_discovery.discovery.formatting import (
    count,
    difference,
    duration,
    interval,
    number,
    percent,
    plural,
    setting,
    significant,
)


def test_a_minus_sign_can_be_seen_and_no_zero_has_one():
    assert [number(-0.001), number(-1.5), number(2)] == ["0.00", "−1.50", "2.00"]
    assert [number(0.5, 3, sign=True), number(-0.5, 1, sign=True)] == ["+0.500", "−0.5"]
    assert significant(-1.23e-5) == "−1.23e−05"


def test_uncertainty_stands_behind_what_it_is_of():
    assert [interval(0.81, 0.78, 0.834), interval(0.81)] == ["0.81 [0.78, 0.83]", "0.81"]
    assert [difference(0.028, 0.006), difference(-0.028, None)] == ["+0.028 ± 0.006", "−0.028"]


@pytest.mark.parametrize("formatted", [number, interval, difference, percent, significant, count, duration])
def test_what_is_missing_is_a_dash(formatted):
    assert formatted(None) == "–"


def test_large_numbers_have_units():
    assert [count(n) for n in (999, 4000, 680e3, 1.1e6, 1.48e9)] == [
        "999",
        "4,000",
        "680 k",
        "1.10 M",
        "1.48 G",
    ]
    seconds = (0.4, 45, 720, 3840, 6300, 302_400)
    expected = ["0 s", "45 s", "12 min", "64 min", "1 h 45 min", "3 d 12 h"]
    assert [duration(s) for s in seconds] == expected
    assert percent(0.125) == "12.5 %"


def test_one_thing_is_singular():
    assert [plural(1, "seed"), plural(1000, "seed"), plural("3 to 5", "level")] == [
        "1 seed",
        "1,000 seeds",
        "3 to 5 levels",
    ]


def test_settings_are_told_in_words():
    found = [setting(v) for v in (True, None, [32, 4], [], 1e-5, "x")]
    assert found == ["yes", "–", "32 4", "none", "1e-05", "x"]
