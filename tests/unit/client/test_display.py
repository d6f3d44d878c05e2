"""What terminals and notebooks show of a run."""

from __future__ import annotations

import base64
import io
import json
import re

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from PIL import Image
from rich.console import Console

from support.page_events import MRR, done, examples, picture, running
from tunevane.client import display, pictures
from tunevane.client.gallery import NOTHING, Examples
from tunevane.client.tables import metrics_table, summary
from tunevane.core.history import DecisionRecord, History, fold

EVIL = "<script>alert(1)</script>[bold]not markup[/bold]"


def console(width: int = 120, *, colours: bool = False) -> Console:
    """Records what is printed; with colours it is a terminal."""
    return Console(
        file=io.StringIO(),
        width=width,
        force_terminal=colours,
        color_system="truecolor" if colours else None,
        highlight=False,
        legacy_windows=False,
    )


def text(recorded: Console) -> str:
    assert isinstance(recorded.file, io.StringIO)
    return recorded.file.getvalue()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split("[│┃]", line)[1:-1]]


def printed(history: History, width: int = 120) -> str:
    recorded = console(width)
    display.print_metrics(history, recorded)
    return text(recorded)


def test_metrics_stand_side_by_side_with_change_and_interval() -> None:
    lines = printed(fold(done())).splitlines()
    assert lines[0].strip() == "Retrieval metrics before and after fine-tuning"
    assert cells(lines[2]) == ["metric", "before", "after", "change", "95% interval"]
    rows = {cells(line)[0]: cells(line)[1:] for line in lines if line.startswith("│")}
    assert rows[MRR] == ["0.178", "0.345", "+0.167", "+0.147 … +0.187"]
    assert rows["minilm_precision_at_k"] == ["0.026", "0.050", "+0.024", "+0.0043 … +0.0443"]


def test_without_intervals_there_is_no_column_for_them() -> None:
    lines = printed(fold(done(sure=False))).splitlines()
    assert cells(lines[2]) == ["metric", "before", "after", "change"]


@pytest.mark.parametrize(
    ("before", "after", "row"),
    [
        (0.5, 0.50004, ["0.500000", "0.500040", "+0.000040"]),
        (0.0, 0.0003, ["0.00000", "0.00030", "+0.00030"]),
        (0.0, 0.0, ["0.000", "0.000", "0.000"]),
        (1e-9, 2e-9, ["1.0e-09", "2.0e-09", "+1.0e-09"]),
        (0.75, 0.25, ["0.750", "0.250", "-0.500"]),
    ],
)
def test_no_value_is_rounded_to_zero(before: float, after: float, row: list[str]) -> None:
    lines = printed(History(before={"m": before}, after={"m": after})).splitlines()
    assert [cells(line)[1:] for line in lines if line.startswith("│")] == [row]


def test_a_metric_without_a_value_before_has_a_dash() -> None:
    lines = printed(History(after={"m": 0.5})).splitlines()
    assert [cells(line)[1:] for line in lines if line.startswith("│")] == [["–", "0.500", "–"]]


def test_a_change_within_its_interval_is_not_coloured() -> None:
    history = fold(done())
    recorded = console(colours=True)
    history.intervals[MRR].low = -0.1
    recorded.print(metrics_table(history))
    (line,) = [line for line in text(recorded).splitlines() if "reciprocal_rank" in line]
    assert "\x1b[2m+0.167\x1b[0m" in line
    assert "\x1b[32m" in text(recorded)


def test_a_narrow_terminal_loses_no_number() -> None:
    shown = printed(fold(done()), width=60)
    assert "+0.147 … +0.187" in shown
    assert max(len(line) for line in shown.splitlines()) <= 60


def test_a_run_without_metrics_says_so() -> None:
    assert "no evaluation" in printed(History())


def test_decisions_are_told_in_words_and_end_with_why() -> None:
    recorded = console()
    display.print_decisions(fold(done()), recorded)
    shown = text(recorded)
    assert "reciprocal_rank rose from 0.327 to 0.334" in shown
    assert "Training is stopping, no improvement for 2 epochs" in shown
    assert shown.rstrip().splitlines()[-1] == (
        "Kept epoch 4 because reciprocal_rank rose from 0.334 to 0.345; epochs 5 and 6 were no better; "
        "stopped after epoch 6: no improvement for 2 epochs."
    )
    assert summary(fold(running())).startswith("Best so far is epoch 3")


def test_a_decision_on_an_interval_shows_the_callbacks_sentence() -> None:
    sentence = "not to be told apart: +0.0010 (between -0.0100 and +0.0120)"
    made = DecisionRecord(1, "best-model-checkpoint", "improved", "m", 0.5, sentence, (-0.01, 0.012), 1)
    recorded = console()
    display.print_decisions(History(decisions=[made]), recorded)
    assert sentence in " ".join(text(recorded).replace("│", " ").replace("best-model-checkpoint", "").split())


def test_a_run_that_decides_nothing_says_so() -> None:
    recorded = console()
    display.print_decisions(History(), recorded)
    assert "No callback" in text(recorded)


def results(pictured: bool = False) -> dict[str, dict[str, object]]:
    return {"before": json.loads(examples(4, pictures=pictured)), "after": json.loads(examples(1, pictures=pictured))}


def shown(found: dict[str, dict[str, object]], k: int = 5, *, colours: bool = False) -> str:
    recorded = console(colours=colours)
    display.print_examples(found, k, recorded)
    return text(recorded)


