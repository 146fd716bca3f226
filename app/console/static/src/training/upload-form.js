/** The form that uploads a folder or an archive as a data set, or registers one by a path that the workers can read. */

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
import { notice, showProblem } from "../components/states.js";
import { announce } from "../core/announce.js";
import { withQuery } from "../core/api.js";
import { el, fill } from "../core/dom.js";
import { awaitResult } from "../core/event-stream.js";
import { bytes, several, whole } from "../core/format.js";
import { toJson } from "../core/json.js";
import { description, namesIn } from "../core/openapi.js";
import { takeDropped } from "./drop.js";
import { fitPreview } from "./fit-preview.js";
import { pickedIn, picturesIn } from "./picked-files.js";
import { upload } from "./upload.js";

const BUNDLED = "digits"; // comes with the service, so that nobody uploads it
const DRAFT = "upload";
const READING = "Sent. The service is reading the file.";
const MOST_NAME_LETTERS = 100;
const MOST_DAMAGED = 1000;

/** Makes the form. onDone gets the registered data set, and true where the user wants to train on it next. */
export function uploadForm({ signal, onDone }) {
  const fields = fieldsOf();
  const preview = fitPreview();
  const allFields = Object.values(fields);
  const bar = progressBar("Upload");
  const words = el("span", { class: "small soft", role: "status" });
  const problems = el("div", {});
  const send = el("button", { type: "submit", class: "primary" }, "Register");
  const train = button("Register and train", () => register({ training: true }));
  const cancel = button("Cancel", () => controller.abort(), { hidden: true });
  const form = layout(fields, preview, [problems, bar, words, el("div", { class: "actions" }, send, train, cancel)]);
  const value = (member) => form.elements.namedItem(member).value.trim();
  let controller = new AbortController();
  let picked = null;
  bar.hidden = true;
  keepDraft(form, DRAFT);
  showFormats();
  form.addEventListener("submit", submit);
  signal.addEventListener("abort", () => controller.abort());
  for (const one of [fields.file, fields.folder]) {
    one.control.addEventListener("change", () => take(pickedIn(one.control), one));
  }
  fields.image_size.control.addEventListener("input", () => preview.draw(Number(value("image_size"))));
  document.addEventListener("filesdropped", showDropped, { signal });
  showDropped(); // on another page

  async function showDropped() {
    const files = takeDropped();
    if (!files) return;
    words.textContent = "Reading the folder…";
    setUsable(false);
    try {
      take(await files, null);
    } catch (error) {
      words.textContent = "";
      showProblem(problems, error);
    } finally {
      setUsable(true);
    }
  }

  /** Takes what the user chose or dropped, in place of what was taken before. */
  async function take(found, from) {
    for (const one of [fields.file, fields.folder]) {
      one.fault(null);
      if (one !== from) one.control.value = "";
    }
    picked = found;
    words.textContent = found ? `${counted(found)}. Nothing is sent yet.` : "";
    if (found) {
      if (!value("name")) fields.name.control.value = found.name.slice(0, MOST_NAME_LETTERS);
      fields.name.fault(null);
      const { control: format } = fields.format;
      if (/\.npz$/i.test(found.archive?.name)) format.value = "npz";
      else if (format.value === "npz") format.value = "zip";
    }
    const pictures = found ? await picturesIn(found) : [];
    if (picked === found) await preview.show(pictures); // else the user has chosen again meanwhile
    fields.image_size.control.placeholder = preview.side ?? "as they are";
  }

  async function showFormats() {
    try {
      const { paths, components } = await description();
      const upload = paths["/v1/datasets"].post.parameters.find((one) => one.name === "format");
      const uploads = namesIn(upload.schema);
      const all = namesIn(components.schemas.CreateDatasetBody.properties.format);
      const others = all.filter((one) => !uploads.includes(one) && one !== BUNDLED);
      fill(fields.format.control, options([...uploads, ...others.map((one) => [one, `${one} (path only)`])]));
      fields.format.hint(upload.description);
      restoreDraft(form, DRAFT);
    } catch (error) {
      showProblem(problems, error, { again: showFormats, unasked: true });
    }
  }

  function submit(event) {
    event.preventDefault();
    return register();
  }

  /** Registers the data set. replace: in place of the one that has this name. training: to train on it next. */
  async function register({ replace = false, training = false } = {}) {
    fill(problems);
    clearFaults(allFields);
    const [faulty, text] = missing();
    if (faulty) {
      refuse(faulty, text);
      return;
    }
    controller = new AbortController();
    setBusy(true);
    try {
      const dataset = await (picked ? sendPicked(replace) : sendPath(replace));
      form.reset();
      take(null, null);
      form.dispatchEvent(new Event("input"));
      words.textContent = `${dataset.name} is registered: ${several(dataset.images, "image")}.${leftOut(dataset)}`;
      onDone(dataset, training);
    } catch (error) {
      words.textContent = error.name === "AbortError" ? "Cancelled." : "";
      showRefusal(error, { replace, training });
    } finally {
      setBusy(false);
    }
  }

  function missing() {
    if (!picked && !value("path")) return [fields.folder, "Choose a folder or an archive, or give a path."];
    if (picked && !picked.archive && picked.files.every(({ path }) => !path.includes("/"))) {
      return [fields.folder, "Put the pictures into one folder for each class, and choose the folder around them."];
    }
    return value("name") ? [] : [fields.name, "Enter a name."];
  }

  /** asked: what `register` was called with. */
  function showRefusal(error, asked) {
    if (error.kind === "dataset-exists") {
      fields.name.fault(error.message);
      const again = button("Replace it", () => register({ ...asked, replace: true }));
      const text = "The data set of this name stays as an earlier version, and its jobs keep it.";
      fill(problems, notice("", "The name is taken", el("p", {}, text), el("div", { class: "actions" }, again)));
      return;
    }
    if (error.details?.damaged) {
      fill(
        problems,
        damagedNotice(error.details, () => {
          fields.skip_damaged.control.checked = true;
          register(asked);
        }),
      );
      return;
    }
    // the pointers of an upload name members of its query, and those of a path name members of its body
    for (const one of error.errors || []) one.pointer = one.pointer.replace(/^\/(?!path)/, "");
    const hasFaults = error.status === 422 && error.errors.length > 0;
    const leftOver = hasFaults ? showFaults(allFields, error) : [];
    if (!hasFaults || leftOver.length) showProblem(problems, error, { leftOver });
  }

  function setUsable(usable) {
    send.disabled = train.disabled = !usable;
  }

  function setBusy(busy) {
    setUsable(!busy);
    cancel.hidden = !busy;
    bar.hidden = !busy;
  }

  function sendPicked(replace) {
    const { archive, files } = picked;
    const query = {
      name: replace ? null : value("name"),
      format: archive ? value("format") : null,
      split: value("split") === "train" ? null : value("split"),
      image_size: value("image_size") || preview.side,
      fit: value("fit") === "crop" ? null : value("fit"),
      ground: value("ground"),
      skip_damaged: fields.skip_damaged.control.checked || null,
      class_names: classNames(),
    };
    let told = false;
    const onSent = (sent, total) => {
      bar.set(sent, total);
      words.textContent = sent < total ? `${bytes(sent)} of ${bytes(total)} sent` : READING;
      if (sent < total || told) return;
      told = true;
      announce(READING);
    };
    const [method, path] = target(replace);
    const options = { method, signal: controller.signal, onSent, onProgress };
    return upload(withQuery(path, query), archive || formOf(files), options);
  }

  function onProgress(event) {
    words.textContent = bar.show(event);
  }

  const target = (replace) =>
    replace ? ["PUT", `/v1/datasets/${encodeURIComponent(value("name"))}`] : ["POST", "/v1/datasets"];

  function sendPath(replace) {
    words.textContent = "The service is reading the files at the path.";
    const body = {
      ...filledIn(form, [...(replace ? [] : ["name"]), "format", "path", "split", "fit", "ground"]),
      ...filledIn(form, ["image_size"], Number),
      skip_damaged: fields.skip_damaged.control.checked,
      ...(classNames().length ? { class_names: classNames() } : {}),
    };
    const [method, path] = target(replace);
    const headers = { "Content-Type": "application/json" };
    return awaitResult(path, { method, headers, body: toJson(body), signal: controller.signal, onProgress });
  }

  const classNames = () => value("class_names").split("\n").map((line) => line.trim()).filter(Boolean);
  return form;
}

