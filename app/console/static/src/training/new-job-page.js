/** The page with the form that starts a training job, or a sweep of them. */

import { loading, showProblem } from "../components/states.js";
import { trainingNav } from "../components/sub-nav.js";
import { get, pagesOf } from "../core/api.js";
import { el, fill } from "../core/dom.js";
import { jobForm } from "./job-form.js";

export const newJobPage = {
  title: () => "New training job",
  async render(main, { query, signal }) {
    const place = el("div", {}, loading("Loading recipes and data sets"));
    const head = el("div", { class: "page-head" }, el("h1", {}, "New training job"));
    fill(main, trainingNav("#/training/new"), head, place);
    const begin = async () => {
      try {
        const [{ recipes }, datasets] = await Promise.all([get("/v1/recipes", { signal }), allDatasets(signal)]);
        fill(place, jobForm({ recipes, datasets, query, signal }));
      } catch (error) {
        showProblem(place, error, { again: begin, unasked: true });
      }
    };
    await begin();
  },
};

async function allDatasets(signal) {
  const found = [];
  for await (const page of pagesOf("/v1/datasets", { signal })) found.push(...page.datasets);
  return found;
}
