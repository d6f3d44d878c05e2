"""Writes the reference of every service and message, `docs/reference/grpc.md`, from the comments of `protos/`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from google.protobuf import descriptor_pb2

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "reference" / "grpc.md"

_INTRODUCTION = """# gRPC reference

Generated from the comments of [`protos/`](https://protobuf.dev/programming-guides/proto3/) by `make protos`; never
edited. How a whole run looks from a client without our library: [Raw gRPC](../grpc.md).
"""

_MESSAGE, _ENUM, _SERVICE = 4, 5, 6
"""Numbers of the fields of a file descriptor, the first parts of source paths."""

_FIELD, _ONEOF, _VALUE, _METHOD = 2, 8, 2, 2
_LABEL_REPEATED = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED

Path_ = tuple[int, ...]


def reference(files: descriptor_pb2.FileDescriptorSet) -> str:
    """Returns the page, as Markdown.

    Args:
        files: Compiled with source information; files that are not ours are left out.

    """
    parts = [_INTRODUCTION]
    ours = [file for file in files.file if file.package.startswith("tunevane.")]
    for file in sorted(ours, key=lambda file: (not file.service, file.package, file.name)):
        parts.extend(_file(file))
    return "\n".join(parts).rstrip() + "\n"


def _file(file: descriptor_pb2.FileDescriptorProto) -> Iterator[str]:
    comments = {tuple(place.path): " ".join(place.leading_comments.split()) for place in file.source_code_info.location}
    yield f"\n## `{file.name}`\n\nPackage `{file.package}`."
    for number, service in enumerate(file.service):
        yield f"\n### {service.name}\n\n{comments.get((_SERVICE, number), '')}\n"
        yield "| method | takes | gives | what it does |\n|---|---|---|---|"
        for position, method in enumerate(service.method):
            takes, gives = _link(method.input_type), _link(method.output_type)
            if method.client_streaming:
                takes = f"stream of {takes}"
            if method.server_streaming:
                gives = f"stream of {gives}"
            told = _cell(comments.get((_SERVICE, number, _METHOD, position), ""))
            yield f"| `{method.name}` | {takes} | {gives} | {told} |"
    for number, message in enumerate(file.message_type):
        yield from _message(message, (_MESSAGE, number), comments)
    for number, enum in enumerate(file.enum_type):
        yield f"\n### {enum.name}\n\n{comments.get((_ENUM, number), '')}\n"
        yield "| value | number | meaning |\n|---|---|---|"
        for position, value in enumerate(enum.value):
            told = _cell(comments.get((_ENUM, number, _VALUE, position), ""))
            yield f"| `{value.name}` | {value.number} | {told} |"


def _message(message: descriptor_pb2.DescriptorProto, path: Path_, comments: dict[Path_, str]) -> Iterator[str]:
    yield f"\n### {message.name}\n\n{comments.get(path, '')}"
    if not message.field:
        return
    yield "\n| field | type | number | meaning |\n|---|---|---|---|"
    entries = {f".{entry.name}": entry for entry in message.nested_type if entry.options.map_entry}
    for position, field in enumerate(message.field):
        told = _cell(comments.get((*path, _FIELD, position), ""))
        entry = entries.get(f".{field.type_name.rpartition('.')[2]}")
        kind = f"map of {_type(entry.field[0])} to {_type(entry.field[1])}" if entry is not None else _type(field)
        if entry is None and field.label == _LABEL_REPEATED:
            kind = f"repeated {kind}"
        elif field.proto3_optional:
            kind = f"optional {kind}"
        elif field.HasField("oneof_index"):
            kind = f"{kind}, one of `{message.oneof_decl[field.oneof_index].name}`"
        yield f"| `{field.name}` | {kind} | {field.number} | {told} |"


def _type(field: descriptor_pb2.FieldDescriptorProto) -> str:
    if field.type_name:
        return _link(field.type_name)
    name = descriptor_pb2.FieldDescriptorProto.Type.Name(field.type)
    return name.removeprefix("TYPE_").lower()


def _link(full_name: str) -> str:
    name = full_name.rpartition(".")[2]
    if not full_name.startswith(".tunevane."):
        return f"`{full_name.removeprefix('.')}`"
    return f"[{name}](#{name.lower()})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
