"""States a model as people name it: registered, in a folder, or on a hub."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tunevane.api.type.v1 import component_pb2
from tunevane.callback.components import component
from tunevane.errors import InvalidRequestError, Problem
from tunevane.storage.blobs import BlobStore


def named(model: str | Path, options: Mapping[str, object], store: BlobStore) -> component_pb2.Component:
    """States a model; files that it needs go into the store.

    Raises:
        InvalidRequestError: There is no such folder, or it holds no model that can be built.

    """
    path = Path(model).expanduser()
    looks_like_a_path = isinstance(model, Path) or os.sep in str(model)
    if looks_like_a_path or path.is_dir():
        from tunevane.nn.folders import folder_bundle, from_hub, is_hub_id

        if not path.is_dir():
            if not is_hub_id(str(model)):
                raise InvalidRequestError([Problem("model", f"there is no folder {path}")])
            path = from_hub(str(model))
        return component("sentence-transformers", options, {"folder": folder_bundle(path, store)})
    from tunevane.nn.models import with_folders

    return component(str(model), *with_folders(options, store))
