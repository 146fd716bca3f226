/** What a planned training would be: what to expect, warnings, and each choice with its reason. */

import { loading, notice, showProblem } from "../components/states.js";
import { scrolledTable } from "../components/table.js";
import { get } from "../core/api.js";
import { el, fill } from "../core/dom.js";
import { until } from "../core/format.js";
import { toJson } from "../core/json.js";

const TYPING_MILLISECONDS = 400;

/**
 * Makes the part. wanted: returns {dataset, minutes, device} of the form, or null when there is nothing to plan.
 * onPlan: gets each plan. The result has `node` and `look()`, which plans again soon.
 */
export function planPart({ wanted, onPlan, signal }) {
  const node = el("div", { class: "stack", "aria-live": "polite" });
  let typing = null;
  let latest = 0;

  async function ask(number) {
    const query = wanted();
    if (!query) return fill(node);
    try {
      const plan = await get("/v1/plan", { query, signal });
      if (number !== latest) return;
      fill(node, expectation(plan, 60 * plan.minutes), reasons(plan.choices));
      onPlan(plan);
    } catch (error) {
      if (number === latest) showProblem(node, error, { again: look, unasked: true });
    }
  }

  function look() {
    latest += 1;
    const number = latest;
    clearTimeout(typing);
    if (wanted() && !node.children.length) fill(node, loading("Planning"));
    typing = setTimeout(() => ask(number), TYPING_MILLISECONDS);
  }
  return { node, look };
}

/** Makes the words about a plan. seconds: how long it runs from now on, or null. */
export function expectation({ expectation: words, warnings }, seconds = null) {
  const end = seconds === null ? "" : ` Started now, it ends at about ${until(seconds)}.`;
  const said = warnings.map((one) => el("p", {}, `${one}.`));
  return [el("p", {}, words + end), warnings.length ? notice("", "What to know", said) : null].filter(Boolean);
}

/** Makes the table of a plan's choices, folded. */
export function reasons(choices) {
  const rows = choices.map(({ field, value, why }) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, el("code", {}, field)),
      el("td", {}, el("code", {}, toJson(value).replaceAll(",", ", "))),
      el("td", {}, why),
    )
  );
  const table = scrolledTable("Choices of the plan", ["Field", "Value", "Because"], rows);
  return el("details", { class: "more" }, el("summary", {}, "Every choice and its reason"), table);
}
