/** A chart in SVG with a legend. Pointer and keyboard read its values, and it shows them as a table too. */

import { table } from "../components/table.js";
import { el, fill, svg } from "../core/dom.js";
import { figure, short } from "../core/format.js";
import { drawPlot, EDGE, lineClasses } from "./plot.js";

/**
 * @typedef {object} Axis How an axis shows its values.
 * @property {string} [label] Its title.
 * @property {(value: number, digits?: number) => string} [format] Writes a value.
 * @property {boolean} [log] Logarithmic.
 * @property {boolean} [zero] Starts at zero.
 * @property {boolean} [whole] Ticks at integers only.
 * @property {number[]} [domain] Its two ends, when they should not follow the values.
 * @property {Array<[number, string]>} [ticks] The ticks, when they should not follow the values.
 */

const USUAL_WIDTH = 480; // before the page is laid out
/** How much less a vertical distance from the pointer counts than a horizontal one. */
const VERTICAL_WEIGHT = 0.05;

/** Makes a short piece of a line for the legend. */
const key = () =>
  svg("svg", { class: "key", viewBox: "0 0 26 6", "aria-hidden": "true" }, svg("path", { d: "M0 3H26" }));

/**
 * Makes a figure with `show(series)`. series: {name, points, line} each, where line: false draws marks only.
 * points: {x, y, label, on} each. label: what the tooltip adds. on: what stands beside a filled mark.
 * @param {string} title
 * @param {{x?: Axis, y?: Axis, height?: number, note?: string}} options
 */
export function chart(title, { x = {}, y = {}, height = 230, note = "" } = {}) {
  const drawing = svg("svg", { role: "img", tabindex: "0", "aria-label": title });
  const legend = el("ul", { class: "legend" });
  const tooltip = el("div", { class: "tooltip", "aria-hidden": "true", hidden: true });
  const spoken = el("span", { class: "visually-hidden", "aria-live": "polite" });
  const values = el("div", { class: "table-wrap", tabindex: "0", role: "region", "aria-label": `${title}: values` });
  const details = el("details", {}, el("summary", {}, "As a table"), values);
  const caption = el("figcaption", {}, el("span", {}, title), note && el("span", { class: "soft small" }, note));
  const node = el("figure", { class: "chart" }, caption, drawing, legend, tooltip, spoken, details);
  const formats = { x: x.format || short, y: y.format || figure };
  let series = [];
  let places = [];
  let at = -1;
  let width = 0;

  const textOfX = (value) => x.ticks?.find(([tick]) => tick === value)?.[1];

  function words({ series: its, point: { x: across, y: up, label } }) {
    const where = textOfX(across) ?? [x.label, formats.x(across)].filter(Boolean).join(" ");
    return [series.length > 1 && its, `${where}: ${formats.y(up)}`, label].filter(Boolean).join("\n");
  }

  function draw() {
    width = node.clientWidth || USUAL_WIDTH;
    drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const plot = drawPlot(series, { x, y, formats, width, height });
    places = plot.places.sort((one, other) => one.left - other.left || one.top - other.top);
    fill(drawing, plot.parts, svg("line", { class: "cursor-line", visibility: "hidden" }));
    const count = places.length ? `${places.length} values; arrow keys read them` : "no values yet";
    drawing.setAttribute("aria-label", `${title}, ${count}`);
    const several = places.length > 0 && series.length > 1;
    fill(legend, several && series.map((one, number) => el("li", { class: lineClasses(number) }, key(), one.name)));
    if (details.open) fillTable();
  }

  /** Moves cursor and tooltip to a value. */
  function pointAt(number) {
    at = Math.max(0, Math.min(places.length - 1, number));
    const place = places[at];
    if (!place) return;
    const factor = drawing.clientWidth / width || 1;
    const cursor = { x1: place.left, x2: place.left, y1: EDGE.top, y2: height - EDGE.bottom, visibility: "visible" };
    for (const [key, value] of Object.entries(cursor)) drawing.lastElementChild.setAttribute(key, value);
    tooltip.textContent = words(place);
    tooltip.hidden = false;
    const left = Math.min(Math.max(0, place.left * factor + 10), Math.max(0, node.clientWidth - tooltip.offsetWidth));
    tooltip.style.left = `${left}px`;
    tooltip.style.top = `${drawing.offsetTop + Math.max(0, place.top * factor - tooltip.offsetHeight - 8)}px`;
  }

  function hide() {
    at = -1;
    tooltip.hidden = true;
    drawing.lastElementChild?.setAttribute("visibility", "hidden");
  }

  function fillTable() {
    const rows = series.flatMap((one) => one.points.map((point) => ({ name: one.name, point })));
    const named = series.length > 1;
    const labelled = rows.some(({ point }) => point.label);
    const heads = [named && "series", x.label || "x", y.label || title, labelled && "what"];
    const cells = ({ name, point }) => [
      named && name,
      textOfX(point.x) ?? formats.x(point.x),
      formats.y(point.y),
      labelled && (point.label || ""),
    ];
    const isShown = (one) => one !== false;
    const row = (one) => el("tr", {}, cells(one).filter(isShown).map((text) => el("td", {}, text)));
    fill(values, table(heads.filter(isShown), rows.map(row)));
  }

  drawing.addEventListener("pointermove", (event) => {
    const box = drawing.getBoundingClientRect();
    const left = ((event.clientX - box.left) / box.width) * width;
    const top = ((event.clientY - box.top) / box.height) * height;
    const distances = places.map((place) => (place.left - left) ** 2 + VERTICAL_WEIGHT * (place.top - top) ** 2);
    if (places.length) pointAt(distances.indexOf(Math.min(...distances)));
  });
  drawing.addEventListener("pointerleave", hide);
  drawing.addEventListener("blur", hide);
  drawing.addEventListener("keydown", (event) => {
    const last = places.length - 1;
    const to = { ArrowRight: at + 1, ArrowLeft: at < 0 ? last : at - 1, Home: 0, End: last }[event.key];
    if (event.key === "Escape") hide();
    if (to === undefined) return;
    event.preventDefault();
    pointAt(to);
    if (places[at]) spoken.textContent = words(places[at]);
  });
  details.addEventListener("toggle", () => details.open && fillTable());
  new ResizeObserver(() => {
    if (Math.abs(node.clientWidth - width) > 1) draw();
  }).observe(node);

  node.show = (next, { ticks = x.ticks, domain = x.domain } = {}) => {
    series = next;
    Object.assign(x, { ticks, domain });
    draw();
  };
  return node;
}
