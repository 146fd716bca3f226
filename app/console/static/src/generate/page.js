/** The page Generate. */

import { button, quietButton } from "../components/button.js";
import { confirmed } from "../components/dialog.js";
import { empty, loading, notice, problemNotice } from "../components/states.js";
import { el, fill } from "../core/dom.js";
import { settingsOf } from "./facts.js";
import { generateForm } from "./form.js";
import { begin, changes, clearEnded, readGallery, remove, runs } from "./gallery.js";
import { pickBar } from "./picks.js";
import { Run } from "./run.js";
import { runView } from "./run-view.js";
import { loadSettings } from "./settings.js";

const MORE = 8;
const FIRST_SHOWN = 10;

export const generatePage = {
  title: () => "Generate",
  render(main, { query, signal }) {
    const gallery = el("div", { class: "stack", id: "gallery" });
    const said = el("div", {});
    const picking = toggle("Pick images", "is-picking", gallery);
    const favourites = toggle("Favourites only", "is-favourites", gallery, showAll);
    const clear = quietButton("Clear", clearAll);
    const older = button("Show older images", showAll);
    const tools = el("div", { class: "actions" }, picking, favourites, clear);
    let form = loading();
    let most = FIRST_SHOWN;
    const view = (run) => runView(run, { signal, onMore: more, onCompare: compare });
    const show = () => {
      tools.hidden = runs.length === 0;
      older.hidden = runs.length <= most;
      fill(gallery, runs.length ? runs.slice(0, most).map(view) : nothingYet());
    };

    function showAll() {
      if (most >= runs.length) return;
      most = Infinity;
      show();
    }

    async function clearAll() {
      const text = "This browser keeps no copy of the images. Requests with a favourite image stay.";
      if (await confirmed("Remove the images?", text, "Remove them", { danger: true })) await clearEnded();
    }

    async function showForm() {
      let shown;
      try {
        await loadSettings();
        readGallery(); // its links name the settings
        shown = generateForm({ query, signal, onSubmit: draw });
      } catch (error) {
        if (error.name === "AbortError") return;
        shown = problemNotice(error, { again: showForm, unasked: true });
      }
      form.replaceWith(shown);
      form = shown;
    }

    /** Begins a run. When the service refuses the request itself, the form shows why and the run is removed. */
    function draw({ body, title, expected, beside = null }) {
      const run = new Run("generate", body, title, expected, beside);
      run.addEventListener("status", () => {
        if (run.status !== "failed" || run.problem.status !== 422) return;
        form.faults(run.problem);
        remove(run);
      }, { signal });
      form.fold();
      begin(run);
    }

    function more({ facts, images }, { class: name, class_index }) {
      const first = Math.max(...images.map((one) => one.index)) + 1;
      form.useSeed(facts.seed);
      draw({
        body: { ...settingsOf(facts), class: name, seed: facts.seed, first_index: first, n: MORE },
        title: [name],
        expected: Array.from({ length: MORE }, () => ({ class: name, class_index })),
      });
    }

    /** Draws a run's classes and seed with the settings of the form. Returns false when these are the run's own. */
    function compare(run) {
      const settings = form.settings();
      if (!settings) return true; // the form says what is wrong
      const { class: classes, n, first_index, best_of } = run.body;
      const given = { class: classes, n, seed: run.facts.seed, first_index, best_of };
      if (sameSettings({ ...given, ...settings }, { ...run.body, seed: run.facts.seed })) return false;
      const expected = run.images.map((image) => ({ class: image.class, class_index: image.class_index }));
      draw({ body: { ...given, ...settings }, title: run.title, expected, beside: run.id });
      return true;
    }

    const listen = (kind, react) => changes.addEventListener(kind, react, { signal });
    listen("begun", (/** @type {CustomEvent} */ event) => {
      if (runs.length === 1) fill(gallery);
      gallery.prepend(view(event.detail));
      most += 1;
      tools.hidden = false;
    });
    listen("changed", show);
    listen("full", (/** @type {CustomEvent} */ event) => {
      const text = `The oldest ${event.detail} requests were removed. Favourites go last.`;
      fill(said, notice("", "The gallery is full", el("p", {}, text)));
    });
    listen("unkept", () => fill(said, notice("", "This browser does not keep the images after you close the tab")));
    fill(
      main,
      el("div", { class: "page-head" }, el("h1", {}, "Generate"), tools),
      el(
        "div",
        { class: "generate" },
        form,
        el("div", { class: "stack results" }, said, pickBar(signal), gallery, older),
      ),
    );
    show();
    showForm();
  },
};

/** Makes a button that gives an element a class, and takes it away again. */
function toggle(text, className, node, changed = () => {}) {
  const press = () => {
    changed();
    toggled.setAttribute("aria-pressed", String(node.classList.toggle(className)));
  };
  const toggled = button(text, press, { class: "compact", "aria-pressed": "false" });
  return toggled;
}

function sameSettings(one, other) {
  const names = new Set([...Object.keys(one), ...Object.keys(other)]);
  return [...names].every((name) => String(one[name] ?? "") === String(other[name] ?? ""));
}

function nothingYet() {
  return empty(
    "No images yet",
    "Press Generate. You see each image while it is drawn. This browser keeps the images. Open one to see how to draw " +
      "it again.",
  );
}
