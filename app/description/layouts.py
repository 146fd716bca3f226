"""Descriptions of answers that are neither JSON nor a picture: event streams, zip and npz files, texts."""

NPZ = (
    "npz, which `numpy.load` reads: `images` (N, H, W, C) uint8, C is 1 or 3; `labels`, `seeds` and `indices` (N,) "
    "int64, where a label is a class's index; `facts`, a JSON text with model, version and sampling settings. Row i of "
    "each array is image i"
)
ZIP = (
    "zip: `manifest.json` and one PNG for each image. The manifest has model, version and sampling settings, and in "
    "`images` one object for each image, in order, with `file` (its name in the zip), `index`, `class`, `class_index` "
    "and, with best_of, `score`"
)
IMAGES = (
    "The images. png and webp are one image, or a grid of several with a line for each class; a PNG carries the facts "
    f"that draw it again. {ZIP}. {NPZ}. The headers `Darkroom-Seed`, `Darkroom-Version` and others have the facts of "
    "the JSON answer. text/event-stream: server-sent events, each with JSON in `data`. `progress`: done_steps, "
    "total_steps. `preview` and `image`: row, index, class, class_index and png (base64); a preview also has step and "
    "steps, and an image of best_of score. Last comes `done` with the JSON answer without `images`, or `error` with "
    "problem details. Lines that begin with a colon keep the connection open"
)
IMAGE_EVENTS = """event: progress
data: {"done_steps": 10, "total_steps": 80}

event: preview
data: {"row": 0, "index": 0, "class": "Sneaker", "class_index": 7, "step": 5, "steps": 20, "png": "iVBORw0..."}

event: image
data: {"row": 0, "index": 0, "class": "Sneaker", "class_index": 7, "png": "iVBORw0..."}

event: done
data: {"id": "9f0c...", "model": "fashion-mnist", "version": "sha256:...", "seed": 7, "timings": {"run_seconds": 1.2}}

"""
RESULT = f"The images. {NPZ}. {ZIP}"
JOB_EVENTS_TEXT = (
    "Server-sent events, each with JSON in `data`. A stored event has its number as `id`, and in `data` its time `at` "
    "beside its own members. `status`: status, and attempt, worker, reason or failure. `checkpoint`: images_seen, "
    "version, digest. `samples`: images_seen. `evaluation`, `frontier` and `best`: images_seen and figures. `verdict`: "
    "images_seen, findings. `promoted`: the version. `not_promoted`: reason. `note`: detail. `lease_lapsed`: attempt, "
    "worker. `evaluation_failed` and `samples_failed`: images_seen, detail. Later versions may add kinds. `progress` "
    "has no id: status, images_done, total_images, images_per_second, loss, eta_seconds. Last comes `end`: status. "
    "Lines that begin with a colon keep the connection open"
)
JOB_EVENTS = """retry: 1000

id: 1
event: status
data: {"status": "queued", "at": "2026-01-05T09:30:00+00:00"}

id: 2
event: status
data: {"status": "running", "attempt": 1, "worker": "bench", "at": "2026-01-05T09:30:02+00:00"}

event: progress
data: {"status": "running", "images_done": 6400, "total_images": 20000, "images_per_second": 210.0, "loss": 0.09, \
"eta_seconds": 64.8}

event: end
data: {"status": "succeeded"}

"""
_WORK_EVENTS = (
    "text/event-stream: server-sent events, each with JSON in `data`. `progress`: what is being done, how much of it "
    "is done, total (null when nobody knows) and eta_seconds (null at first). Last comes `done` with the answer, or "
    "`error` with problem details. The work goes on when the client leaves. Lines that begin with a colon keep the "
    "connection open"
)
REGISTERED = f"The data set has this content already; or events. {_WORK_EVENTS}"
CHECKED = f"What was found. {_WORK_EVENTS}"
REGISTERED_EVENTS = """event: progress
data: {"what": "decoding pictures", "done": 12000, "total": 20000, "eta_seconds": 11.9}

event: done
data: {"name": "clothes", "images": 20000, "image_shape": [3, 64, 64]}

"""
CHECKED_EVENTS = """event: progress
data: {"what": "looking at pictures", "done": 10240, "total": 20000, "eta_seconds": 3.1}

event: done
data: {"dataset": "clothes", "images": 20000, "findings": ["Nothing was found that needs a change."]}

"""
LOG_TEXT = "epoch 1: loss 0.091\nepoch 2: loss 0.087\n"
PROMETHEUS = "# TYPE darkroom_rows_waiting gauge\ndarkroom_rows_waiting 0.0\n"
