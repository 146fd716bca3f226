/** The page Generate. */

import { el, fill } from "../core/dom.js";
import { empty, loading, problemNotice } from "../components/states.js";
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
    const clear = el("button", { type: "button", class: "quiet compact", on: { click: clearEnded } }, "Clear");
    let form = loading();
    const view = (run) => runView(run, { signal, onMore: more });
    const show = () => {
      clear.hidden = runs.length === 0;
      fill(
        gallery,
        runs.length ? runs.map(view) : empty(
          "Nothing drawn yet",
          "Choose classes and press Generate. Images appear while they take shape; each tells how it is made again.",
        ),
      );
    };

    async function showForm() {
      let shown;
      try {
        await loadSettings();
        shown = generateForm({
          query,
          signal,
          onSubmit: ({ body, title, expected }) => watch(begin(new Run("generate", body, title, expected))),
        });
      } catch (error) {
        if (error.name === "AbortError") return;
        shown = problemNotice(error, { again: showForm, unasked: true });
      }
      form.replaceWith(shown);
      form = shown;
    }

    /** What the service says against the request belongs to the form. */
    function watch(run) {
      run.addEventListener("status", () => {
        if (run.status === "failed" && run.problem.status === 422) {
          form.faults(run.problem);
          runs.splice(runs.indexOf(run), 1);
          show();
        }
      }, { signal });
    }

    function more(run, image) {
      const first = Math.max(...run.images.map((one) => one.index)) + 1;
      const body = { ...settingsOf(run.facts), class: image.class, seed: run.facts.seed, first_index: first, n: MORE };
      form.useSeed(run.facts.seed);
      watch(
        begin(
          new Run(
            "generate",
            body,
            [image.class],
            Array.from({ length: MORE }, () => ({ class: image.class, class_index: image.class_index })),
          ),
        ),
      );
    }

    changes.addEventListener("begun", (event) => {
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
