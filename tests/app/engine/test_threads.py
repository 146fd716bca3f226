"""A service's own operations use one thread each; networks have threads of their own."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from darkroom.app.main import create_app
from darkroom.app.settings import Settings
from darkroom.model.machine import threads


def test_a_service_computes_with_one_thread_and_its_networks_with_all(weights: Path) -> None:
    threads.network_threads.cache_clear()
    torch.set_num_threads(2)
    try:
        create_app(Settings(weights_folder=weights))
        assert torch.get_num_threads() == 1
        with ThreadPoolExecutor(1) as others:
            assert others.submit(torch.get_num_threads).result() == 1
        assert threads.network_threads() == 2
    finally:
        torch.set_num_threads(1)
        threads.network_threads.cache_clear()
