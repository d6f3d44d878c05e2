"""Settings are typed, come in a fixed precedence, and all that is wrong is told at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from tunevane import config
from tunevane.errors import ConfigurationError, Problem


@dataclass(frozen=True)
class Settings:
    """An example with every type."""

    host: str = "127.0.0.1"
    port: int = 50051
    share: float = 0.5
    eager: bool = False
    folder: Path = Path("here")
    peer: str | None = None
    limit: int | None = 3
    mode: Literal["fast", "exact"] = "fast"
    names: tuple[str, ...] = ("a",)
    api_key: int = 0

    def problems(self) -> Iterator[Problem]:
        if self.port < 0:
            yield Problem("port", f"must be at least 0, not {self.port}")


def problems_of(error: pytest.ExceptionInfo[ConfigurationError]) -> dict[str, str]:
    return {problem.field: problem.message for problem in error.value.problems}


def test_nothing_given_is_the_defaults() -> None:
    assert config.load(Settings, "demo", environ={}) == Settings()


def test_every_type_is_read_from_the_environment() -> None:
    environ = {
        "TUNEVANE_DEMO_HOST": "0.0.0.0",
        "TUNEVANE_DEMO_PORT": "0",
        "TUNEVANE_DEMO_SHARE": "1e-3",
        "TUNEVANE_DEMO_EAGER": "Yes",
        "TUNEVANE_DEMO_FOLDER": "/data",
        "TUNEVANE_DEMO_PEER": "far:1",
        "TUNEVANE_DEMO_LIMIT": "",
        "TUNEVANE_DEMO_MODE": "exact",
        "TUNEVANE_DEMO_NAMES": "x, y",
        "TUNEVANE_OTHER_PORT": "not ours",
        "HOME": "/",
    }
    expected = Settings("0.0.0.0", 0, 0.001, True, Path("/data"), "far:1", None, "exact", ("x", "y"))
    assert config.load(Settings, "demo", environ=environ) == expected


def test_every_type_is_read_from_the_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(
        '[demo]\nhost = "h"\nport = 1\nshare = 2\neager = true\nfolder = "f"\nlimit = 0\nnames = []\n'
        '[other]\nport = "?"\n'
    )
    expected = Settings(host="h", port=1, share=2.0, eager=True, folder=Path("f"), limit=0, names=())
    assert config.load(Settings, "demo", environ={}, file=file) == expected


def test_the_command_line_wins_over_environment_over_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[demo]\nport = 1\nhost = "file"\nmode = "exact"\n')
    environ = {"TUNEVANE_DEMO_PORT": "2", "TUNEVANE_DEMO_HOST": "environment"}
    overrides = {"port": 0, "peer": None}
    loaded = config.load(Settings, "demo", environ=environ, file=file, overrides=overrides)
    assert (loaded.port, loaded.host, loaded.mode, loaded.peer) == (0, "environment", "exact", None)


def test_all_problems_are_told_with_where_they_were_set(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[demo]\nshare = "much"\nprot = 1\neager = 3\nnames = 5\n')
    environ = {"TUNEVANE_DEMO_PORT": "5.5", "TUNEVANE_DEMO_HOTS": "x", "TUNEVANE_DEMO_API_KEY": "swordfish"}
    with pytest.raises(ConfigurationError) as caught:
        config.load(Settings, "demo", environ=environ, file=file, overrides={"mode": "slow", "folder": ""})
    told = problems_of(caught)
    assert set(told) == {
        f"{file}: [demo] share",
        f"{file}: [demo] prot",
        f"{file}: [demo] eager",
        f"{file}: [demo] names",
        "TUNEVANE_DEMO_PORT",
        "TUNEVANE_DEMO_HOTS",
        "TUNEVANE_DEMO_API_KEY",
        "--mode",
        "--folder",
    }
    assert "port" in told[f"{file}: [demo] prot"]
    assert "'5.5'" in told["TUNEVANE_DEMO_PORT"]
    assert "fast, exact" in told["--mode"]
    assert "swordfish" not in str(caught.value)


@pytest.mark.parametrize("text", ["nan", "inf", "", "1,5", "True"])
def test_only_finite_numbers_are_numbers(text: str) -> None:
    with pytest.raises(ConfigurationError, match="a number"):
        config.load(Settings, "demo", environ={"TUNEVANE_DEMO_SHARE": text})


def test_rules_across_settings_name_where_the_value_came_from() -> None:
    with pytest.raises(ConfigurationError) as caught:
        config.load(Settings, "demo", environ={"TUNEVANE_DEMO_PORT": "-1"})
    assert problems_of(caught) == {"TUNEVANE_DEMO_PORT": "must be at least 0, not -1"}


def test_a_setting_without_default_must_be_set() -> None:
    @dataclass(frozen=True)
    class Needy:
        place: str

    with pytest.raises(ConfigurationError, match="TUNEVANE_DEMO_PLACE: must be set"):
        config.load(Needy, "demo", environ={})
    assert config.load(Needy, "demo", environ={"TUNEVANE_DEMO_PLACE": "x"}).place == "x"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "no such settings file"),
        (b"[demo", "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"demo = 1", "table"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    file = tmp_path / "settings.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        config.load(Settings, "demo", environ={}, file=file)
    assert str(file) in str(caught.value)
