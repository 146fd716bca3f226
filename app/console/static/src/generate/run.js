/** A run: one request for images, with what has come so far. It continues when the user leaves the page. */

import { send } from "../core/api.js";
import { eventsOf } from "../core/event-stream.js";
import { toJson } from "../core/json.js";
import { ApiProblem } from "../core/problem.js";
import { factsOf } from "./facts.js";

/**
 * kind: generate or interpolate. expected: {class, class_index} of each image that will come.
 * beside: the id of the run that this one is compared with.
 */
export class Run extends EventTarget {
  constructor(kind, body, title, expected, beside = null) {
    super();
    this.id = freshId();
    this.kind = kind;
    this.body = body;
    this.title = title;
    this.beside = beside;
    this.images = expected.map((one, row) => ({ row, index: row, png: null, finished: false, score: null, ...one }));
    this.status = "waiting";
    this.progress = { done: 0, total: 0 };
    this.facts = null;
    this.timings = null;
    this.problem = null;
    this.controller = new AbortController();
  }

  /** Makes an ended run from its record. */
  static from(record) {
    const run = new Run(record.kind, record.body, record.title, []);
    return Object.assign(run, record);
  }

  /** Returns what is stored of an ended run, with its finished images. */
  record() {
    const { id, kind, body, title, beside, facts, timings } = this;
    const status = this.status === "done" ? "done" : "cancelled";
    return { id, kind, body, title, beside, status, facts, timings, images: this.images.filter((one) => one.finished) };
  }

  get isOpen() {
    return this.status === "waiting" || this.status === "running";
  }

  cancel() {
    this.controller.abort();
  }

  /** Sends the request and takes what comes. An error becomes the status `failed` and is kept in `problem`. */
  async start() {
    this.controller = new AbortController();
    this.problem = null;
    this.become("waiting");
    try {
      const answer = await send(`/v1/${this.kind}`, {
        method: "POST",
        headers: { "Content-Type": "application/json", Accept: "text/event-stream" },
        body: toJson({ ...this.body, stream: true, preview_every_steps: previewEvery(this.body.steps) }),
        signal: this.controller.signal,
      });
      this.facts = factsOf(answer.headers);
      this.become("running");
      for await (const event of eventsOf(answer)) this.take(event);
      if (this.isOpen) throw new Error("The answer ended before its last image. Try again.");
    } catch (error) {
      if (error.name === "AbortError") {
        this.become("cancelled");
        return;
      }
      this.problem = error;
      this.become("failed");
    }
  }

  take({ kind, data }) {
    if (kind === "preview" || kind === "image") this.takePicture(data, kind === "image");
    else if (kind === "progress") {
      this.progress = { done: data.done_steps, total: data.total_steps };
      this.dispatchEvent(new Event("progress"));
    } else if (kind === "done") {
      this.timings = data.timings;
      this.facts.choice ??= data.choice;
      this.become("done");
    } else if (kind === "error") throw new ApiProblem(data.status, data, new Headers());
  }

  takePicture(data, finished) {
    let image = this.images.find((one) => one.row === data.row);
    if (finished && this.body.best_of) {
      // Rows count all images that are drawn. The best of them come last, in the order of the answer.
      image = this.images.find((one) => !one.finished);
    }
    if (!image) return; // a preview of an image that may not be among the best
    Object.assign(image, {
      png: data.png,
      finished,
      index: data.index,
      class: data.class,
      class_index: data.class_index,
      score: data.score ?? null,
    });
    this.dispatchEvent(new CustomEvent("image", { detail: image }));
  }

  become(status) {
    this.status = status;
    this.dispatchEvent(new Event("status"));
  }
}

function previewEvery(steps) {
  return steps && steps < 12 ? 1 : 4;
}

/** Returns an id that is greater than those before. */
function freshId() {
  return `${Date.now()}-${Math.random().toString(36).slice(2)}`;
}
