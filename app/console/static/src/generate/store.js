/** Keeps runs in this browser (IndexedDB). Seeds are BigInts, which it stores as they are. */

const [DATABASE, RUNS] = ["darkroom-gallery", "runs"];

let opening = null;

function database() {
  opening ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(DATABASE, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(RUNS, { keyPath: "id" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return opening;
}

async function within(mode, act) {
  const found = await database();
  return new Promise((resolve, reject) => {
    const transaction = found.transaction(RUNS, mode);
    const request = act(transaction.objectStore(RUNS));
    transaction.oncomplete = () => resolve(request?.result);
    transaction.onabort = transaction.onerror = () => reject(transaction.error);
  });
}

/** Returns all records. */
export const storedRecords = () => within("readonly", (runs) => runs.getAll());

/** Adds a record, or replaces that of the same id. */
export const storeRecord = (record) => within("readwrite", (runs) => runs.put(record));

/** Removes records. */
export const removeRecords = (ids) => within("readwrite", (runs) => void ids.forEach((id) => runs.delete(id)));
