"""The documentation builds as a site that asks nothing of other servers."""

import importlib
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import rl_discovery

ROOT = Path(__file__).parent.parent
EXTERNAL = re.compile(r"(?:https?:)?//", re.I)

pytestmark = pytest.mark.slow


class Requests(HTMLParser):
    """Collects what a browser fetches without being asked: everything but the targets of <a>."""

    def __init__(self) -> None:
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.found += [given[name] for name in ("src", "srcset", "poster", "data") if given.get(name)]
        if tag == "link":
            self.found.append(given["href"])
        self.found += styles(given.get("style") or "")


def styles(text):
    """Addresses in a style sheet."""
    return re.findall(r"""(?:url\(|@import)\s*["']?([^"')\s]+)""", text)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    build = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert build.returncode == 0, build.stderr
    return folder


def test_the_site_builds_strictly_and_has_every_page(site):
    pages = {page.relative_to(ROOT / "docs") for page in (ROOT / "docs").glob("**/*.md")}
    built = {page.with_name(page.name.replace("README", "index")).with_suffix(".html") for page in pages}
    assert built <= {page.relative_to(site) for page in site.glob("**/*.html")}


def test_no_page_or_style_sheet_requests_anything_from_elsewhere(site):
    wanted = {}
    for page in site.glob("**/*.html"):
        parser = Requests()
        text = page.read_text()
        parser.feed(text)
        inline = "".join(re.findall(r"<style[^>]*>(.*?)</style>", text, re.S))
        wanted[page.name] = parser.found + styles(inline)
        # The theme fetches what draws such diagrams, and what says how many stars a repository has.
        assert 'class="mermaid"' not in text
        assert 'data-md-component="source"' not in text
    for sheet in site.glob("**/*.css"):
        wanted[sheet.name] = styles(sheet.read_text())
    assert sum(map(len, wanted.values())) > 100
    assert not [(name, url) for name, urls in wanted.items() for url in urls if EXTERNAL.match(url)]


def test_a_page_opened_from_disk_finds_the_index_without_which_its_tabs_do_not_switch(site):
    index = (site / "search" / "search_index.js").read_text()
    assert index == f"var __index = {(site / 'search' / 'search_index.json').read_text()}"
    assert "tabbed-labels" in (site / "how-to" / "drift.html").read_text()


def test_the_page_for_language_models_links_to_pages_of_the_site(site):
    targets = re.findall(r"\]\(([^)]+)\)", (site / "llms.txt").read_text())
    assert len(targets) > 20
    assert not [target for target in targets if not (site / target).is_file()]


def test_equations_are_mathml_without_commands_that_nobody_understood(site):
    equations = re.findall(r"<math.*?</math>", (site / "concepts.html").read_text(), re.S)
    assert len(equations) > 30
    # Commands and columns of TeX that the converter does not know stay as they are.
    assert not [equation for equation in equations if re.search(r"\\|<mi>&<", equation)]
    assert not [page for page in site.glob("**/*.html") if "arithmatex" in page.read_text()]


def test_commands_wrap_between_words_and_intervals_do_not(site):
    text = (site / "quickstart.html").read_text()
    assert '<pre class="command"><span></span><code><span class="word">rl-discovery</span> export' in text
    assert '<code><span class="word">--config</span></code>' in text
    # Whatever the studies' numbers are.
    pages = "".join((site / name).read_text() for name in ("results.html", "studies/efficiency.html"))
    cells = "".join(re.findall(r"<td.*?</td>", pages, re.S))
    number = r"[-+−]?\d+\.\d+"
    for interval in (rf"\[{number},{{}}{number}\]", rf"{number} ±{{}}{number}"):
        assert re.search(interval.format("&nbsp;"), cells)
        assert not re.search(interval.format(" "), cells)


def test_links_to_source_files_are_their_paths(site):
    text = (site / "architecture.html").read_text()
    assert "<code>meta/evolve.py</code>" in text
    assert 'href="../' not in text


@pytest.mark.parametrize("package", ["discovery", "envs", "checkpoints", "evaluation"])
def test_the_reference_has_everything_that_a_package_exports(site, package):
    text = (site / "reference" / f"{package}.html").read_text()
    module = importlib.import_module(f"rl_discovery.{package}")
    assert not [name for name in module.__all__ if f'id="{module.__name__}.{name}"' not in text]


def test_the_reference_begins_with_what_most_people_need(site):
    text = (site / "reference" / "index.html").read_text()
    assert not [name for name in rl_discovery.__all__ if f'id="rl_discovery.{name}"' not in text]
