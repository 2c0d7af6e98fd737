"""HTML by lexbor: what a browser would show, a line per block, a table row on one line."""

from __future__ import annotations

import re

from selectolax.lexbor import LexborHTMLParser, LexborNode

from minions.documents.plain import decode
from minions.documents.reading import Extract, ReadLimits, check_chars, clean
from minions.errors import NoTextInDocument

# Marks put into the tree, and resolved once it has become text. The source can't contain them:
# control characters are removed from it first.
_LINE, _CELL, _GAP, _SPACE = "\x1e", "\x1f", "\x1c", "\x1d"
_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f]")
_WHITESPACE = re.compile("[ \t\r\n\f\xa0]+")
_DECLARED = re.compile(rb"""<meta[^>]+charset\s*=\s*["']?([\w-]+)""", re.IGNORECASE)

_UNSEEN = (
    "script,style,noscript,template,svg,iframe,object,[hidden],ix\\:header,"
    '[style*="display:none" i],[style*="display: none" i]'
)
_BLOCKS = (
    "address,article,aside,blockquote,br,caption,center,dd,div,dl,dt,fieldset,figcaption,figure,"
    "footer,form,header,hr,li,main,nav,ol,option,p,section,summary,table,tr,ul"
)
_HEADINGS = "h1,h2,h3,h4,h5,h6"
# A cell that holds a table is a layout, as old pages and filings have them: its lines stay lines.
_LAYOUT_CELLS = "td:has(table),th:has(table)"
_CELLS = "td:not(:has(table)),th:not(:has(table))"


def read_html(data: bytes, name: str, limits: ReadLimits) -> Extract:
    """Read the visible text, as a single page. Raises `NoTextInDocument` when there is none."""
    declared = _DECLARED.search(data[:4096])
    encoding = declared.group(1).decode("ascii") if declared else None
    source, warnings = decode(data, name, encoding)
    text = _visible_text(LexborHTMLParser(_CONTROL.sub("", source)))
    check_chars(name, len(text), limits)
    if not text.strip():
        raise NoTextInDocument(
            f"{name} is an HTML page that shows no text; perhaps a script fills it in. "
            "Save the page from a browser as PDF, and give that."
        )
    return Extract(pages=(text,), warnings=warnings)


def _visible_text(tree: LexborHTMLParser) -> str:
    body = tree.body
    if body is None:
        return ""
    _drop_unseen(body)
    _mark_preformatted(body)
    _mark_cells(body)
    _surround(body, f"{_BLOCKS},{_LAYOUT_CELLS}", _LINE, _LINE)
    _surround(body, _HEADINGS, _LINE + _GAP + _LINE, _LINE)
    return _resolve(clean(body.text()))


def _drop_unseen(body: LexborNode) -> None:
    """Remove what is not shown, innermost first. `css` names a node once per matching selector."""
    unseen = {node.mem_id: node for node in body.css(_UNSEEN)}
    for node in reversed(unseen.values()):
        node.decompose()


def _surround(root: LexborNode, selector: str, before: str, after: str) -> None:
    for node in root.css(selector):
        node.insert_before(before)
        node.insert_after(after)


def _mark_preformatted(body: LexborNode) -> None:
    for node in reversed(body.css("pre")):
        text = node.text().replace("\r\n", "\n").replace("\n", _LINE).replace(" ", _SPACE)
        node.replace_with(_LINE + text + _LINE)


def _mark_cells(body: LexborNode) -> None:
    """Turn each cell into its text: blocks inside it must not break the row's line."""
    for cell in body.css(_CELLS):
        if next(cell.iter(), None) is not None:  # most cells hold no element, and a search is dear
            _surround(cell, f"{_BLOCKS},{_HEADINGS}", " ", " ")
        cell.replace_with(cell.text().replace(_LINE, " ") + _CELL)


def _resolve(marked: str) -> str:
    lines = (_line(line) for line in _WHITESPACE.sub(" ", marked).split(_LINE))
    text = "".join(line + "\n" for line in lines if line)
    return re.sub(f"\n*{_GAP}\n", "\n\n", text).lstrip("\n")


def _line(marked: str) -> str:
    """A line of text; empty cells, which filings use as spacers, are left out."""
    cells = (cell.strip(" ") for cell in marked.split(_CELL))
    return " | ".join(cell for cell in cells if cell).replace(_SPACE, " ").rstrip(" ")
