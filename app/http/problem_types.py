"""The types of the problems that the service answers (RFC 9457), and the page that explains them."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

PAGE = "/docs/errors"
"""The page's address. A problem's `type` is this address with the kind as its fragment, so a browser opens it there."""


@dataclass(frozen=True, slots=True)
class ProblemType:
    """A type of problem. statuses: the HTTP statuses that answers of this type have."""

    statuses: tuple[int, ...]
    meaning: str
    remedy: str


TYPES: Mapping[str, ProblemType] = {
    # The request cannot be read.
    "bad-request": ProblemType(
        (400,),
        "The bytes are not an HTTP request. The service refused them before it looked at the address.",
        "Mend the client or the proxy: a header has a character that HTTP forbids, a chunk has a wrong length, or "
        "headers contradict each other.",
    ),
    "uri-too-long": ProblemType(
        (414,), "The first line of the request is too long.", "Send long values in the body, not in the address."
    ),
    "request-header-fields-too-large": ProblemType(
        (431,), "The request's headers are too large together.", "Send fewer or shorter headers, for example cookies."
    ),
    "not-implemented": ProblemType(
        (501,),
        "The request uses a part of HTTP that the service does not have, such as another Transfer-Encoding.",
        "Send the body with Content-Length, or with Transfer-Encoding: chunked.",
    ),
    "not-json": ProblemType(
        (400,), "The body is not JSON.", "Send JSON in UTF-8. `detail` says where the fault is, if that is known."
    ),
    "not-a-form": ProblemType(
        (400,), "The body is not a form (multipart/form-data).", "Let a library for HTTP write the form."
    ),
    "client-closed-request": ProblemType(
        (400,), "The client closed its connection. Only the log shows this problem.", "Nothing is to be done."
    ),
    "unsupported-media-type": ProblemType(
        (415,),
        "The body has a media type or an encoding that this address does not take.",
        "Send the Content-Type that `detail` names, and no Content-Encoding.",
    ),
    "not-acceptable": ProblemType(
        (406,), "The service has no form of the answer that Accept allows.", "Name one of those in `detail`."
    ),
    "body-too-large": ProblemType(
        (413,), "The body has more bytes than this address takes.", "Send less, or ask the operator for a higher limit."
    ),
    "body-too-slow": ProblemType(
        (408,), "The body arrived too slowly.", "Send it again over a faster connection, or send less."
    ),
    "headers-too-slow": ProblemType(
        (408,), "The request's headers arrived too slowly.", "Send the request again over a faster connection."
    ),
    "range-not-satisfiable": ProblemType(
        (416,), "The file has no bytes in the range that the request asks for.", "`Content-Range` has the file's size."
    ),
    "not-changed": ProblemType(
        (412,), "The request draws the file that its If-None-Match names.", "Use the file that you have."
    ),
    # The request is readable, and wrong.
    "invalid": ProblemType(
        (422,),
        "Fields of the body or parameters are wrong, unknown or name a thing that does not exist.",
        "`errors` has each fault, with a JSON pointer into the body or the parameter's name. Mend them all.",
    ),
    "form-unreadable": ProblemType(
        (422,), "The form has parts that the service cannot use.", "`detail` names the part and says what it must be."
    ),
    "dataset-unreadable": ProblemType(
        (409, 422),
        "The archive, the folder or the stored files cannot be read as a data set.",
        "`detail` names the file and its fault. Mend it and send the data set again.",
    ),
    "dataset-too-costly": ProblemType(
        (422,),
        "Reading the data set takes more memory or time than the service gives it.",
        "Send fewer or smaller pictures, or ask the operator to raise the setting that `detail` names.",
    ),
    "not-described": ProblemType(
        (422,),
        "The file is no PNG of this service, or another program has stored it again.",
        "Send the file as the service sent it.",
    ),
    "description-unknown": ProblemType(
        (422,),
        "Another version of Darkroom has written the file's description.",
        "Verify the file with the version that drew it.",
    ),
    "description-unfit": ProblemType(
        (422,),
        "The model cannot draw what the file's description says.",
        "`detail` says what does not fit. The description may have been changed.",
    ),
    "version-gone": ProblemType(
        (410,), "The model version that drew the file is no longer there.", "Add its weights again, if you have them."
    ),
    "weights-unusable": ProblemType(
        (422,),
        "The service cannot draw with this weights file.",
        "Send a safetensors file that `darkroom train` or another service has written.",
    ),
    "weights-unreadable": ProblemType(
        (409,),
        "Another version of Darkroom has written the weights, and this one cannot train them further.",
        "Begin with other weights.",
    ),
    "idempotency-key-reused": ProblemType(
        (422,),
        "An earlier request had this Idempotency-Key and another body.",
        "Take a new key for each new request. Keep a key only to send the same request again.",
    ),
    # The caller may not do this.
    "key-needed": ProblemType(
        (401,), "The request needs an API key.", "Send `Authorization: Bearer KEY`. `darkroom keys create` makes one."
    ),
    "key-refused": ProblemType((401,), "The key is unknown, revoked or expired.", "Use a valid key."),
    "scope-missing": ProblemType(
        (403,), "The key lacks the scope that the call needs.", "Use a key with one of the scopes in `detail`."
    ),
    "cross-site": ProblemType(
        (403,),
        "A page of another origin sent the request without a key.",
        "Send a key, or let the operator add the origin to DARKROOM_CORS_ORIGINS.",
    ),
    "owned-by-another": ProblemType(
        (403,),
        "The model, data set or job belongs to another key.",
        "Ask its owner to share it, or use a key of the same group or with the scope admin.",
    ),
    "priority-limit": ProblemType(
        (403,), "The key may not give a job so high a priority.", "Lower it, or ask the operator for the right."
    ),
    "devices-limit": ProblemType(
        (403,), "The key may not use so many devices for one job.", "Use fewer, or ask the operator for the right."
    ),
    "bytes-limit": ProblemType(
        (403,),
        "The key stores as many bytes as it may.",
        "Delete data sets, models or jobs, or ask the operator for more space.",
    ),
    "above-limit": ProblemType(
        (403,),
        "The request alone needs more than a limit of the key ever allows. Waiting does not help.",
        "Ask for less at once, or ask the operator for a higher limit. `detail` says the limit.",
    ),
    "requests-limit": ProblemType(
        (429,), "The key has used up its requests of this minute.", "Wait for as long as Retry-After says."
    ),
    "images-limit": ProblemType(
        (429,), "The key has too few images left today.", "Wait for as long as Retry-After says, or ask for fewer."
    ),
    "network-rows-limit": ProblemType(
        (429,),
        "The key has too little work left today. Each step of an image counts as one or two network rows.",
        "Wait for as long as Retry-After says, or ask for fewer images or steps.",
    ),
    "open-requests-limit": ProblemType(
        (429,),
        "The key or address has too many requests open at once.",
        "Wait until one is answered, then try again.",
    ),
    "open-event-streams-limit": ProblemType(
        (429,), "The key or address follows too many event streams at once.", "Close one, then try again."
    ),
    "versions-busy": ProblemType(
        (429,),
        "Memory is full, and the key already draws with its share of the model versions there.",
        "Wait until one of its requests is done, then try again.",
    ),
    "jobs-limit": ProblemType(
        (429,), "The key has reached its limit of unfinished jobs.", "Wait until one ends, or cancel one."
    ),
    "attempts-limit": ProblemType(
        (429,), "Too many invalid keys came from this address.", "Wait for as long as Retry-After says."
    ),
    # The thing is not there.
    "not-found": ProblemType((404,), "There is nothing at this address.", "Look the address up in /docs."),
    "method-not-allowed": ProblemType(
        (405,), "The address does not take this method.", "Use one of the methods in the header Allow."
    ),
    "no-such-job": ProblemType((404,), "There is no train job with this number.", "GET /v1/train-jobs lists them."),
    "no-such-generate-job": ProblemType(
        (404,), "There is no generate job with this number.", "GET /v1/generate-jobs lists them."
    ),
    "no-such-sweep": ProblemType((404,), "There is no sweep with this number.", "GET /v1/sweeps lists them."),
    "no-such-dataset": ProblemType((404,), "There is no data set with this name.", "GET /v1/datasets lists them."),
    "no-such-model": ProblemType((404,), "There is no model with this name.", "GET /v1/models lists them."),
    "no-such-version": ProblemType(
        (404,), "The model has no such version or alias.", "`detail` lists some; GET /v1/models/NAME lists all."
    ),
    "no-such-samples": ProblemType(
        (404,), "The job has no sample grid at this number of images.", "GET /v1/train-jobs/ID/samples lists them."
    ),
    "no-such-key": ProblemType((404,), "There is no API key with this number.", "GET /v1/keys lists them."),
    "version-collected": ProblemType(
        (410,), "The version's weights are no longer kept.", "Use another version, or train the model again."
    ),
    # The present state does not allow it.
    "job-conflict": ProblemType(
        (409,), "The job's status does not allow this.", "Read the job. `detail` says what its status is."
    ),
    "state-not-kept": ProblemType(
        (409,),
        "The training state that the job would go on from is no longer kept.",
        "Submit a new job. It may begin with a version's weights (`from_model`).",
    ),
    "dataset-exists": ProblemType(
        (409,),
        "Another data set has this name. `existing` is its address.",
        "Take another name, or replace the data set with PUT.",
    ),
    "in-use": ProblemType(
        (409,),
        "Other things hang on what would be deleted. `dependents` lists them.",
        "Cancel or delete those that block. For the others, repeat the request with `force=true`.",
    ),
    "production-needed": ProblemType(
        (409,), "The alias production cannot be deleted.", "Point it at another version, or delete the model."
    ),
    # The service cannot do it now.
    "queue-full": ProblemType(
        (429,),
        "The queue has too few free places, or too much work.",
        "Wait for as long as Retry-After says, or ask for fewer images.",
    ),
    "deadline-unmeetable": ProblemType(
        (503,),
        "The request would take longer than its deadline.",
        "Lower the steps or images, or allow more time. With Retry-After, a later try may fit.",
    ),
    "deadline-passed": ProblemType(
        (504,), "The request's deadline passed while the images were drawn.", "Allow more time, or ask for less."
    ),
    "not-ready": ProblemType((503,), "The service is still loading its first model.", "Try again."),
    "not-registered": ProblemType((503,), "The store does not know the version yet.", "Try again in a few seconds."),
    "speed-unknown": ProblemType(
        (503,),
        "No worker has measured how fast it trains, so nobody can plan by the time.",
        "Start a worker and wait a minute, or send a recipe.",
    ),
    "store-unavailable": ProblemType(
        (503,),
        "The database, or the storage of weights and data sets, cannot be used now; or the service has none.",
        "Try again. If it stays, tell the operator.",
    ),
    "version-unusable": ProblemType(
        (503,), "The version's weights cannot be loaded.", "Use another version, and tell the operator."
    ),
    "unavailable": ProblemType(
        (503,), "The service restarts, or answers very many requests.", "Wait for as long as Retry-After says."
    ),
    "engine-failed": ProblemType(
        (503,), "The engine that draws has ended.", "The operator must restart the service; the log has the cause."
    ),
    "artifact-unusable": ProblemType(
        (500,), "Stored bytes are damaged or gone.", "Make the thing that they belong to again, and tell the operator."
    ),
    "internal": ProblemType(
        (500,),
        "The service made an error.",
        "Tell the operator the header X-Request-ID, with which the log names the cause.",
    ),
    "storage-full": ProblemType(
        (507,), "The service's disk is too full for this upload.", "Ask the operator for more space."
    ),
}
"""By kind, the fragment of the type. Every kind that the service answers is here; a test compares."""


def problem_type(kind: str) -> str:
    """Return a problem's `type`: a reference that opens the page at the kind's section."""
    return f"{PAGE}#{kind}"


def _section(kind: str, one: ProblemType) -> str:
    statuses = ", ".join(map(str, one.statuses))
    return f"""<section class="card" id="{kind}">
<h2><a href="#{kind}">{kind}</a> <small>{statuses}</small></h2>
<p>{_marked(one.meaning)}</p>
<p><b>What to do:</b> {_marked(one.remedy)}</p>
</section>
"""


def _marked(text: str) -> str:
    """Return the text as HTML. Words between ` are code."""
    words = escape(text, quote=False).split("`")
    return "".join(f"<code>{word}</code>" if number % 2 else word for number, word in enumerate(words))


def problem_page() -> str:
    """Return the page that explains every type."""
    sections = "".join(_section(kind, one) for kind, one in sorted(TYPES.items()))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Errors of Darkroom</title>
<link rel="icon" href="/console/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/console/style/tokens.css">
<link rel="stylesheet" href="/console/style/base.css">
<link rel="stylesheet" href="/console/style/layout.css">
<link rel="stylesheet" href="/console/style/components.css">
</head>
<body>
<main class="stack">
<h1>Errors</h1>
<p>Every error is a problem (RFC 9457, <code>application/problem+json</code>). Its <code>type</code> is the address of
one of these sections. <code>detail</code> says what is wrong with this request, and <code>errors</code> names the
faulty fields. <a href="/docs">All calls</a></p>
{sections}</main>
</body>
</html>
"""
