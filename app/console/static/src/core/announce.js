/** Short messages that a screen reader speaks. */

/** Speaks the text once. The region is emptied first, so that the same text twice is spoken twice. */
export function announce(text) {
  const region = document.getElementById("announcer");
  region.textContent = "";
  requestAnimationFrame(() => {
    region.textContent = text;
  });
}
