"""One torch thread per process, since tests run in parallel. Weights of pretrained networks are random."""

import pytest
import torch

torch.set_num_threads(1)


def pytest_runtest_setup(item):
    """Tests marked gpu run where there is an accelerator."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("torch finds no GPU on this machine")


@pytest.fixture(scope="session", autouse=True)
def own_caches(tmp_path_factory):
    """Digests of files and photographs are stored in a folder of the session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("caches")))
        yield


@pytest.fixture(scope="session")
def weights_files(tmp_path_factory):
    """A folder with a random file for every published one; tests do not change it."""
    from tests.weights_files import write_random_weights

    folder = tmp_path_factory.mktemp("weights")
    write_random_weights(folder)
    return folder


@pytest.fixture
def random_weights(weights_files, monkeypatch):
    """The same folder, set as the folder of weights."""
    monkeypatch.setenv("TESSERA_WEIGHTS", str(weights_files))
    return weights_files
