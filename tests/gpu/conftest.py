"""The devices that the tests of this folder run on."""

import pytest
import torch

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])])
def device(request):
    """Return the device under test: a GPU with "make test-gpu", the CPU in every other run.

    On the CPU the tests compare it with itself, which shows that they themselves work.
    """
    return request.param
