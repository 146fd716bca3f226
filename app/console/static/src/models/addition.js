/** Adds a weights file as a version of a model. */

import { button } from "../components/button.js";
import { field } from "../components/fields.js";
import { progressBar } from "../components/progress-bar.js";
import { notice, showProblem } from "../components/states.js";
import { el, fill } from "../core/dom.js";
import { upload } from "../training/upload.js";

/** Makes the part. onAdded: called after the service has taken the file. said: shows how it went. */
export function versionAddition(model, { said, onAdded, signal }) {
  const file = el("input", { type: "file", accept: ".safetensors", name: "weights" });
  const bar = progressBar("Sending");
  bar.hidden = true;
  const send = button("Add a version", add);
  const named = field("Weights file", file, {
    hint: "A safetensors file of darkroom train, or downloaded here or elsewhere.",
  });

  async function add() {
    if (!file.files.length) {
      named.fault("Choose a file.");
      file.focus();
      return;
    }
    bar.hidden = false;
    send.disabled = true;
    try {
      const path = `/v1/models/${encodeURIComponent(model)}/versions`;
      const version = await upload(path, file.files[0], { signal, onSent: bar.set });
      fill(said, notice("good", `Version ${version.version} is added`));
      await onAdded();
    } catch (error) {
      showProblem(said, error);
    } finally {
      bar.hidden = true;
      send.disabled = false;
      said.scrollIntoView({ block: "center" });
    }
  }
  return el("div", { class: "stack" }, named, bar, el("div", { class: "actions" }, send));
}
