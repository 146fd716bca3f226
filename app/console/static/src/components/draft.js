/** Keeps what the user types into a form for this tab, also when the page or the service goes away. */

const key = (name) => `darkroom-draft-${name}`;

/** Fills the form from its draft, and stores the draft after each change. Returns the function that stores it. */
export function keepDraft(form, name) {
  restoreDraft(form, name);
  const keep = () => sessionStorage.setItem(key(name), JSON.stringify(read(form)));
  form.addEventListener("input", keep);
  form.addEventListener("change", keep);
  return keep;
}

/** Forgets the draft. */
export function dropDraft(name) {
  sessionStorage.removeItem(key(name));
}

/** Fills the fields for which the draft has a value. A choice that has lost its option stays as it is. */
export function restoreDraft(form, name) {
  let draft = null;
  try {
    draft = JSON.parse(sessionStorage.getItem(key(name)));
  } catch {
    dropDraft(name);
  }
  for (const [field, value] of Object.entries(draft || {})) {
    const control = form.elements.namedItem(field);
    if (!control || control.type === "file") continue;
    if (control.type === "checkbox") control.checked = value;
    else if (!control.options || [...control.options].some((one) => one.value === value)) control.value = value;
  }
}

function read(form) {
  const values = {};
  for (const control of form.elements) {
    if (!control.name || control.type === "file" || control.dataset.undrafted !== undefined) continue;
    if (control.type === "radio" && !control.checked) continue;
    values[control.name] = control.type === "checkbox" ? control.checked : control.value;
  }
  return values;
}
