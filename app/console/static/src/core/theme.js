/** Light or dark: as the system says, until somebody chooses. */

import { el } from "./dom.js";

const STORED = "darkroom-theme";
const preference = matchMedia("(prefers-color-scheme: dark)");

const chosen = () => localStorage.getItem(STORED);
const current = () => chosen() || (preference.matches ? "dark" : "light");

/** Apply what was chosen; otherwise the styles follow the system. */
export function startTheme() {
  if (chosen()) document.documentElement.dataset.theme = chosen();
}

/** The switch. */
export function themeSwitch() {
  const button = el("button", { type: "button", class: "quiet compact", on: { click: flip } });
  const show = () => {
    button.textContent = current() === "dark" ? "☀ Light" : "☾ Dark";
    button.setAttribute("aria-label", `Use the ${current() === "dark" ? "light" : "dark"} theme`);
  };
  function flip() {
    localStorage.setItem(STORED, current() === "dark" ? "light" : "dark");
    document.documentElement.dataset.theme = current();
    show();
  }
  preference.addEventListener("change", show);
  show();
  return button;
}
