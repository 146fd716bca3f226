/** What the service's own description says that a field may be, so that no form repeats it. */

import { get } from "./api.js";

let asked = null;

/** The description, read once. */
export async function description() {
  asked ??= get("/openapi.json");
  try {
    return await asked;
  } catch (error) {
    asked = null;
    throw error;
  }
}

/** The names that a field's schema allows. */
export const namesIn = (schema) => schema.enum || schema.anyOf.flatMap((one) => one.enum || []);
