"""The page is safe whatever is in the files, and complete without its scripts."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from rl_discovery.evaluation.report import Source, gather, read_run, render
from tests.evaluation.report import tiny_run


class Page(HTMLParser):
    """Headings, ids and accessible names of a page."""

    def __init__(self, text):
        super().__init__()
        self.headings, self.ids, self.unnamed = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if "id" in given:
            self.ids.append(given["id"])
        named = given.get("alt") or given.get("aria-label") or given.get("aria-hidden")
        if (tag in ("img", "svg") or given.get("role") == "region") and not named:
            self.unnamed.append((tag, given))


def page_of(*runs):
    sources = [Source(read_run(run), f"make {run.name}", None, 0, 0) for run in runs]
    return render(gather(sources, "Made <today>", "rl-discovery report & more"))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    run = tiny_run.make(tmp_path_factory.mktemp("runs") / "<b>&bold")
    (run / "gallery.png").write_bytes(b"\x89PNG\r\n\x1a\npicture")
    return page_of(run)


def test_texts_are_escaped(page):
    start, end = page.index("<body>"), page.index('<script type="application/json"')
    assert "&lt;b&gt;&amp;bold" in page[start:end]
    assert "<b>" not in page[start:end]
    assert "ReLU(x &lt;b&gt;)" in page
    assert "Made &lt;today&gt;" in page


def test_the_page_says_what_the_evaluation_s_command_repeats(page, tmp_path):
    words = "command repeats its suite, horizons, levels, number of seeds and"
    assert words in page
    assert "Evaluation on “unseen”:" in page
    assert words not in page_of(tiny_run.make(tmp_path / "bare", evaluated=False, analysed=False))


def test_numbers_cannot_end_their_element(page):
    (data,) = re.findall(r'<script type="application/json" id="report-data">(.*?)</script>', page, re.S)
    assert "<" not in data
    assert "\\u003cb>&bold" in data


def test_the_policy_allows_the_scripts_of_the_page_and_nothing_from_elsewhere(page):
    (policy,) = re.findall(r'Content-Security-Policy" content="(.*?)"', page)
    assert policy.startswith("default-src &#39;none&#39;")
    assert "http" not in policy
    scripts = re.findall(r"<script>(.*?)</script>", page, re.S)
    assert len(scripts) == 2
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"sha256-{digest}" in policy.replace("&#43;", "+")


def test_headings_descend_by_one_and_ids_are_unique(page):
    found = Page(page)
    assert found.headings[0] == 1
    assert all(later - before <= 1 for before, later in zip(found.headings, found.headings[1:], strict=False))
    assert len(set(found.ids)) == len(found.ids)
    assert found.unnamed == []


def test_the_gallery_is_in_the_page(page):
    assert base64.b64encode(b"\x89PNG\r\n\x1a\npicture").decode() in page
    assert 'alt="Sheet of the levels' in page


def test_missing_parts_say_which_command_makes_them(tmp_path):
    bare = tiny_run.make(tmp_path / "bare", evaluated=False, analysed=False)
    page = page_of(bare)
    assert f"rl-discovery evaluate {bare}" in page
    assert f"rl-discovery analyse {bare}" in page
    assert "the run has not reached a checkpoint" in page


def test_several_runs_have_differences_and_a_part_each(tmp_path):
    first, second = tiny_run.make(tmp_path / "one"), tiny_run.make(tmp_path / "two", "lpg", seed=9)
    page = page_of(first, second)
    found = Page(page)
    assert "<title>one and two compared" in page
    assert 'id="differences"' in page
    assert "objective.kind" in page
    assert {"analysis-0-map", "analysis-1-0"} <= set(found.ids)
    assert len(set(found.ids)) == len(found.ids)
