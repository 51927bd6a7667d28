"""What MkDocs cannot do by itself: links to source files, equations without a script, pages opened from disk.

`mkdocs.yml` names this module; MkDocs calls its functions.
"""

import html
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert

LINK = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+[^)#\s]+)\)")
EQUATION = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.S)
FUNCTION = re.compile(r"<mi>(log|tanh)</mi>")
COMMAND = re.compile(r"<pre>(?=<span></span><code>(?:rl-discovery|make|\.venv/bin/\w+|pip) )")
CODE = re.compile(r"<code>[^<]*</code>")
WORD = re.compile(r"(?<=[\s>])[^\s<>]{0,20}-[^\s<>]{0,20}(?=[\s<])")
CELL = re.compile(r"<td[^<]*</td>")
INTERVAL = re.compile(r"(\[[-−+.\d]+,) (?=[-−+.\d]+\])")
SPACE = '<mspace width="0.17em"/>'


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Links that leave docs/ become the path that they lead to.

    They are for people who read the page in the repository. The site has no address of it to link to.
    """
    docs = Path(config.docs_dir)
    folder = (docs / page.file.src_uri).parent

    def without_link(match: re.Match[str]) -> str:
        label, target = match.groups()
        path = (folder / target).resolve()
        if path.is_relative_to(docs):
            return match[0]
        name = f"`{path.relative_to(docs.parent)}`"
        return name if label.startswith("`") else f"{label} ({name})"

    return LINK.sub(without_link, markdown)


def on_page_content(content: str, **_: Any) -> str:
    """TeX becomes MathML, which browsers show without help; commands and numbers say how they may be broken.

    A command has several lines where the screen is narrow. A name with hyphens, an interval and a standard
    error have one.
    """

    def unbroken(match: re.Match[str]) -> str:
        return INTERVAL.sub(r"\1&nbsp;", match[0].replace("± ", "±&nbsp;"))

    def words(match: re.Match[str]) -> str:
        return WORD.sub(r'<span class="word">\g<0></span>', match[0])

    content = COMMAND.sub('<pre class="command">', CELL.sub(unbroken, content))
    content = CODE.sub(words, content)

    def mathml(match: re.Match[str]) -> str:
        tag, tex = match.groups()
        equation = convert(html.unescape(tex), display="block" if tag == "div" else "inline")
        # TeX has a little space around the names of functions, and the converter none.
        equation = FUNCTION.sub(rf"<mrow>{SPACE}\g<0>{SPACE}</mrow>", equation)
        return f'<{tag} class="math">{equation}</{tag}>'

    return EQUATION.sub(mathml, content)


def on_post_build(config: Any) -> None:
    """The search's index as a script as well.

    A page that is opened from disk may not read JSON. Where the script is missing, the theme gives up on all
    else that it does, such as switching between tabs.
    """
    folder = Path(config.site_dir) / "search"
    (folder / "search_index.js").write_text(f"var __index = {(folder / 'search_index.json').read_text()}")


on_post_build.mkdocs_priority = -100  # type: ignore[attr-defined]  # after the search plugin
