/** Keeps records with an `id` in this browser (IndexedDB). BigInts are stored as they are. */

const DATABASE = "darkroom";
const STORES = ["runs", "grids"];

let opening = null;

function database() {
  opening ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(DATABASE, 1);
    request.onupgradeneeded = () => {
      for (const store of STORES) request.result.createObjectStore(store, { keyPath: "id" });
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return opening;
}

async function within(store, mode, act) {
  const found = await database();
  return new Promise((resolve, reject) => {
    const transaction = found.transaction(store, mode);
    const request = act(transaction.objectStore(store));
    transaction.oncomplete = () => resolve(request?.result);
    transaction.onabort = transaction.onerror = () => reject(transaction.error);
  });
}

/** Returns all records of a store, by id. */
export const storedRecords = (store) => within(store, "readonly", (records) => records.getAll());

/** Adds a record, or replaces that of the same id. */
export const storeRecord = (store, record) => within(store, "readwrite", (records) => records.put(record));

/** Removes records. */
export const removeRecords = (store, ids) =>
  within(store, "readwrite", (records) => void ids.forEach((id) => records.delete(id)));
