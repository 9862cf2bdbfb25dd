import os
import socket
from contextlib import closing

import pytest

from infra.local import ports
from infra.local.settings import Ports


def test_a_taken_port_is_named_with_its_setting_and_its_holder() -> None:
    with closing(ports.listen(Ports(storage=0), "storage")) as holder:
        taken = holder.getsockname()[1]
        with pytest.raises(ports.PortTaken) as refused:
            ports.free(Ports(storage=taken), "storage")
    assert f"port {taken} is taken" in str(refused.value)
    assert "ONMEMOS_STORAGE_PORT" in str(refused.value)
    assert f"(process {os.getpid()})" in str(refused.value)


def test_a_port_of_0_is_any_that_is_free_and_only_on_the_loopback() -> None:
    with closing(ports.listen(Ports(gateway=0), "gateway")) as listener:
        host, port = listener.getsockname()
        assert host == "127.0.0.1"
        with closing(socket.create_connection((host, port), timeout=1)):
            assert port != 0


def test_a_port_that_was_only_looked_at_can_be_taken() -> None:
    port = ports.free(Ports(storage=0), "storage")
    with closing(ports.listen(Ports(storage=port), "storage")):
        pass
