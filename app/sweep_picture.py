"""A sweep's comparison as a picture: a bar a combination, its runs as dots, the spread over seeds as a whisker."""

from collections.abc import Sequence
from io import BytesIO

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font

from app.sweep_table import Group, Row, Spread, SweepTable, label

ROW_INCHES = 0.32
LONGEST_LABEL = 60
FONT = "DejaVu Sans"
_BAR, _DOT = "#9ec5e8", "#1f4e79"


def sweep_picture(table: SweepTable, title: str) -> bytes:
    """PNG: the newest loss of each combination and, once there are evaluations, its best figure; lower is better."""
    panels = [("loss, newest", [group.loss for group in table.groups], {row.job_id: row.loss for row in table.rows})]
    if table.metric is not None:
        best = {row.job_id: row.best.value if row.best else None for row in table.rows}
        panels.append((f"{table.metric}, best", [group.best for group in table.groups], best))
    # A figure of its own with its own canvas: pyplot's state is shared by all threads.
    figure = Figure(figsize=(4.0 + 4.0 * len(panels), 1.4 + ROW_INCHES * len(table.groups)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(_drawable(title), fontsize=11, parse_math=False)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (name, spreads, figures) in zip(axes, panels, strict=True):
        _draw(axis, name, table.groups, spreads, figures)
    _name_rows(axes[0], table)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def _draw(
    axis: Axes,
    name: str,
    groups: Sequence[Group],
    spreads: Sequence[Spread | None],
    figures: dict[int, float | None],
) -> None:
    axis.set_title(name, fontsize=10, parse_math=False)
    axis.grid(axis="x", color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=8)
    for place, (group, spread) in enumerate(zip(groups, spreads, strict=True)):
        if spread is None:
            axis.annotate("  no figure yet", (0.0, place), xycoords=("axes fraction", "data"), va="center", fontsize=8)
            continue
        runs = [value for job_id in group.job_ids if (value := figures[job_id]) is not None]
        axis.barh(place, spread.mean, height=0.62, color=_BAR, xerr=spread.sd, error_kw={"elinewidth": 1, "capsize": 3})
        axis.plot(runs, [place] * len(runs), "o", color=_DOT, markersize=3)
        sd = "" if spread.sd is None else f" ± {spread.sd:.2g}"
        right = max([spread.mean + (spread.sd or 0.0), *runs])
        axis.annotate(
            f"{spread.mean:.4g}{sd}", (right, place), (6, 0), textcoords="offset points", va="center", fontsize=8
        )
    axis.margins(x=0.4)


def _name_rows(axis: Axes, table: SweepTable) -> None:
    rows = {row.job_id: row for row in table.rows}
    names = [_row_name(group, [rows[job_id] for job_id in group.job_ids]) for group in table.groups]
    axis.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    axis.set_ylim(len(names) - 0.4, -0.6)  # the first one on top


def _row_name(group: Group, runs: Sequence[Row]) -> str:
    text = _drawable(label(group.values)) or "seeds"
    if len(text) > LONGEST_LABEL:
        text = text[: LONGEST_LABEL - 1] + "…"
    done = sum(run.status == "succeeded" for run in runs)
    return text if done == len(runs) else f"{text}  ({done} of {len(runs)} done)"


def _drawable(text: str) -> str:
    """The text with a question mark for what the font, which comes with matplotlib, cannot draw."""
    known = get_font(findfont(FONT)).get_charmap()
    return "".join(character if ord(character) in known else "?" for character in text)
