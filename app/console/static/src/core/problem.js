/** The errors of a request, and how the console explains them to the user. */

/** The service answered with a problem (RFC 9457). */
export class ApiProblem extends Error {
  constructor(status, details, headers) {
    super(details.detail || details.title || `the service answered with ${status}`);
    this.status = status;
    this.details = details;
    this.kind = String(details.type || "").replace(/^.*#/, "");
    this.errors = details.errors || [];
    this.requestId = headers.get("X-Request-ID");
    // RFC 6750: the scope that the key lacks
    this.scope = /error="insufficient_scope".*scope="([^"]*)"/.exec(headers.get("WWW-Authenticate") || "")?.[1] || null;
    const wait = Number(headers.get("Retry-After"));
    this.retryAfterSeconds = wait > 0 ? wait : null;
  }
}

/** The service could not be reached. */
export class Offline extends Error {
  constructor() {
    super("the service cannot be reached");
  }
}

const TITLES = {
  401: "A key is needed",
  403: "This key may not do that",
  404: "Not found",
  409: "That is not possible now",
  410: "It is no longer kept",
  413: "That is too large",
  422: "The service does not accept this",
  429: "The service is busy",
  500: "The service made an error",
  503: "The service cannot do that at the moment",
  504: "It took too long",
  507: "The service has no space left",
};

/** Titles of refusals for which the title of their status would be wrong. */
const TITLES_BY_KIND = {
  "above-limit": "That is more than this key ever allows",
  "images-limit": "This key has too few images left today",
  "requests-limit": "This key has used up its requests of this minute",
  "jobs-limit": "This key has reached its limit of unfinished jobs",
  "attempts-limit": "Too many invalid keys came from this address",
};

/** Returns {title, text} for any error. */
export function explain(error) {
  if (error instanceof Offline) {
    return {
      title: "The service cannot be reached",
      text: "It may be restarting. This page continues by itself, and what you typed is kept.",
    };
  }
  if (error instanceof ApiProblem) {
    const title = TITLES_BY_KIND[error.kind] || TITLES[error.status] || error.details.title || "That did not work";
    return { title, text: error.status === 403 ? lackingScope(error) : sentence(error.message) };
  }
  return { title: "The console made an error", text: String(error?.message || error) };
}

function lackingScope(problem) {
  return problem.scope
    ? `This key lacks the scope ${problem.scope.replaceAll(" ", " or ")}. ${sentence(problem.message)}`
    : sentence(problem.message);
}

function sentence(text) {
  const begun = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?…]$/.test(begun) ? begun : `${begun}.`;
}
