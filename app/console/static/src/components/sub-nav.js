/** Links between the pages of the section Training. */

import { el } from "../core/dom.js";

const PAGES = [
  ["#/training/jobs", "Jobs"],
  ["#/training/new", "New job"],
  ["#/training/datasets", "Data sets"],
  ["#/training/sweeps", "Sweeps"],
];

/** Makes the links. current: the address of the page that shows them. */
export function trainingNav(current) {
  return el(
    "nav",
    { class: "sub-nav", "aria-label": "Training" },
    PAGES.map(([address, text]) =>
      el("a", { href: address, "aria-current": address === current ? "page" : null }, text)
    ),
  );
}
