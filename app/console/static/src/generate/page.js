/** The page Generate. */

import { quietButton } from "../components/button.js";
import { empty, loading, problemNotice } from "../components/states.js";
import { el, fill } from "../core/dom.js";
import { settingsOf } from "./facts.js";
import { generateForm } from "./form.js";
import { pickBar } from "./picks.js";
import { begin, changes, clearEnded, Run, runs } from "./run.js";
import { runView } from "./run-view.js";
import { loadSettings } from "./settings.js";

const MORE = 8;

export const generatePage = {
  title: () => "Generate",
  render(main, { query, signal }) {
    const gallery = el("div", { class: "stack", id: "gallery" });
    const clear = quietButton("Clear", clearEnded);
    let form = loading();
    const view = (run) => runView(run, { signal, onMore: more });
    const show = () => {
      clear.hidden = runs.length === 0;
      fill(gallery, runs.length ? runs.map(view) : nothingYet());
    };

    async function showForm() {
      let shown;
      try {
        await loadSettings();
        shown = generateForm({ query, signal, onSubmit: draw });
      } catch (error) {
        if (error.name === "AbortError") return;
        shown = problemNotice(error, { again: showForm, unasked: true });
      }
      form.replaceWith(shown);
      form = shown;
    }

    /** Begins a run. When the service refuses the request itself, the form shows why and the run is removed. */
    function draw({ body, title, expected }) {
      const run = new Run("generate", body, title, expected);
      run.addEventListener("status", () => {
        if (run.status !== "failed" || run.problem.status !== 422) return;
        form.faults(run.problem);
        runs.splice(runs.indexOf(run), 1);
        show();
      }, { signal });
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

    changes.addEventListener("begun", (/** @type {CustomEvent} */ event) => {
      if (runs.length === 1) fill(gallery);
      gallery.prepend(view(event.detail));
      clear.hidden = false;
    }, { signal });
    changes.addEventListener("cleared", show, { signal });
    fill(
      main,
      el("div", { class: "page-head" }, el("h1", {}, "Generate"), el("div", { class: "actions" }, clear)),
      el("div", { class: "generate" }, form, el("div", { class: "stack results" }, pickBar(signal), gallery)),
    );
    show();
    showForm();
  },
};

function nothingYet() {
  return empty(
    "No images yet",
    "Choose classes and press Generate. You see each image while it is drawn. Open it to see how to draw it again.",
  );
}
