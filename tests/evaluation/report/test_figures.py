"""Colours can be told from what they stand on, in either scheme."""

import re
from importlib import resources

import pytest

from rl_discovery.evaluation.charts import styles_of
from rl_discovery.evaluation.report import figures


def luminance(colour):
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def schemes():
    """The custom properties of the style sheet, light and dark."""
    css = (resources.files("rl_discovery.evaluation.report") / "page" / "report.css").read_text()
    light, dark = (
        dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block))
        for block in re.findall(r":root \{(.*?)\}", css, re.S)
    )
    assert light.keys() == dark.keys()
    return {"light": light, "dark": dark}


@pytest.mark.parametrize("colour", [*figures.PALETTE, figures.GREY])
def test_lines_have_the_contrast_of_graphics_in_both_schemes(colour):
    assert contrast(colour, figures.LIGHT) >= 3
    assert contrast(colour, figures.DARK) >= 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_a_contrast_of_four_and_a_half(scheme):
    colours = schemes()[scheme]
    assert colours["card"] == {"light": figures.LIGHT, "dark": figures.DARK}[scheme]
    for ink in ("ink", "muted", "link"):
        for ground in ("page", "card"):
            assert contrast(colours[ink], colours[ground]) >= 4.5
    assert contrast(colours["ink"], colours["code"]) >= 4.5
    assert contrast(colours["on-accent"], colours["accent"]) >= 4.5
    for thing in ("wall", "agent", "positive", "negative", "trail"):
        assert contrast(colours[thing], colours["floor"]) >= 3


def test_the_script_draws_runs_in_the_same_colours():
    script = (resources.files("rl_discovery.evaluation.report") / "page" / "report.js").read_text()
    assert tuple(re.findall(r"#[0-9A-F]{6}", script)) == figures.PALETTE


def test_random_is_grey_and_others_keep_their_order():
    found = {label: figures.colour_of(i) for label, i in styles_of(["random", "a", "b"]).items()}
    assert (found["a"], found["b"], found["random"]) == (*figures.PALETTE[:2], figures.GREY)
