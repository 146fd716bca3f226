"""Measures how fast this worker's device trains the reference networks, in a process of its own.

`python -m darkroom.worker.speed_probe PARENT` prints the rates as JSON. Figures are kept in the worker's cache folder,
so that each is taken once for a machine, a device and a version of torch.
"""

import os
import sys

from darkroom.model.machine.parent_death import die_with


def main(parent: int) -> None:
    die_with(parent)
    import json

    import torch

    from darkroom.model.machine.threads import compute_with
    from darkroom.model.planning.scaled_speed import rate, references
    from darkroom.model.planning.speed import measured_speed
    from darkroom.worker.settings import WorkerSettings

    settings = WorkerSettings()
    if settings.worker_device == "cpu":
        os.nice(settings.niceness)
    compute_with()
    device = torch.device(settings.worker_device)
    speed = measured_speed(device, settings.cache_folder)
    print(json.dumps([rate(one, speed(one)).model_dump(mode="json") for one in references(device)]))


if __name__ == "__main__":
    main(int(sys.argv[1]))
