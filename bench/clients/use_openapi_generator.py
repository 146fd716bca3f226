"""Uploads, draws a PNG and reads event streams with the Python client of openapi-generator: URL, ARCHIVE.

Runs in the environment of the generators. `openapi_client` is the generated package.
"""

import sys
from pathlib import Path

from openapi_client import ApiClient, Configuration, DatasetsApi, SamplingApi, TrainingApi
from openapi_client.exceptions import UnprocessableEntityException
from openapi_client.models import GenerateRequest, TrainJobRequest


def main(url: str, archive: str) -> None:
    """Make each call and check its answer."""
    with ApiClient(Configuration(host=url)) as client:
        sampling, training = SamplingApi(client), TrainingApi(client)
        body, kind = Path(archive).read_bytes(), "application/octet-stream"
        uploaded = DatasetsApi(client).create_dataset(body, name="generator", format="zip", _content_type=kind)
        assert uploaded.images > 0

        drawn = sampling.generate_images(GenerateRequest.from_dict({"class": 0, "seed": 7, "format": "png"}))
        assert bytes(drawn).startswith(b"\x89PNG\r\n\x1a\n")

        body = GenerateRequest.from_dict({"class": 0, "seed": 7, "stream": True})
        answer = sampling.generate_images_without_preload_content(body)
        kinds = [line.partition(b": ")[2].strip() for line in answer if line.startswith(b"event: ")]
        assert kinds[-1] == b"done"
        assert b"image" in kinds

        recipe = {"recipe": "digits", "dataset": "generator", "model": "generator"}
        job = training.create_train_job(TrainJobRequest.from_dict(recipe))
        training.cancel_train_job(job.id)
        assert training.watch_train_job(job.id).rstrip().endswith('data: {"status": "cancelled"}')

        refused = None
        try:
            sampling.generate_images(GenerateRequest.from_dict({"class": "no such class"}))
        except UnprocessableEntityException as error:
            refused = error.data
        assert refused is not None
        assert refused.type == "/docs/errors#invalid"


main(*sys.argv[1:])
