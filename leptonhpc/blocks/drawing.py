"""How a blocked array is shown: in words and, in notebooks, with a drawing of its grid."""

from __future__ import annotations

from html import escape
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leptonhpc.blocks.array import BlockedArray

_MOST_LINES = 40


def format_nbytes(nbytes: float) -> str:
    """Write a number of bytes with three digits and a decimal unit."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(nbytes) < 999.5 or unit == "TB":
            return f"{nbytes:.3g} {unit}"
        nbytes /= 1000
    raise AssertionError


def draw_text(array: BlockedArray) -> str:
    """Show shape, dtype, bytes, blocks and a small drawing in characters."""
    block = tuple(max(lengths) for lengths in array.chunks)
    lines = [
        f"BlockedArray {array.shape} {array.dtype}, {format_nbytes(array.nbytes)}",
        f"  {array.grid.size} blocks of up to {block}, "
        f"{format_nbytes(prod(block) * array.dtype.itemsize)} each",
        f"  from {array.name}",
    ]
    if array.ndim == 2 and array.size:
        lines += _characters(array)
    return "\n".join(lines)


def draw_html(array: BlockedArray) -> str:
    """Show the same as a table beside an SVG drawing of the first and last dimension."""
    block = tuple(max(lengths) for lengths in array.chunks)
    rows = [
        ("shape", str(array.shape)),
        ("dtype", str(array.dtype)),
        ("bytes", format_nbytes(array.nbytes)),
        ("blocks", f"{array.grid.size} of up to {block}"),
        ("block bytes", format_nbytes(prod(block) * array.dtype.itemsize)),
        ("source", array.name),
    ]
    cells = "".join(f"<tr><th>{key}</th><td>{escape(text)}</td></tr>" for key, text in rows)
    return f"<table><tr><td><table>{cells}</table></td><td>{_svg(array)}</td></tr></table>"


def _characters(array: BlockedArray) -> list[str]:
    rows, columns = (min(n, 8) for n in array.numblocks)
    more = (array.numblocks[0] > rows, array.numblocks[1] > columns)
    line = "  +" + "--+" * columns + ("" if not more[1] else "..")
    body = "  |" + "  |" * columns + ("" if not more[1] else "..")
    drawing = [line]
    for _ in range(rows):
        drawing += [body, line]
    return drawing + (["   :"] if more[0] else [])


def _svg(array: BlockedArray) -> str:
    if array.ndim == 0 or not array.size:
        return ""
    height, width = array.shape[0], array.shape[-1] if array.ndim > 1 else 1
    # the drawing keeps the order of magnitude of the aspect ratio, within reason
    ratio = min(max((height / width) ** 0.5, 0.2), 5.0)
    w, h = (160 / ratio, 160.0) if ratio > 1 else (160.0, 160 * ratio)
    edges_y = _thinned(array.grid.bounds[0])
    edges_x = _thinned(array.grid.bounds[-1]) if array.ndim > 1 else (0, 1)
    lines = [
        f'<line x1="0" x2="{w:.1f}" y1="{e * h / height:.1f}" y2="{e * h / height:.1f}"/>'
        for e in edges_y
    ]
    lines += [
        f'<line y1="0" y2="{h:.1f}" x1="{e * w / width:.1f}" x2="{e * w / width:.1f}"/>'
        for e in edges_x
    ]
    return (
        f'<svg width="{w + 60:.0f}" height="{h + 25:.0f}" style="stroke:currentColor">'
        f'<g transform="translate(1,1)"><rect width="{w:.1f}" height="{h:.1f}" '
        f'fill="#4c78a8" fill-opacity="0.35"/>{"".join(lines)}</g>'
        f'<g stroke="none" fill="currentColor" font-size="12">'
        f'<text x="{w / 2:.0f}" y="{h + 18:.0f}" text-anchor="middle">'
        f'{array.shape[-1]}</text><text x="{w + 6:.0f}" y="{h / 2:.0f}">'
        f"{height}</text></g></svg>"
    )


def _thinned(edges: tuple[int, ...]) -> tuple[int, ...]:
    step = -(-len(edges) // _MOST_LINES)
    return (*edges[:-1:step], edges[-1])
