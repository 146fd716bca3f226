/** Pictures that the service holds: fetched with the key, which an <img> would not send. */

import { send } from "../core/api.js";
import { el } from "../core/dom.js";

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) entry.target.dispatchEvent(new Event("seen"));
}, { rootMargin: "300px" });

/** An image that is fetched once it comes near the screen. signal: when it is no longer needed. */
export function picture(path, alt, { signal, ...properties } = {}) {
  const image = el("img", { alt, class: "picture is-waiting", ...properties });
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
    signal?.addEventListener("abort", () => URL.revokeObjectURL(image.src), { once: true });
    image.classList.remove("is-waiting");
  } catch (error) {
    if (error.name !== "AbortError") image.classList.add("is-missing");
  }
}

/** Small images are shown with their pixels, not blurred. */
export function pixelated(image) {
  image.classList.toggle("is-small", image.naturalWidth < 200);
}
