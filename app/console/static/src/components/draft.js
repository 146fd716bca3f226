/** What was typed into a form, kept for this tab: leaving the page, or the service's absence, loses nothing. */

/** Fill the form from its draft, and keep the draft as it changes. */
export function keepDraft(form, name) {
  restoreDraft(form, name);
  const keep = () => sessionStorage.setItem(key(name), JSON.stringify(read(form)));
  form.addEventListener("input", keep);
  form.addEventListener("change", keep);
  return keep;
}

/** Forget it. */
export function dropDraft(name) {
  sessionStorage.removeItem(key(name));
}

/** Fill what the draft has a value for. */
export function restoreDraft(form, name) {
  let draft = null;
  try {
    draft = JSON.parse(sessionStorage.getItem(key(name)));
  } catch {
    dropDraft(name);
  }
  for (const [field, value] of Object.entries(draft || {})) {
    const control = form.elements.namedItem(field);
    if (!control || control instanceof RadioNodeList || control.type === "file") continue;
    if (control.type === "checkbox") control.checked = value;
    else if (!(control instanceof HTMLSelectElement) || [...control.options].some((one) => one.value === value)) {
      control.value = value;
    }
  }
}

const key = (name) => `darkroom-draft-${name}`;

function read(form) {
  const values = {};
  for (const control of form.elements) {
    if (!control.name || control.type === "file" || control.dataset.undrafted !== undefined) continue;
    values[control.name] = control.type === "checkbox" ? control.checked : control.value;
  }
  return values;
}
