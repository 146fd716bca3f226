/** The form that uploads a data set, or registers one by a path that the workers can read. */

import { button } from "../components/button.js";
import { keepDraft, restoreDraft } from "../components/draft.js";
import {
  clearFaults,
  field,
  filledIn,
  input,
  options,
  refuse,
  select,
  showFaults,
  textarea,
} from "../components/fields.js";
import { progressBar } from "../components/progress-bar.js";
import { showProblem } from "../components/states.js";
import { announce } from "../core/announce.js";
import { put, withQuery } from "../core/api.js";
import { el, fill } from "../core/dom.js";
import { bytes } from "../core/format.js";
import { description, namesIn } from "../core/openapi.js";
import { upload } from "./upload.js";

const BUNDLED = "digits"; // comes with the service, so that nobody uploads it
const DRAFT = "upload";
const READING = "Sent. The service is reading the file.";
const MOST_NAME_LETTERS = 100;

/** Makes the form. onDone gets the registered data set. */
export function uploadForm({ signal, onDone }) {
  const fields = fieldsOf();
  const allFields = Object.values(fields);
  const bar = progressBar("Upload");
  const words = el("span", { class: "small soft", role: "status" });
  const problems = el("div", {});
  const send = el("button", { type: "submit", class: "primary" }, "Register");
  const cancel = button("Cancel", () => controller.abort(), { hidden: true });
  const form = layout(fields, [problems, bar, words, el("div", { class: "actions" }, send, cancel)]);
  const value = (member) => form.elements.namedItem(member).value.trim();
  let controller = new AbortController();
  bar.hidden = true;
  keepDraft(form, DRAFT);
  showFormats();
  form.addEventListener("submit", submit);
  signal.addEventListener("abort", () => controller.abort());
  fields.file.control.addEventListener("change", () => {
    const [file] = fields.file.control.files;
    if (!file) return;
    if (!value("name")) fields.name.control.value = nameFor(file);
    fields.name.fault(null);
    if (/\.npz$/i.test(file.name)) fields.format.control.value = "npz";
    words.textContent = bytes(file.size);
  });

  async function showFormats() {
    try {
      const { parameters, requestBody } = (await description()).paths["/v1/datasets"].post;
      const upload = parameters.find((one) => one.name === "format");
      const uploads = namesIn(upload.schema);
      const all = namesIn(requestBody.content["application/json"].schema.properties.format);
      const others = all.filter((one) => !uploads.includes(one) && one !== BUNDLED);
      fill(fields.format.control, options([...uploads, ...others.map((one) => [one, `${one} (path only)`])]));
      fields.format.hint(upload.description);
      restoreDraft(form, DRAFT);
    } catch (error) {
      showProblem(problems, error, { again: showFormats, unasked: true });
    }
  }

  async function submit(event) {
    event.preventDefault();
    fill(problems);
    clearFaults(allFields);
    const [file] = fields.file.control.files;
    const [faulty, text] = missing(file);
    if (faulty) {
      refuse(faulty, text);
      return;
    }
    controller = new AbortController();
    setBusy(true);
    try {
      const dataset = await (file ? sendFile(file) : sendPath());
      form.reset();
      form.dispatchEvent(new Event("input"));
      words.textContent = `${dataset.name} is registered: ${dataset.images} images.`;
      onDone(dataset);
    } catch (error) {
      words.textContent = error.name === "AbortError" ? "Cancelled." : "";
      showRefusal(error);
    } finally {
      setBusy(false);
    }
  }

  function missing(file) {
    if (!file && !value("path")) return [fields.file, "Choose an archive, or give a path."];
    return value("name") ? [] : [fields.name, "Enter a name."];
  }

  function showRefusal(error) {
    if (error.status === 409) {
      fields.name.fault(error.message);
      return;
    }
    // the pointers of an upload name members of its query, and those of a path name members of its body
    for (const one of error.errors || []) one.pointer = one.pointer.replace(/^\/(?!path)/, "");
    const hasFaults = error.status === 422 && error.errors.length > 0;
    const leftOver = hasFaults ? showFaults(allFields, error) : [];
    if (!hasFaults || leftOver.length) showProblem(problems, error, { leftOver });
  }

  function setBusy(busy) {
    send.disabled = busy;
    cancel.hidden = !busy;
    bar.hidden = !busy;
  }

  function sendFile(file) {
    const query = {
      name: value("name"),
      format: value("format"),
      split: value("split") === "train" ? null : value("split"),
      image_size: value("image_size"),
      class_names: classNames(),
    };
    let told = false;
    const onProgress = (sent, total) => {
      bar.set(sent, total);
      words.textContent = sent < total ? `${bytes(sent)} of ${bytes(total)} sent` : READING;
      if (sent < total || told) return;
      told = true;
      announce(READING);
    };
    return upload(withQuery("/v1/datasets", query), file, { signal: controller.signal, onProgress });
  }

  function sendPath() {
    words.textContent = "The service is reading the files at the path.";
    const body = {
      ...filledIn(form, ["name", "format", "path", "split"]),
      ...filledIn(form, ["image_size"], Number),
    };
    if (classNames().length) body.class_names = classNames();
    return put("POST", "/v1/datasets", body, { signal: controller.signal });
  }

  const classNames = () => value("class_names").split("\n").map((line) => line.trim()).filter(Boolean);
  return form;
}

function fieldsOf() {
  const size = { type: "number", min: 4, max: 1024, placeholder: "as they are" };
  const path = input("path", { placeholder: "/usr/share/datasets/…" });
  const name = input("name", { required: true, maxlength: MOST_NAME_LETTERS, dir: "auto" });
  return {
    file: field("Archive", input("file", { type: "file", autocomplete: null }), {
      wide: true,
      hint: "A zip with one folder of images for each class.",
    }),
    path: field("Or a path that the workers can read", path, { pointer: "/path", wide: true }),
    name: field("Name", name, { pointer: "name" }),
    format: field("Format", select("format", []), { pointer: "format" }),
    image_size: field("Resize to side", input("image_size", size), {
      pointer: "image_size",
      hint: "Needed when the images differ in size.",
    }),
    split: field("Split", select("split", ["train", "test", "all"]), { pointer: "split" }),
    class_names: field("Class names", textarea("class_names", { rows: 2, dir: "auto" }), {
      pointer: "class_names",
      wide: true,
      hint: "One on each line, for formats without class names.",
    }),
  };
}

function layout({ file, name, format, image_size, split, class_names, path }, rest) {
  const more = el("div", { class: "fields" }, image_size, split, class_names, path);
  return el(
    "form",
    { class: "card stack upload", novalidate: true, "aria-labelledby": "upload-title" },
    el("h2", { id: "upload-title" }, "Add a data set"),
    el("div", { class: "fields" }, file, name, format),
    el("details", { class: "more" }, el("summary", {}, "More"), more),
    rest,
  );
}

function nameFor(file) {
  return file.name.replace(/\.(zip|npz|tar|gz|tgz)$/gi, "").slice(0, MOST_NAME_LETTERS);
}
