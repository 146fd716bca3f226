/** The API key, kept for this tab only. */

const STORED = "darkroom-key";

/** Returns the key, or null. */
export function currentKey() {
  return sessionStorage.getItem(STORED);
}

/** Stores a key. null forgets it. */
export function keepKey(key) {
  if (key) sessionStorage.setItem(STORED, key);
  else sessionStorage.removeItem(STORED);
  document.dispatchEvent(new Event("keychange"));
}

/** Tells the pages that the user was asked for a key and gave none. */
export function keyDeclined() {
  document.dispatchEvent(new Event("keydeclined"));
}

/** Returns the header that carries the key. */
export function authorization() {
  const key = currentKey();
  return key ? { Authorization: `Bearer ${key}` } : {};
}
