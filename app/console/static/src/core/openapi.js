/** The service's OpenAPI description, which says what a field may hold. No form repeats it. */

import { get } from "./api.js";

let asked = null;

/** Returns the description. It is requested once a tab. */
export async function description() {
  asked ??= get("/openapi.json");
  try {
    return await asked;
  } catch (error) {
    asked = null;
    throw error;
  }
}

/** Returns the names that a field's schema allows. */
export const namesIn = (schema) => schema.enum || schema.anyOf.flatMap((one) => one.enum || []);
