"""Small datasets of one toy episode, once per session and family."""

import pytest

from tests.training.build import build_small


@pytest.fixture(scope="session")
def internvl_built(tmp_path_factory, toy_recordings):
    return build_small(tmp_path_factory.mktemp("internvl"), toy_recordings, "internvl", ("a/one.mcap",), 256)


@pytest.fixture(scope="session")
def smolvlm_built(tmp_path_factory, toy_recordings):
    return build_small(tmp_path_factory.mktemp("smolvlm"), toy_recordings, "smolvlm", ("a/one.mcap",), 256)
