"""The three questions that we ask a W&B server ourselves, because the wandb package cannot or might prompt."""

from __future__ import annotations

import base64
import http.client
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 3.0
"""For each question, name resolution included."""

ANONYMOUS = "mutation CreateAnonymousApiKey { createAnonymousEntity(input: {}) { apiKey { name } } }"
VIEWER = "query Viewer { viewer { id entity } }"
HISTORY = (
    "query RunResumeStatus($project: String, $entity: String, $name: String!) "
    "{ model(name: $project, entityName: $entity) "
    "{ bucket(name: $name, missingOk: true) { historyLineCount historyTail } } }"
)


class RefusedError(Exception):
    """The server does not accept the key."""


class AwayError(Exception):
    """The server cannot be used; the text, part of a sentence, says why."""


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows nobody: the key would go along."""

    def redirect_request(self, *_: object) -> None:
        """Makes an error of the answer."""


_opener = urllib.request.build_opener(_Stay)


def check_key(base_url: str, key: str) -> None:
    """Makes sure that a key works.

    Raises:
        RefusedError: It does not.
        AwayError: The server cannot tell.

    """
    if not _at(_ask(base_url, key, VIEWER, {}), "data", "viewer"):
        raise RefusedError


def anonymous_key(base_url: str) -> str:
    """Makes an anonymous account and returns its key.

    Raises:
        RefusedError: The server makes none.
        AwayError: It cannot be reached, or answered something else.

    """
    key = _at(_ask(base_url, "", ANONYMOUS, {}), "data", "createAnonymousEntity", "apiKey", "name")
    if not isinstance(key, str) or not key:
        raise RefusedError
    return key


@dataclass(frozen=True)
class Stored:
    """What a server has of a run."""

    rows: int
    """Rows of its history."""

    last_step: int | None
    """Step of the last one; None when there is none, or the server does not say."""


def stored(base_url: str, key: str, entity: str, project: str, run: str) -> Stored | None:
    """Asks what the server has of a run; None when it does not say.

    Raises:
        RefusedError: The key does not work.
        AwayError: The server cannot be used.

    """
    answer = _ask(base_url, key, HISTORY, {"entity": entity, "project": project, "name": run})
    bucket = _at(answer, "data", "model", "bucket")
    count = _at(bucket, "historyLineCount")
    return Stored(count, _last_step(_at(bucket, "historyTail"))) if isinstance(count, int) else None


def _last_step(tail: object) -> int | None:
    """Reads the step of the last row: the tail is a JSON list of rows, each JSON again."""
    try:
        rows = json.loads(str(tail))
        step = json.loads(rows[-1])["_step"]
    except (ValueError, LookupError, TypeError):
        return None
    return int(step) if isinstance(step, int | float) else None


def _at(answer: object, *path: str) -> object:
    for name in path:
        answer = answer.get(name) if isinstance(answer, Mapping) else None
    return answer


def _ask(base_url: str, key: str, query: str, variables: Mapping[str, str]) -> object:
    """Sends a query from a thread, because the resolver knows no time-out."""
    future: Future[object] = Future()

    def work() -> None:
        try:
            future.set_result(_post(base_url, key, query, variables))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, name="wandb-question", daemon=True).start()
    try:
        return future.result(TIMEOUT_SECONDS)
    except FutureTimeoutError:
        raise AwayError(f"did not answer within {TIMEOUT_SECONDS:.0f} s") from None


def _post(base_url: str, key: str, query: str, variables: Mapping[str, str]) -> object:
    if urlsplit(base_url).scheme not in {"http", "https"}:
        raise AwayError("is not the address of a web server")
    token = base64.b64encode(f"api:{key}".encode()).decode()
    request = urllib.request.Request(  # noqa: S310 - see above
        f"{base_url}/graphql",
        data=json.dumps({"query": query, "variables": variables}).encode(),
        headers={"Authorization": f"Basic {token}", "Content-Type": "application/json"},
    )
    try:
        with _opener.open(request, timeout=TIMEOUT_SECONDS) as response:
            return json.loads(response.read(1 << 20))
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in {401, 403}:
            raise RefusedError from None
        raise AwayError(f"answered with status {error.code}") from None
    except (OSError, http.client.HTTPException) as error:
        # The system's words or the class only: what a server answered may repeat the key to us.
        reason = getattr(error, "reason", error)
        words = getattr(reason, "strerror", None) or type(reason).__name__
        raise AwayError(f"cannot be reached ({words})") from None
    except ValueError:
        raise AwayError("answered something that is not JSON") from None
