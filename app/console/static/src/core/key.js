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

/** Say that somebody was asked for a key, and gave none. */
export function keyDeclined() {
  document.dispatchEvent(new Event("keydeclined"));
}

/** The header that proves it. */
export function authorization() {
  const key = currentKey();
  return key ? { Authorization: `Bearer ${key}` } : {};
}