function fieldsOf() {
  const size = { type: "number", min: 4, max: 1024, placeholder: "proposed" };
  const folder = input(null, { type: "file", autocomplete: null, webkitdirectory: true, multiple: true });
  const path = input("path", { placeholder: "/usr/share/datasets/…" });
  const name = input("name", { required: true, maxlength: MOST_NAME_LETTERS, dir: "auto" });
  return {
    folder: field("Folder", folder, { wide: true, hint: "With one folder of pictures for each class." }),
    file: field("Or an archive", input("file", { type: "file", autocomplete: null }), {
      wide: true,
      hint: "A zip of such a folder, or arrays.",
    }),
    path: field("Or a path that the workers can read", path, { pointer: "/path", wide: true }),
    name: field("Name", name, { pointer: "name" }),
    format: field("Format", select("format", []), { pointer: "format" }),
    image_size: field("Side in pixels", input("image_size", size), { pointer: "image_size" }),
    skip_damaged: field("Leave out damaged pictures", input("skip_damaged", { type: "checkbox" }), {
      pointer: "skip_damaged",
    }),
    split: field("Split", select("split", ["train", "test", "all"]), { pointer: "split" }),
    class_names: field("Class names", textarea("class_names", { rows: 2, dir: "auto" }), {
      pointer: "class_names",
      wide: true,
      hint: "One on each line, for formats without class names.",
    }),
  };
}

