/** Pictures from the service. They are fetched with the API key, which an <img> would not send. */

import { send } from "../core/api.js";
import { el } from "../core/dom.js";

/** Images with a side below this are shown with sharp pixels. */
const SMALL_PIXELS = 200;

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) entry.target.dispatchEvent(new Event("seen"));
}, { rootMargin: "300px" });

/** Makes an image that is fetched when it comes near the screen. signal: when it is no longer needed. */
export function picture(path, alt, signal) {
  const image = el("img", { alt, class: "picture is-waiting" });
  image.addEventListener("seen", () => load(image, path, signal), { once: true });
  seen.observe(image);
  return image;
}

async function load(image, path, signal) {
  seen.unobserve(image);
  try {
    const blob = await (await send(path, { signal })).blob();
    image.src = URL.createObjectURL(blob);
    image.addEventListener("load", () => pixelated(image), { once: true });
    signal.addEventListener("abort", () => URL.revokeObjectURL(image.src), { once: true });
    image.classList.remove("is-waiting");
  } catch (error) {
    if (error.name !== "AbortError") image.classList.add("is-missing");
  }
}

/** Makes a finished image of the gallery. */
export function drawnPicture(properties) {
  const image = el("img", { class: "picture", ...properties });
  image.addEventListener("load", () => pixelated(image));
  return image;
}

/** Shows a small image with sharp pixels, so that the browser does not blur it. */
function pixelated(image) {
  image.classList.toggle("is-small", image.naturalWidth < SMALL_PIXELS);
}
