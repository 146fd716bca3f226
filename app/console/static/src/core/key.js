/** The API key, kept for this tab only. */

const STORED = "darkroom-key";

/** The key, or null. */
export function currentKey() {
  return sessionStorage.getItem(STORED);
}

/** Keep a key; null forgets it. */
export function keepKey(key) {
  if (key) sessionStorage.setItem(STORED, key);
  else sessionStorage.removeItem(STORED);
  document.dispatchEvent(new Event("keychange"));
}

/** The header that proves it. */
export function authorization() {
  const key = currentKey();
  return key ? { Authorization: `Bearer ${key}` } : {};
}
