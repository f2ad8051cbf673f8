# SPDX-License-Identifier: GPL-3.0-or-later
"""The figures as a table, as JSON and as a plot."""

import html
import json
import pathlib
import time
import typing as t

RESULTS = pathlib.Path(__file__).resolve().parent / "results"
BAR, LABEL, ROW = 320, 400, 22


class Figure(t.NamedTuple):
    """A measured value beside what it is compared with, in the same run."""

    part: str
    what: str
    value: float
    unit: str
    reference: t.Optional[float] = None
    against: str = ""

    @property
    def ratio(self) -> t.Optional[float]:
        return self.value / self.reference if self.reference else None


def table(figures: t.Sequence[Figure]) -> str:
    lines = [f"{'':62} {'value':>9} {'':7} {'reference':>9} {'ratio':>6}"]
    part = ""
    for figure in figures:
        if figure.part != part:
            part = figure.part
            lines += ["", part]
        reference = f"{figure.reference:9.1f} {figure.ratio:6.2f}  of {figure.against}" if figure.reference else ""
        lines.append(f"  {figure.what:60} {figure.value:9.1f} {figure.unit:7} {reference}")
    return "\n".join(lines)


def write(figures: t.Sequence[Figure], about: t.Dict[str, t.Any]) -> t.List[pathlib.Path]:
    RESULTS.mkdir(exist_ok=True)
    name = time.strftime("%Y-%m-%dT%H%M%S")
    data = {**about, "figures": [{**figure._asdict(), "ratio": figure.ratio} for figure in figures]}
    texts = {"json": json.dumps(data, indent=1) + "\n", "txt": table(figures) + "\n", "svg": plot(figures)}
    paths = []
    for ending, text in texts.items():
        paths.append(RESULTS / f"{name}.{ending}")
        paths[-1].write_text(text, encoding="utf-8")
    return paths


def plot(figures: t.Sequence[Figure]) -> str:
    """The ratios as bars, with a line where the reference is."""
    compared = [(figure, figure.ratio) for figure in figures if figure.ratio]
    most = max([ratio for _, ratio in compared] + [1.0])
    scale = BAR / most
    height = ROW * (len(compared) + 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LABEL + BAR + 70}" height="{height}"'
        ' font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>',
        '<text x="8" y="15">As a ratio of what each is compared with</text>',
    ]
    for number, (figure, ratio) in enumerate(compared, 1):
        y = ROW * number
        label = html.escape(f"{figure.what} / {figure.against}")
        parts.append(f'<text x="{LABEL - 8}" y="{y + 15}" text-anchor="end">{label}</text>')
        parts.append(f'<rect x="{LABEL}" y="{y + 4}" width="{ratio * scale:.1f}" height="{ROW - 8}" fill="#4477aa"/>')
        parts.append(f'<text x="{LABEL + ratio * scale + 5:.1f}" y="{y + 15}">{ratio:.2f}</text>')
    x, y = LABEL + scale, height - ROW
    parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{ROW}" y2="{y}" stroke="#cc3311" stroke-dasharray="3"/>')
    return "\n".join([*parts, "</svg>", ""])
