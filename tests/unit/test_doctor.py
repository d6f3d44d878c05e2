"""The doctor: every trouble with an address is one sentence that says what would help."""

from __future__ import annotations

import http.server
import importlib.metadata
import socket
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import HealthServicer
from grpc_reflection.v1alpha import reflection

from tunevane import doctor
from tunevane.api.trainer.v1 import run_pb2, trainer_service_pb2


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture
def web_page() -> Iterator[int]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def other_grpc() -> Iterator[int]:
    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None).wait()


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("nonsense", "'nonsense' is no address; write host:port, for example 127.0.0.1:50051"),
        ("host.invalid:50051", "the host 'host.invalid' has no address; look at the spelling and the name server"),
    ],
)
def test_an_address_that_is_none(target: str, sentence: str) -> None:
    found = doctor.service("trainer", target)
    assert (found.standing, found.sentence) == ("wrong", sentence)


def test_nobody_listens(free_port: int) -> None:
    found = doctor.service("trainer", f"127.0.0.1:{free_port}")
    assert found.sentence == f"127.0.0.1:{free_port}: nothing listens there; is the service running?"


def test_a_web_page_is_no_service(web_page: int) -> None:
    found = doctor.service("tracker", f"127.0.0.1:{web_page}")
    assert found.sentence == f"127.0.0.1:{web_page} is a web page and no gRPC service; the gRPC port is another one"


def test_another_grpc_service_is_told_apart(other_grpc: int) -> None:
    found = doctor.service("trainer", f"127.0.0.1:{other_grpc}")
    assert found.standing == "wrong"
    assert found.sentence.startswith(f"127.0.0.1:{other_grpc}")


def test_a_port_that_speaks_tls(tmp_path: Path) -> None:
    key, certificate = _certificate(tmp_path)
    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)]))
    server.start()
    try:
        found = doctor.service("trainer", f"127.0.0.1:{port}")
    finally:
        server.stop(None).wait()
    assert found.sentence == f"127.0.0.1:{port} speaks TLS, and this client was told to speak without"


@pytest.mark.parametrize("takes_away", ["nothing", "field", "method"])
def test_a_service_that_is_older_than_the_client(takes_away: str) -> None:
    """The service describes itself without a field or a method that the client knows."""
    pool = DescriptorPool()
    own = trainer_service_pb2.DESCRIPTOR
    for file in (*_below(own), own):
        made = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(made)
        for message in made.message_type:
            if takes_away == "field" and message.name == "RunSpec":
                del message.field[-1]
        for service in made.service:
            if takes_away == "method":
                (gone,) = (n for n, method in enumerate(service.method) if method.name == "CancelRun")
                del service.method[gone]
        pool.Add(made)
    server = grpc.server(futures.ThreadPoolExecutor(4))
    reflection.enable_server_reflection([own.services_by_name["TrainerService"].full_name], server, pool=pool)
    health = HealthServicer()
    health.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        found = doctor.service("trainer", f"127.0.0.1:{port}")
    finally:
        server.stop(None).wait()
    last = run_pb2.RunSpec.DESCRIPTOR.fields[-1].name
    lacks = {"nothing": None, "field": f"RunSpec.{last}", "method": "TrainerService.CancelRun"}[takes_away]
    if lacks is None:
        assert found.standing == "ok"
    else:
        word = f"is older than this client: it does not know {lacks}; update the service"
        assert found.sentence == f"127.0.0.1:{port} {word}"


def _below(file: FileDescriptor) -> list[FileDescriptor]:
    """Lists the files that a file imports, each after those that it imports itself."""
    found: dict[str, FileDescriptor] = {}
    for each in file.dependencies:
        for deeper in (*_below(each), each):
            found.setdefault(deeper.name, deeper)
    return list(found.values())


def _certificate(folder: Path) -> tuple[bytes, bytes]:
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, made.public_bytes(serialization.Encoding.PEM)


def test_packages_that_are_missing_or_old_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "wandb":
            raise importlib.metadata.PackageNotFoundError(name)
        return "6.30.2" if name == "protobuf" else real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    found = {each.what: each for each in doctor.packages()}
    assert found["protobuf"].sentence == "6.30.2 is too old; run: pip install 'protobuf>=6.31.1'"
    assert found["wandb"].standing == "note"
    assert found["wandb"].sentence == "is not installed; where it is needed: pip install 'tunevane[tracker]'"
    assert found["grpcio"].standing == "ok"


def test_what_it_needs_is_what_the_package_declares() -> None:
    declared = " ".join(importlib.metadata.requires("tunevane") or [])
    for name, oldest in doctor.NEEDED.items():
        assert f"{name}>={oldest}" in declared or f"{name}<" in declared or f"{name}=={oldest}" in declared
