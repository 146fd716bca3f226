/** Shows the page that the address behind # names, moves the focus to it, and ends the page before. */

import { announce } from "./announce.js";
import { fill } from "./dom.js";

let leaving = new AbortController();

/**
 * Shows a page now and after each change of the address. routes: [pattern, page].
 * A page is {title(params), render(main, {params, query, signal})}. params: the pattern's {parts}.
 * The signal is aborted when the user leaves the page.
 */
export function startRouter(routes, otherwise) {
  const compiled = routes.map((
    [pattern, page],
  ) => [new RegExp(`^${pattern.replace(/\{(\w+)\}/g, "(?<$1>[^/]+)")}$`), page]);
  const show = (first) => {
    const { path, query } = here();
    for (const [pattern, page] of compiled) {
      const found = pattern.exec(path);
      if (found) {
        const params = Object.fromEntries(Object.entries(found.groups || {}).map(([key, text]) => [key, decode(text)]));
        open(page, params, query, path, first);
        return;
      }
    }
    location.replace(otherwise);
  };
  globalThis.addEventListener("hashchange", (event) => {
    if (new URL(event.newURL).hash === "#main") return;
    show(false);
  });
  show(true);
}

/** Returns the path behind # and its query. */
export function here() {
  const [path, query = ""] = location.hash.replace(/^#/, "").split("?");
  return { path, query: new URLSearchParams(query) };
}

/** Writes the query into the address without opening the page again. */
export function rewriteQuery(query) {
  const text = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== null && value !== ""))
    .toString();
  history.replaceState(null, "", `#${here().path}${text ? `?${text}` : ""}`);
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function open(page, params, query, path, first) {
  leaving.abort();
  leaving = new AbortController();
  const main = document.getElementById("main");
  fill(main);
  document.title = `${page.title(params)} · Darkroom`;
  for (const link of document.querySelectorAll(".main-nav a")) {
    const section = link.getAttribute("href").slice(1).split("/")[1];
    if (path.split("/")[1] === section) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  page.render(main, { params, query, signal: leaving.signal });
  if (first) return; // the browser itself starts at the top of a page that it has just loaded
  globalThis.scrollTo(0, 0);
  const heading = main.querySelector("h1");
  if (heading) {
    heading.setAttribute("tabindex", "-1");
    heading.focus({ preventScroll: true });
  }
  announce(page.title(params));
}