function layout({ folder, file, name, format, image_size, skip_damaged, split, class_names, path }, preview, rest) {
  const more = el("div", { class: "fields" }, format, image_size, split, skip_damaged, class_names, path);
  return el(
    "form",
    { class: "card stack upload", novalidate: true, "aria-labelledby": "upload-title" },
    el("h2", { id: "upload-title" }, "Add a data set"),
    el("p", { class: "soft small" }, "Drop a folder or a zip on any page, or choose one."),
    el("div", { class: "fields" }, folder, file, preview, name),
    el("details", { class: "more" }, el("summary", {}, "More"), more),
    rest,
  );
}

function formOf(files) {
  const form = new FormData();
  for (const { path, blob } of files) form.append("files", blob(), path);
  return form;
}

function counted({ archive, files }) {
  const size = files.reduce((sum, { blob }) => sum + blob().size, 0);
  return archive ? bytes(size) : `${several(files.length, "file")}, ${bytes(size)}`;
}

function damagedNotice({ damaged, damaged_pictures }, goOn) {
  const shown = damaged_pictures.slice(0, MOST_DAMAGED);
  const rest = damaged - shown.length;
  return notice(
    "problem",
    damaged === 1 ? "One picture cannot be read" : `${whole(damaged)} pictures cannot be read`,
    el(
      "ul",
      { class: "faults" },
      shown.map((one) => el("li", {}, one)),
      rest > 0 && el("li", {}, `and ${whole(rest)} more`),
    ),
    el("div", { class: "actions" }, button("Go on without them", goOn)),
  );
}

/** Says what of an upload is not in the data set. */
export function leftOut({ left_out, splits }) {
  const parts = [
    left_out?.junk && `no pictures: ${whole(left_out.junk)}`,
    left_out?.damaged && `damaged: ${whole(left_out.damaged)}`,
    ...splits.filter((one) => !one.used).map((one) => `in the folder ${one.folder}: ${whole(one.images)}`),
  ];
  const said = parts.filter(Boolean);
  return said.length ? ` Files left out: ${said.join("; ")}.` : "";
}
