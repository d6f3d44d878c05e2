"""Checks this machine and the services, and says in one sentence each what is wrong and what would help."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import grpc
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tunevane.api.evaluator.v1 import evaluator_service_pb2
from tunevane.api.tracker.v1 import tracker_service_pb2
from tunevane.api.trainer.v1 import trainer_service_pb2
from tunevane.errors import TunevaneError
from tunevane.rpc.options import client_options

Standing = Literal["ok", "note", "wrong"]

SECONDS = 5.0
LITTLE_BYTES = 2 << 30
"""Below this much free disk a run may not end."""

NEEDED = {
    "grpcio": "1.74",
    "protobuf": "6.31.1",
    "torch": "2.6",
    "sentence-transformers": "6",
    "qdrant-client": "1.16",
    "qdrant-edge-py": "0.9.0",
    "prometheus-client": "0.21",
    "wandb": "0.27",
}
"""Oldest release that works, by package."""

_EXTRA = {
    "torch": "nn",
    "sentence-transformers": "nn",
    "qdrant-client": "evaluator",
    "qdrant-edge-py": "evaluator",
    "prometheus-client": "tracker",
    "wandb": "tracker",
}


_CONTRACT = {
    "trainer": trainer_service_pb2.DESCRIPTOR.services_by_name["TrainerService"],
    "evaluator": evaluator_service_pb2.DESCRIPTOR.services_by_name["EvaluatorService"],
    "tracker": tracker_service_pb2.DESCRIPTOR.services_by_name["TrackerService"],
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    """What was looked at."""

    standing: Standing
    """`ok`; `note` for what may be meant so; `wrong` for what keeps something from working."""

    sentence: str
    """What was found, and what would help."""


def examine(trainer: str | None, evaluator: str | None, tracker: str | None) -> Iterator[Finding]:
    """Looks at Python, packages, disk, device, and the services.

    Args:
        trainer: Address; None looks at the local services.
        evaluator: Address; None leaves it out unless the local services run.
        tracker: Address; None likewise.

    """
    yield _python()
    yield from packages()
    yield _device()
    yield _disk()
    if trainer is None and evaluator is None and tracker is None:
        yield from _local()
        return
    for name, target in (("trainer", trainer), ("evaluator", evaluator), ("tracker", tracker)):
        if target is not None:
            yield service(name, target)


def _python() -> Finding:
    return Finding("python", "ok", platform.python_version())


def packages() -> Iterator[Finding]:
    """Looks at the versions of what is installed."""
    for name, oldest in NEEDED.items():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            extra = _EXTRA.get(name, "local")
            yield Finding(name, "note", f"is not installed; where it is needed: pip install 'tunevane[{extra}]'")
            continue
        if _release(version) < _release(oldest):
            yield Finding(name, "wrong", f"{version} is too old; run: pip install '{name}>={oldest}'")
        else:
            yield Finding(name, "ok", version)
    if importlib.util.find_spec("torchvision") is not None:
        try:
            importlib.import_module("torchvision")
        except Exception as error:
            yield Finding(
                "torchvision",
                "wrong",
                f"does not load beside this torch ({str(error).splitlines()[0][:120]}), which keeps"
                " sentence-transformers from loading too; run: pip uninstall torchvision",
            )


def _release(version: str) -> tuple[int, ...]:
    parts = []
    for part in version.split("+")[0].split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        parts.append(int(digits))
    return tuple(parts)


def _device() -> Finding:
    try:
        import torch
    except ImportError:
        return Finding("device", "note", "torch is not installed here, so this machine trains and encodes nothing")
    if torch.cuda.is_available():
        return Finding("device", "ok", torch.cuda.get_device_name(0))
    return Finding("device", "note", f"no CUDA device; the CPU is used ({os.cpu_count()} cores)")


def _disk() -> Finding:
    from tunevane.local import stack

    place = stack.home()
    existing = next(folder for folder in (place, *place.parents) if folder.exists())
    if not os.access(existing, os.W_OK):
        return Finding("disk", "wrong", f"{place} cannot be written; set {stack.HOME_VARIABLE} to another folder")
    free = shutil.disk_usage(existing).free
    if free < LITTLE_BYTES:
        return Finding("disk", "wrong", f"{free / 2**30:.1f} GiB are free in {existing}; a run needs a few")
    return Finding("disk", "ok", f"{free / 2**30:.0f} GiB free in {existing}")


def _local() -> Iterator[Finding]:
    from tunevane.local import stack

    found = stack.running(stack.home())
    if found is None:
        yield Finding(
            "services", "note", "the local services are not running; a run starts them, or: tunevane serve local"
        )
        log = Path(stack.home()) / stack.LOG
        if log.exists() and log.stat().st_size:
            yield Finding("services", "note", f"what they said last is in {log}")
        return
    for name in ("trainer", "evaluator", "tracker"):
        yield service(name, getattr(found, name))


def service(name: str, target: str) -> Finding:
    """Asks a service how it is.

    Args:
        name: `trainer`, `evaluator` or `tracker`.
        target: Its address, `host:port`.

    """
    host, _, port = target.rpartition(":")
    if not host or not port.isdigit():
        return Finding(name, "wrong", f"'{target}' is no address; write host:port, for example 127.0.0.1:50051")
    try:
        socket.create_connection((host.strip("[]"), int(port)), SECONDS).close()
    except socket.gaierror:
        return Finding(name, "wrong", f"the host '{host}' has no address; look at the spelling and the name server")
    except TimeoutError:
        return Finding(name, "wrong", f"{target} does not answer within {SECONDS:g} s; a firewall may be in between")
    except OSError as error:
        word = "nothing listens there; is the service running?" if error.errno == 111 else error.strerror
        return Finding(name, "wrong", f"{target}: {word}")
    return _health(name, target, host.strip("[]"), int(port))


def _health(name: str, target: str, host: str, port: int) -> Finding:
    from tunevane.rpc.channel import connect

    channel = connect(target, timeout_seconds=SECONDS)
    try:
        # Any: the stub's methods are made at run time.
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
    except TunevaneError as error:
        if _speaks_tls(host, port):
            return Finding(name, "wrong", f"{target} speaks TLS, and this client was told to speak without")
        if _speaks_http(host, port):
            return Finding(name, "wrong", f"{target} is a web page and no gRPC service; the gRPC port is another one")
        return Finding(name, "wrong", f"{target}: {error}")
    except grpc.RpcError as error:
        return Finding(name, "wrong", f"{target} is no tunevane service: {error.details()}")
    finally:
        channel.close()
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        word = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status).replace("_", " ").lower()
        return Finding(name, "wrong", f"{target} answers that it is {word}; look at its log")
    lacks = missing_from(name, target)
    if lacks:
        more = f" and {len(lacks) - 1} more" if len(lacks) > 1 else ""
        sentence = f"{target} is older than this client: it does not know {lacks[0]}{more}; update the service"
        return Finding(name, "wrong", sentence)
    return Finding(name, "ok", f"serving at {target}")


def missing_from(name: str, target: str) -> list[str]:
    """Lists what this client's contract has and a service's own description, by reflection, has not.

    Empty where the service is as new as this client, or newer, or does not describe itself.
    """
    ours = _CONTRACT[name]
    with grpc.insecure_channel(target, options=client_options(target)) as channel:
        theirs = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        try:
            service = theirs.FindServiceByName(ours.full_name)
        except (KeyError, grpc.RpcError):
            return [] if _describes_nothing(channel) else [ours.name]
        lacks: dict[str, None] = {}
        for method in ours.methods:
            found = service.methods_by_name.get(method.name)
            if found is None:
                lacks[f"{ours.name}.{method.name}"] = None
                continue
            for side in ("input_type", "output_type"):
                _compare(getattr(method, side), getattr(found, side), lacks, set())
        return list(lacks)


def _describes_nothing(channel: grpc.Channel) -> bool:
    try:
        return not ProtoReflectionDescriptorDatabase(channel).get_services()
    except grpc.RpcError:
        return True


def _compare(ours: Descriptor, theirs: Descriptor, lacks: dict[str, None], seen: set[str]) -> None:
    """Notes the fields that one message has and the other has not, and all messages below."""
    if ours.full_name in seen:
        return
    seen.add(ours.full_name)
    for field in ours.fields:
        found = theirs.fields_by_number.get(field.number)
        if found is None:
            lacks[f"{ours.name}.{field.name}"] = None
        elif field.message_type is not None and found.message_type is not None:
            _compare(field.message_type, found.message_type, lacks, seen)


def _speaks_tls(host: str, port: int) -> bool:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), SECONDS) as plain, context.wrap_socket(plain, server_hostname=host):
            return True
    except ssl.SSLError as error:
        # It wants to see a certificate of ours, so it does speak TLS.
        return "CERTIFICATE_REQUIRED" in str(error).upper() or "ALERT" in str(error).upper()
    except OSError:
        return False


def _speaks_http(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), SECONDS) as plain:
            plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return plain.recv(5) == b"HTTP/"
    except OSError:
        return False
