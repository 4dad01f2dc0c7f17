"""What tests of data share: a tokenizer, and a port without a server."""

import socket
from collections.abc import Iterator

import make_bases
import pytest
from transformers import PreTrainedTokenizerFast


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level, with the end of text also as padding."""
    return make_bases.tokenizer()


@pytest.fixture
def refused_port() -> Iterator[int]:
    """A port of this machine at which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
