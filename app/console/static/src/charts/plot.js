/** Draws the plot of a chart: its axes, and the lines and marks of its series. */

import { svg } from "../core/dom.js";
import { tickTexts } from "../core/format.js";
import { scale } from "./scale.js";

/** The room around the plot, for the texts of the axes. */
export const EDGE = { top: 10, right: 16, bottom: 40, left: 58 };

const NARROW = 420;
const MOST_MARKS = 24; // a longer line has no mark at each value
const LETTER = 6.5; // about the width of a letter

const [COLOURS, DASHES] = [6, 5]; // without a common divisor, so that 30 lines differ

/** Returns the classes of a line, which give it its colour and its dashes. */
export const lineClasses = (number) => `series-${number % COLOURS} dashes-${number % DASHES}`;

const isUsable = (point) => Number.isFinite(point.x) && Number.isFinite(point.y);

/** Returns {parts, places}: SVG elements, and {left, top, point, series} of each value that can be drawn. */
export function drawPlot(series, { x, y, formats, width, height }) {
  const box = { width, height, right: width - EDGE.right, bottom: height - EDGE.bottom };
  const points = series.flatMap((one) => one.points).filter(isUsable);
  if (!points.length) return { parts: emptyPlot(box), places: [] };
  const values = (axis) => points.map((one) => one[axis]);
  const { log, domain } = x;
  const across = scale(values("x"), EDGE.left, box.right, { log, domain, count: width < NARROW ? 3 : 6 });
  const vertical = { log: y.log, zero: y.zero, whole: y.whole, round: true };
  const up = scale(values("y"), box.bottom, EDGE.top, vertical);
  const parts = [...xAxis(across, x, formats.x, box), ...yAxis(up, y, formats.y, box)];
  const places = [];
  for (const [number, one] of series.entries()) {
    const its = one.points.filter(isUsable).map((point) => ({
      left: across.place(point.x),
      top: up.place(point.y),
      point,
      series: one.name,
    }));
    parts.push(drawSeries(one, number, its, width));
    places.push(...its);
  }
  return { parts, places };
}

const line = (kind, x1, x2, y1, y2) => svg("line", { class: kind, x1, x2, y1, y2 });

const text = (words, x, y, anchor, more = {}) => svg("text", { x, y, "text-anchor": anchor, ...more }, words);

function emptyPlot({ right, bottom }) {
  return [
    line("axis-line", EDGE.left, right, bottom, bottom),
    text("no values yet", (EDGE.left + right) / 2, bottom / 2, "middle"),
  ];
}

function xAxis(across, { ticks, label }, format, { height, right, bottom }) {
  const texts = tickTexts(across.ticks, format);
  const shown = ticks || across.ticks.map((tick, at) => [tick, texts[at]]);
  return [
    ...shown.flatMap(([tick, words]) => {
      const left = across.place(tick);
      return [line("axis-line", left, left, bottom, bottom + 4), text(words, left, bottom + 17, "middle")];
    }),
    line("axis-line", EDGE.left, right, bottom, bottom),
    label && text(label, (EDGE.left + right) / 2, height - 5, "middle"),
  ];
}

function yAxis(up, { label }, format, { right, bottom }) {
  const texts = tickTexts(up.ticks, format);
  const middle = (EDGE.top + bottom) / 2;
  return [
    ...up.ticks.flatMap((tick, at) => {
      const top = up.place(tick);
      return [line("grid-line", EDGE.left, right, top, top), text(texts[at], EDGE.left - 7, top + 4, "end")];
    }),
    label && text(label, 12, middle, "middle", { transform: `rotate(-90 12 ${middle})` }),
  ];
}

function drawSeries(series, number, places, width) {
  const marked = series.line === false || series.points.length <= MOST_MARKS;
  const marks = places.filter(({ point }) => marked || point.on).map(({ left, top, point }) =>
    svg("circle", { class: point.on ? "mark is-on" : "mark", cx: left, cy: top, r: point.on ? 5.5 : 3.5 })
  );
  const labels = places.filter(({ point }) => point.on).map(({ left, top, point }) => {
    const fits = left + 8 + LETTER * point.on.length < width;
    return text(point.on, fits ? left + 8 : left - 8, top - 8, fits ? "start" : "end", { class: "point-label" });
  });
  const path = places.map(({ left, top }, at) => `${at ? "L" : "M"}${left.toFixed(1)} ${top.toFixed(1)}`).join("");
  const drawn = series.line !== false && path && svg("path", { d: path });
  return svg("g", { class: lineClasses(number) }, drawn, marks, labels);
}
