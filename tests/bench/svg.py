# SPDX-License-Identifier: GPL-2.0
"""Charts as SVG: stacked bars, each with a label, in groups."""

from html import escape

COLOURS = ["#4878d0", "#ee854a", "#6acc64", "#d65f5f", "#956cb4", "#8c613c"]
LEFT, WIDTH, HEIGHT, GAP = 330, 620, 12, 5


def document(title, height, body):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 80}" height="{height}"'
            ' font-family="sans-serif" font-size="11">\n'
            '<rect width="100%" height="100%" fill="white"/>\n'
            f'<text x="10" y="18" font-size="14">{escape(title)}</text>\n{body}</svg>\n')


def bar(x, y, width, colour, value=""):
    text = f'<text x="{x + width + 4:.1f}" y="{y + HEIGHT - 2}">{escape(value)}</text>' if value else ""
    return (f'<rect x="{x:.1f}" y="{y}" width="{max(width, 0):.1f}" height="{HEIGHT}"'
            f' fill="{colour}"/>{text}\n')


def legend(names, y):
    body, x = "", LEFT
    for index, name in enumerate(names):
        colour = COLOURS[index % len(COLOURS)]
        body += bar(x, y, HEIGHT, colour)
        body += f'<text x="{x + HEIGHT + 4}" y="{y + HEIGHT - 2}">{escape(name)}</text>\n'
        x += HEIGHT + 20 + 7 * len(name)
    return body


def stacked(title, names, rows):
    """rows: (label, [a value for each of names]); "" as a label is a gap."""
    scale = WIDTH / max(sum(values) for label, values in rows if label)
    body, y = legend(names, 28), 52
    for label, values in rows:
        if label:
            body += f'<text x="{LEFT - 6}" y="{y + HEIGHT - 2}" text-anchor="end">{escape(label)}</text>\n'
            x = LEFT
            for index, value in enumerate(values):
                last = f"{sum(values):.0f}" if index == len(values) - 1 else ""
                body += bar(x, y, value * scale, COLOURS[index % len(COLOURS)], last)
                x += value * scale
            y += HEIGHT
        y += GAP
    return document(title, y + 14, body)
