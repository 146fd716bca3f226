/** The light and the dark theme. The system decides until the user chooses. */

import { el } from "./dom.js";

const STORED = "darkroom-theme";
const preference = matchMedia("(prefers-color-scheme: dark)");

const chosen = () => localStorage.getItem(STORED);
const shownTheme = () => chosen() || (preference.matches ? "dark" : "light");

/** Applies the choice of the user. Without one the styles follow the system. */
export function startTheme() {
  if (chosen()) document.documentElement.dataset.theme = chosen();
}

/** Makes the button that changes the theme. */
export function themeSwitch() {
  const button = el("button", { type: "button", class: "quiet compact", on: { click: flip } });
  const show = () => {
    button.textContent = shownTheme() === "dark" ? "☀ Light" : "☾ Dark";
    button.setAttribute("aria-label", `Use the ${shownTheme() === "dark" ? "light" : "dark"} theme`);
  };
  function flip() {
    localStorage.setItem(STORED, shownTheme() === "dark" ? "light" : "dark");
    document.documentElement.dataset.theme = shownTheme();
    show();
  }
  preference.addEventListener("change", show);
  show();
  return button;
}