def test_examples_stand_side_by_side_with_the_relevant_marked() -> None:
    lines = shown(results(), k=4).splitlines()
    rows = [cells(line) for line in lines if line.startswith("│")]
    assert rows[0] == ["1", "0.850 document 1 of Katze", "✓ 0.850 document 1 of Katze"]
    assert rows[3] == ["4", "✓ 0.700 document 4 of Katze", "0.700 document 4 of Katze"]
    assert len(rows) == 12
    assert "first relevant: rank 4 → 1" in lines[0]


def test_markup_in_texts_is_text() -> None:
    found = {"after": json.loads(examples(1, texts=(EVIL,))), "before": {}}
    assert EVIL in shown(found)
    html = Examples(found, 5)._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_no_examples_say_how_to_get_them() -> None:
    assert shown({"before": {}, "after": {}}).split() == NOTHING.split()
    assert "gather_examples=True" in Examples({}, 5)._repr_html_()


def test_pictures_become_words_where_nothing_can_show_them() -> None:
    assert shown(results(pictured=True)).count("[picture]") == 30


def test_pictures_become_coloured_characters_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TMUX", "KITTY_WINDOW_ID", "TERM_PROGRAM", "LC_TERMINAL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    out = shown(results(pictured=True), colours=True)
    teal, orange = "\x1b[38;2;0;128;128;48;2;0;128;128m", "\x1b[38;2;255;165;0;48;2;255;165;0m"
    assert teal in out
    assert orange in out
    assert "\x1b_G" not in out


@pytest.mark.parametrize(
    ("environ", "way"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-ghostty", "TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "iterm"),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, "iterm"),
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1"}, "blocks"),
        ({"TERM": "xterm-256color", "TMUX": "/tmp/x", "TERM_PROGRAM": "iTerm.app"}, "blocks"),
        ({"TERM": "xterm-256color"}, "blocks"),
    ],
)
def test_a_terminal_is_known_by_its_environment(environ: dict[str, str], way: str) -> None:
    assert pictures.protocol(console(colours=True), environ) == way
    assert pictures.protocol(console(), environ) == "none"


def test_kitty_gets_pictures_in_pieces_that_make_one() -> None:
    png = pictures.strip([(picture("teal"), True), ("", False), ("data:image/png;base64,AAAA", False)])
    assert png is not None
    large = png + b"\0" * 9000
    pieces = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", pictures.inline(large, "kitty", 4))
    assert [control.split(",")[-1] for control, _ in pieces] == ["m=1"] * (len(pieces) - 1) + ["m=0"]
    assert all(len(piece) <= 4096 for _, piece in pieces)
    assert base64.b64decode("".join(piece for _, piece in pieces)) == large


def test_iterm_gets_pictures_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TMUX", "KITTY_WINDOW_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("TERM_PROGRAM", "iTerm.app")
    out = shown(results(pictured=True), colours=True)
    sent = re.findall(r"\x1b\]1337;File=inline=1;size=(\d+);height=4;preserveAspectRatio=1:([^\x07]*)\x07", out)
    assert len(sent) == 3 * 3
    for size, data in sent:
        content = base64.b64decode(data)
        assert len(content) == int(size)
        with Image.open(io.BytesIO(content)) as opened:
            assert opened.height == pictures.TILE + 12


def test_the_relevant_picture_has_a_green_frame() -> None:
    png = pictures.strip([(picture("white"), False), (picture("white"), True)])
    assert png is not None
    with Image.open(io.BytesIO(png)) as opened:
        row = [opened.convert("RGB").getpixel((x, 60)) for x in range(opened.width)]
    green = [x for x, pixel in enumerate(row) if pixel == (0x12, 0x79, 0x4A)]
    assert green
    assert min(green) >= pictures.TILE + 12


@pytest.mark.parametrize("uri", ["", "data:image/png;base64,", "data:image/png;base64,AAAA", "data:image/png;base64,*"])
def test_what_is_no_picture_is_not_shown(uri: str) -> None:
    assert pictures.opened(uri) is None
    assert pictures.blocks(uri, 8, 4) is None
    assert pictures.strip([(uri, True)]) is None


def test_a_picture_that_claims_to_be_huge_is_not_opened() -> None:
    content = io.BytesIO()
    Image.new("1", (4000, 4000)).save(content, "PNG")
    assert pictures.opened("data:image/png;base64," + base64.b64encode(content.getvalue()).decode()) is None


def test_a_transparent_picture_lies_on_white() -> None:
    content = io.BytesIO()
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(content, "PNG")
    opened = pictures.opened("data:image/png;base64," + base64.b64encode(content.getvalue()).decode())
    assert opened is not None
    assert opened.getpixel((0, 0)) == (255, 255, 255)


def test_a_notebook_shows_pictures() -> None:
    InteractiveShell.instance()
    try:
        with capture_output() as captured:
            display.print_examples(results(pictured=True), 3, Console(force_jupyter=True))
    finally:
        InteractiveShell.clear_instance()
    (output,) = captured.outputs
    html = output.data["text/html"]
    assert html.count('<img src="data:image/png;base64,') == 3 * (1 + 2 * 3)
    assert "rank 4 → 1" in html


def test_examples_of_several_evaluations_are_told_apart() -> None:
    one = json.loads(examples(1))["minilm"]
    out = shown({"before": {}, "after": {"short queries": one, "long queries": one}})
    assert "short queries" in out
    assert "long queries" in out
