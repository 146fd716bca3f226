/** A chart in SVG: lines or points, axes, a legend, a tooltip for pointer and keyboard, and its values as a table. */

import { el, fill, svg } from "../core/dom.js";
import { figure, short, tickTexts } from "../core/format.js";
import { scale } from "./scale.js";

const EDGE = { top: 10, right: 16, bottom: 40, left: 58 };
const MOST_MARKS = 24;
/** About the width of a letter of a label. */
const LETTER = 6.5;

/**
 * A figure with `show(series)`. series: [{name, points: [{x, y, label?, on?}], line}]; label: what a tooltip adds;
 * on: a filled mark with its label beside it. x, y: {label, format, log, zero, whole, domain, ticks: [[value, text]]} of the axes.
 */
export function chart(title, { x = {}, y = {}, height = 230, note = "" } = {}) {
  const drawing = svg("svg", { role: "img", tabindex: "0", "aria-label": title });
  const legend = el("ul", { class: "legend" });
  const tooltip = el("div", { class: "tooltip", "aria-hidden": "true" });
  const spoken = el("span", { class: "visually-hidden", "aria-live": "polite" });
  const table = el("div", { class: "table-wrap", tabindex: "0", role: "region", "aria-label": `${title}: values` });
  const details = el("details", {}, el("summary", {}, "As a table"), table);
  const node = el(
    "figure",
    { class: "chart" },
    el("figcaption", {}, el("span", {}, title), note && el("span", { class: "soft small" }, note)),
    drawing,
    legend,
    tooltip,
    spoken,
    details,
  );
  tooltip.hidden = true;
  let series = [];
  let places = [];
  let at = -1;
  let width = 0;

  const formatX = x.format || short;
  const formatY = y.format || figure;
  const named = (ticks, value) => ticks?.find(([tick]) => tick === value)?.[1];
  const words = (place) => {
    const head = series.length > 1 ? `${place.series}\n` : "";
    const where = named(x.ticks, place.point.x) ?? `${x.label ? `${x.label} ` : ""}${formatX(place.point.x)}`;
    return `${head}${where}: ${formatY(place.point.y)}${place.point.label ? `\n${place.point.label}` : ""}`;
  };

  function draw() {
    width = node.clientWidth || 480;
    drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const all = series.flatMap((one) => one.points);
    const usable = all.filter((point) => Number.isFinite(point.x) && Number.isFinite(point.y));
    const across = scale(usable.map((p) => p.x), EDGE.left, width - EDGE.right, {
      log: x.log,
      domain: x.domain,
      count: width < 420 ? 3 : 6,
    });
    const up = scale(usable.map((p) => p.y), height - EDGE.bottom, EDGE.top, {
      log: y.log,
      zero: y.zero,
      whole: y.whole,
      round: true,
      count: 5,
    });
    places = [];
    if (!usable.length) {
      fill(
        drawing,
        svg("line", {
          class: "axis-line",
          x1: EDGE.left,
          x2: width - EDGE.right,
          y1: height - EDGE.bottom,
          y2: height - EDGE.bottom,
        }),
        svg(
          "text",
          { x: (EDGE.left + width - EDGE.right) / 2, y: (height - EDGE.bottom) / 2, "text-anchor": "middle" },
          "no values yet",
        ),
        svg("line", {}),
      );
      drawing.setAttribute("aria-label", `${title}, no values yet`);
      fill(legend);
      return;
    }
    fill(
      drawing,
      axes(across, up),
      series.map((one, number) => drawSeries(one, number, across, up)),
      svg("line", { class: "cursor-line" }),
    );
    drawing.lastChild.setAttribute("visibility", "hidden");
    places.sort((one, other) => one.left - other.left || one.top - other.top);
    drawing.setAttribute("aria-label", `${title}, ${usable.length} values; arrow keys read them`);
    fill(
      legend,
      series.length > 1 ? series.map((one, number) => el("li", { class: `series-${number % 6}` }, one.name)) : [],
    );
    if (details.open) fillTable();
  }

  function axes(across, up) {
    const parts = [];
    const bottom = height - EDGE.bottom;
    const heights = tickTexts(up.ticks, y.tick || formatY);
    for (const [at, tick] of up.ticks.entries()) {
      const top = up.place(tick);
      parts.push(svg("line", { class: "grid-line", x1: EDGE.left, x2: width - EDGE.right, y1: top, y2: top }));
      parts.push(svg("text", { x: EDGE.left - 7, y: top + 4, "text-anchor": "end" }, heights[at]));
    }
    const widths = tickTexts(across.ticks, formatX);
    for (const [tick, text] of x.ticks || across.ticks.map((one, at) => [one, widths[at]])) {
      const left = across.place(tick);
      parts.push(svg("line", { class: "axis-line", x1: left, x2: left, y1: bottom, y2: bottom + 4 }));
      parts.push(svg("text", { x: left, y: bottom + 17, "text-anchor": "middle" }, text));
    }
    parts.push(svg("line", { class: "axis-line", x1: EDGE.left, x2: width - EDGE.right, y1: bottom, y2: bottom }));
    if (x.label) {
      parts.push(
        svg("text", { x: (EDGE.left + width - EDGE.right) / 2, y: height - 5, "text-anchor": "middle" }, x.label),
      );
    }
    if (y.label) {
      const middle = (EDGE.top + bottom) / 2;
      parts.push(
        svg("text", { x: 12, y: middle, "text-anchor": "middle", transform: `rotate(-90 12 ${middle})` }, y.label),
      );
    }
    return parts;
  }

  function drawSeries(one, number, across, up) {
    const marks = [];
    let path = "";
    for (const point of one.points) {
      if (!Number.isFinite(point.x) || !Number.isFinite(point.y)) continue;
      const left = across.place(point.x);
      const top = up.place(point.y);
      places.push({ left, top, point, series: one.name });
      path += `${path ? "L" : "M"}${left.toFixed(1)} ${top.toFixed(1)}`;
      if (one.line === false || one.points.length <= MOST_MARKS) {
        marks.push(
          svg("circle", { class: point.on ? "mark is-on" : "mark", cx: left, cy: top, r: point.on ? 5.5 : 3.5 }),
        );
      }
      if (point.on) {
        const fits = left + 8 + LETTER * point.on.length < width;
        marks.push(
          svg("text", {
            class: "point-label",
            x: fits ? left + 8 : left - 8,
            y: top - 8,
            "text-anchor": fits ? "start" : "end",
          }, point.on),
        );
      }
    }
    return svg("g", { class: `series-${number % 6}` }, one.line !== false && path && svg("path", { d: path }), marks);
  }

  function point(number) {
    at = Math.max(0, Math.min(places.length - 1, number));
    const place = places[at];
    if (!place) return;
    const factor = drawing.clientWidth / width || 1;
    const cursor = drawing.lastChild;
    for (
      const [key, value] of Object.entries({
        x1: place.left,
        x2: place.left,
        y1: EDGE.top,
        y2: height - EDGE.bottom,
        visibility: "visible",
      })
    ) cursor.setAttribute(key, value);
    tooltip.textContent = words(place);
    tooltip.hidden = false;
    const left = Math.min(Math.max(0, place.left * factor + 10), Math.max(0, node.clientWidth - tooltip.offsetWidth));
    tooltip.style.left = `${left}px`;
    tooltip.style.top = `${drawing.offsetTop + Math.max(0, place.top * factor - tooltip.offsetHeight - 8)}px`;
  }

  function hide() {
    at = -1;
    tooltip.hidden = true;
    drawing.lastChild?.setAttribute("visibility", "hidden");
  }

  function fillTable() {
    const rows = series.flatMap((one) => one.points.map((p) => ({ one, p })));
    fill(
      table,
      el(
        "table",
        {},
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            series.length > 1 && el("th", { scope: "col" }, "series"),
            el("th", { scope: "col" }, x.label || "x"),
            el("th", { scope: "col" }, y.label || title),
            rows.some(({ p }) => p.label) && el("th", { scope: "col" }, "what"),
          ),
        ),
        el(
          "tbody",
          {},
          rows.map(({ one, p }) =>
            el(
              "tr",
              {},
              series.length > 1 && el("td", {}, one.name),
              el("td", {}, named(x.ticks, p.x) ?? formatX(p.x)),
              el("td", {}, formatY(p.y)),
              rows.some((row) => row.p.label) && el("td", {}, p.label || ""),
            )
          ),
        ),
      ),
    );
  }

  drawing.addEventListener("pointermove", (event) => {
    const box = drawing.getBoundingClientRect();
    const left = ((event.clientX - box.left) / box.width) * width;
    const top = ((event.clientY - box.top) / box.height) * height;
    let nearest = -1;
    let least = Infinity;
    places.forEach((place, number) => {
      const distance = (place.left - left) ** 2 + 0.05 * (place.top - top) ** 2;
      if (distance < least) [least, nearest] = [distance, number];
    });
    if (nearest >= 0) point(nearest);
  });
  drawing.addEventListener("pointerleave", hide);
  drawing.addEventListener("blur", hide);
  drawing.addEventListener("keydown", (event) => {
    const to = {
      ArrowRight: at + 1,
      ArrowLeft: at < 0 ? places.length - 1 : at - 1,
      Home: 0,
      End: places.length - 1,
    }[event.key];
    if (to === undefined) {
      if (event.key === "Escape") hide();
      return;
    }
    event.preventDefault();
    point(to);
    if (places[at]) spoken.textContent = words(places[at]);
  });
  details.addEventListener("toggle", () => details.open && fillTable());
  new ResizeObserver(() => {
    if (Math.abs(node.clientWidth - width) > 1) draw();
  }).observe(node);

  node.show = (next, { ticks, domain } = {}) => {
    series = next;
    if (domain !== undefined) x.domain = domain;
    if (ticks !== undefined) x.ticks = ticks;
    draw();
  };
  return node;
}
