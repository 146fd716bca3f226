"""Laws of POST /interpolate: both ends are the images that POST /generate draws, and the images between are smooth."""

import numpy as np
import pytest

from tests.app.served import Service, pixels_of


def interpolated(service: Service, **body: object) -> np.ndarray:
    request = {"class": 1, "seeds": [3, 8], "format": "json", "count": 5} | body
    answer = service.client.post("/v1/interpolate", json=request)
    assert answer.status_code == 200, answer.text
    return pixels_of(answer.json())


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m", "unipc", "ipndm"])
def test_the_ends_are_the_images_of_generate(service: Service, sampler: str) -> None:
    way = interpolated(service, sampler=sampler, **{"class": [1, 0]})
    assert way.shape == (5, 8, 8, 1)
    first = service.images(**{"class": 1, "seed": 3, "sampler": sampler})[0]
    last = service.images(**{"class": 0, "seed": 8, "sampler": sampler})[0]
    assert np.abs(way[0].astype(int) - first).max() <= 1
    assert np.abs(way[-1].astype(int) - last).max() <= 1


@pytest.mark.parametrize("seeds", [[3, 8], [3, 3]])
def test_any_image_of_a_seed_can_be_an_end(service: Service, seeds: list[int]) -> None:
    way = interpolated(service, seeds=seeds, indices=[2, 1], **{"class": [1, 0]})
    for end, label, seed, index in ((way[0], 1, seeds[0], 2), (way[-1], 0, seeds[1], 1)):
        drawn = service.images(**{"class": label, "seed": seed, "first_index": index})[0]
        assert np.abs(end.astype(int) - drawn).max() <= 1
    assert np.abs(way[0].astype(int) - way[-1]).max() > 1


def test_swapped_ends_give_the_same_images_in_reverse(service: Service) -> None:
    there, back = interpolated(service), interpolated(service, seeds=[8, 3])
    assert np.abs(there.astype(int) - back[::-1]).max() <= 1


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"sampler": "ddpm"}, "/sampler"),
        ({"sampler": "ddim", "eta": 0.5}, "/eta"),
        ({"seeds": [1]}, "/seeds"),
        ({"seeds": [1, -1]}, "/seeds/1"),
        ({"class": [0]}, "/class"),
        ({"class": [0, "Cat"]}, "/class/1"),
        ({"count": 1}, "/count"),
        ({"count": 65}, "/count"),
        ({"indices": [0]}, "/indices"),
        ({"indices": [0, -1]}, "/indices/1"),
        ({"n": 3}, "/n"),
    ],
)
def test_a_faulty_field_is_named(service: Service, change: dict[str, object], pointer: str) -> None:
    answer = service.client.post("/v1/interpolate", json={"class": 1, "seeds": [3, 8]} | change)
    assert answer.status_code == 422, answer.text
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]
