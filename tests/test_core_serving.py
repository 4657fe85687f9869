"""Two servers, one way to take an address, to serve and to end."""

import json
import socket
import urllib.request
from http.server import ThreadingHTTPServer

import pytest

from primum.cli import main
from primum.core.errors import StepFailedError, UsageError
from primum.core.serving import Address, JsonHandler, serve


class Echo(JsonHandler):
    def do_GET(self):
        self.answer(200, {"path": self.path})


class Once(ThreadingHTTPServer):
    """Answers one request, then is stopped as by Ctrl-C."""

    def serve_forever(self, poll_interval=0.5):
        asking = socket.create_connection(self.server_address)
        asking.sendall(b"GET /x HTTP/1.0\r\n\r\n")
        self.handle_request()
        with asking, asking.makefile("rb") as file:
            self.said = file.read()
        raise KeyboardInterrupt


def test_an_address_that_others_reach_is_refused_unless_it_was_opened():
    assert [Address(host, 1).port for host in ("127.0.0.1", "localhost", "::1")] == [1, 1, 1]
    with pytest.raises(UsageError, match=r"'0\.0\.0\.0' is open to other machines\n.*--open-to-network"):
        Address("0.0.0.0", 1)
    assert Address("0.0.0.0", 1, open_to_network=True).port == 1


def test_ctrl_c_ends_a_server_that_answers_json_and_logs_nothing(capsys):
    made = []

    def make(address):
        made.append(Once(address, Echo))
        return made[0]

    url = serve(Address("127.0.0.1", 0), make, "echoes", "/x")
    assert url == f"http://127.0.0.1:{made[0].server_address[1]}/x"
    assert json.loads(made[0].said.partition(b"\r\n\r\n")[2]) == {"path": "/x"}
    assert capsys.readouterr().err == f"echoes at {url} (Ctrl-C ends)\n"
    with pytest.raises(OSError):
        urllib.request.urlopen(url, timeout=2)


def test_a_port_that_is_taken_is_told(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(StepFailedError, match=f"cannot listen on port {port}"):
            serve(Address("127.0.0.1", port), lambda address: Once(address, Echo), "echoes", "/x")
        assert main(["judge-serve", "--judge=rules", f"--port={port}"]) == 4
    assert "give another --port" in capsys.readouterr().err
    for verb in (["judge-serve"], ["reward", "serve", str(tmp_path)]):
        assert main([*verb, "--host=0.0.0.0"]) == 2
        assert "--open-to-network" in capsys.readouterr().err
