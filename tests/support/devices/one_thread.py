"""A fixture for a conftest.py: small tensors gain nothing from a second thread, and lose much where another process
holds the other core."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
