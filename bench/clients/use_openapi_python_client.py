"""Uploads, draws a PNG and reads event streams with the client that openapi-python-client makes: URL, ARCHIVE.

Runs in the environment of the generators. `darkroom_client` is the generated package.
"""

import sys
from io import BytesIO
from pathlib import Path

from darkroom_client import Client
from darkroom_client.api.datasets import create_dataset
from darkroom_client.api.sampling import generate_images
from darkroom_client.api.training import cancel_train_job, create_train_job, watch_train_job
from darkroom_client.models import CreateDatasetFormat, GenerateRequest, ProblemDetails, TrainJobRequest
from darkroom_client.types import File


def main(url: str, archive: str) -> None:
    """Make each call and check its answer."""
    client = Client(base_url=url, timeout=120.0, raise_on_unexpected_status=True)
    uploaded = create_dataset.sync(
        client=client,
        body=File(payload=BytesIO(Path(archive).read_bytes())),
        name="python-client",
        format_=CreateDatasetFormat.ZIP,
    )
    assert uploaded is not None
    assert not isinstance(uploaded, ProblemDetails), uploaded
    assert uploaded.images > 0

    drawn = generate_images.sync(client=client, body=GenerateRequest.from_dict({"class": 0, "seed": 7}))
    assert isinstance(drawn, File)
    assert drawn.payload.read(8) == b"\x89PNG\r\n\x1a\n"

    body = GenerateRequest.from_dict({"class": 0, "seed": 7, "stream": True})
    events = generate_images.sync_detailed(client=client, body=body).content.decode()
    assert "event: image" in events
    assert "event: done" in events

    recipe = {"recipe": "digits", "dataset": "python-client", "model": "python-client"}
    job = create_train_job.sync(client=client, body=TrainJobRequest.from_dict(recipe))
    assert job is not None
    assert not isinstance(job, ProblemDetails), job
    cancel_train_job.sync(job.id, client=client)
    watched = watch_train_job.sync(job.id, client=client)
    assert isinstance(watched, str)
    assert watched.rstrip().endswith('data: {"status": "cancelled"}')

    refused = generate_images.sync(client=client, body=GenerateRequest.from_dict({"class": "no such class"}))
    assert isinstance(refused, ProblemDetails)
    assert refused.type_ == "/docs/errors#invalid"


main(*sys.argv[1:])
