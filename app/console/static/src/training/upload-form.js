/** The form that uploads a data set, or registers one where the workers see it. */

import { announce } from "../core/announce.js";
import { put, withQuery } from "../core/api.js";
import { el, fill } from "../core/dom.js";
import { bytes } from "../core/format.js";
import { description, namesIn } from "../core/openapi.js";
import { keepDraft, restoreDraft } from "../components/draft.js";
import { field, input, select, showFaults } from "../components/fields.js";
import { progressBar } from "../components/progress-bar.js";
import { problemNotice } from "../components/states.js";
import { upload } from "./upload.js";

const BUNDLED = "digits"; // comes with the service: neither an archive nor a path

/** The form; onDone gets the registered data set. */
export function uploadForm({ signal, onDone }) {
  const fields = {
    file: field("Archive", input("file", { type: "file", autocomplete: null }), {
      wide: true,
      hint: "A zip with a folder of images for each class.",
    }),
    path: field("Or a path that the workers see", input("path", { placeholder: "/usr/share/datasets/…" }), {
      pointer: "/path",
      wide: true,
    }),
    name: field("Name", input("name", { required: true, maxlength: 100, dir: "auto" }), { pointer: "name" }),
    format: field("Format", select("format", []), { pointer: "format" }),
    image_size: field(
      "Resize to side",
      input("image_size", { type: "number", min: 4, max: 1024, placeholder: "as they are" }),
      { pointer: "image_size", hint: "Needed where sizes differ." },
    ),
    split: field("Split", select("split", ["train", "test", "all"].map((one) => [one, one])), { pointer: "split" }),
    class_names: field(
      "Class names",
      el("textarea", { name: "class_names", rows: 2, dir: "auto", spellcheck: "false" }),
      { pointer: "class_names", wide: true, hint: "One a line, for formats that carry none." },
    ),
  };
  const bar = progressBar("Upload");
  const words = el("span", { class: "small soft", role: "status" });
  const problems = el("div", {});
  const send = el("button", { type: "submit", class: "primary" }, "Register");
  const cancel = el("button", { type: "button", hidden: true }, "Cancel");
  bar.hidden = true;
  const form = el(
    "form",
    { class: "card stack upload", novalidate: true, "aria-labelledby": "upload-title", on: { submit } },
    el("h2", { id: "upload-title" }, "Add a data set"),
    el("div", { class: "fields" }, fields.file, fields.name, fields.format),
    el(
      "details",
      { class: "more" },
      el("summary", {}, "More"),
      el("div", { class: "fields" }, fields.image_size, fields.split, fields.class_names, fields.path),
    ),
    problems,
    bar,
    words,
    el("div", { class: "actions" }, send, cancel),
  );
  keepDraft(form, "upload");
  showFormats();
  const value = (member) => form.elements.namedItem(member).value.trim();
  fields.file.control.addEventListener("change", () => {
    const [file] = fields.file.control.files;
    if (!file) return;
    if (!value("name")) fields.name.control.value = file.name.replace(/\.(zip|npz|tar|gz|tgz)$/gi, "").slice(0, 100);
    fields.name.fault(null);
    if (/\.npz$/i.test(file.name)) fields.format.control.value = "npz";
    words.textContent = bytes(file.size);
  });

  async function showFormats() {
    try {
      const { parameters, requestBody } = (await description()).paths["/v1/datasets"].post;
      const upload = parameters.find((one) => one.name === "format");
      const uploads = namesIn(upload.schema);
      const others = namesIn(requestBody.content["application/json"].schema.properties.format).filter((one) =>
        !uploads.includes(one) && one !== BUNDLED
      );
      fill(
        fields.format.control,
        [...uploads.map((one) => [one, one]), ...others.map((one) => [one, `${one} (path only)`])].map((
          [value, text],
        ) => el("option", { value }, text)),
      );
      fields.format.hint(upload.description);
      restoreDraft(form, "upload");
    } catch (error) {
      if (error.name !== "AbortError") fill(problems, problemNotice(error, { again: showFormats, unasked: true }));
    }
  }

  async function submit(event) {
    event.preventDefault();
    fill(problems);
    for (const one of Object.values(fields)) one.fault(null);
    const [file] = fields.file.control.files;
    if (!file && !value("path")) return refuse(fields.file, "Choose an archive, or name a path.");
    if (!value("name")) return refuse(fields.name, "Give it a name.");
    const controller = new AbortController();
    signal.addEventListener("abort", () => controller.abort(), { once: true });
    cancel.onclick = () => controller.abort();
    busy(true);
    try {
      const dataset = await (file ? sendFile(file, controller.signal) : sendPath(controller.signal));
      form.reset();
      form.dispatchEvent(new Event("input"));
      words.textContent = `${dataset.name} is registered: ${dataset.images} images.`;
      onDone(dataset);
    } catch (error) {
      words.textContent = "";
      if (error.name === "AbortError") words.textContent = "Cancelled.";
      else {
        const named = Object.values(fields);
        for (const one of error.errors || []) one.pointer = one.pointer.replace(/^\/(?!path)/, "");
        const leftOver = error.status === 422 ? showFaults(named, error) : [];
        if (error.status === 409) fields.name.fault(error.message);
        else if (!(error.status === 422 && error.errors.length && !leftOver.length)) {
          fill(problems, problemNotice(error, { leftOver }));
        }
      }
    } finally {
      busy(false);
    }
  }

  function refuse(one, text) {
    one.fault(text);
    one.control.focus();
  }

  function busy(yes) {
    send.disabled = yes;
    cancel.hidden = !yes;
    bar.hidden = !yes;
  }

  function sendFile(file, until) {
    const query = {
      name: value("name"),
      format: value("format"),
      split: value("split") === "train" ? null : value("split"),
      image_size: value("image_size"),
      class_names: names(),
    };
    let told = false;
    return upload(withQuery("/v1/datasets", query), file, {
      signal: until,
      onProgress: (sent, total) => {
        bar.set(sent, total);
        words.textContent = sent < total
          ? `${bytes(sent)} of ${bytes(total)} sent`
          : "Sent. The service is reading it…";
        if (sent >= total && !told) {
          told = true;
          announce("Sent. The service is reading it.");
        }
      },
    });
  }

  function sendPath(until) {
    words.textContent = "The service is reading it…";
    const body = { name: value("name"), format: value("format"), path: value("path"), split: value("split") };
    if (value("image_size")) body.image_size = Number(value("image_size"));
    if (names().length) body.class_names = names();
    return put("POST", "/v1/datasets", body, { signal: until });
  }

  const names = () => value("class_names").split("\n").map((line) => line.trim()).filter(Boolean);
  return form;
}
