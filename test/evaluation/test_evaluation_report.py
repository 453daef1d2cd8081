"""The page about an evaluation stands alone, says what was counted, and no name can break it."""

import html.parser
import json
import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from samseg_ros.errors import InputError
from samseg_ros.evaluation.evaluation_report import write_evaluation_report


def _page(folder: Path, scored: list[Any], picture: Any = None, **more: Any) -> str:
    write_evaluation_report(folder / "report.html", scored, picture, **more)
    return (folder / "report.html").read_text(encoding="utf-8")


class _Read(html.parser.HTMLParser):
    """Keeps tags with their attributes, text and scripts; fails where another tag is closed than the open one."""

    VOID = ("meta", "img", "col")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.text += " "
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ["script"]:
            self.scripts.append(data)
        elif "style" not in self._open:
            self.text += data

    def heats(self) -> list[list[tuple[str, int]]]:
        """Return (row,column and pixels) of the cells of each confusion."""
        found: list[list[tuple[str, int]]] = []
        for tag, attributes in self.tags:
            if tag == "table" and attributes.get("class") == "heat":
                found.append([])
            elif "data-pixels" in attributes:
                found[-1].append((str(attributes["data-cell"]), int(str(attributes["data-pixels"]))))
        return found

    def data(self) -> list[Any]:
        return [json.loads(script) for script in self.scripts[:-1]]


def _runs(toys: ModuleType) -> list[Any]:
    lost = toys.TRUTH.copy()
    lost[:2, :3] = 255
    return [toys.scored("a"), toys.scored("b", [toys.TRUTH, toys.TRUTH, toys.TRUTH, lost])]


def test_every_cell_of_the_confusion_holds_what_was_counted(tmp_path: Path, toys: ModuleType) -> None:
    heats = _Read(_page(tmp_path, _runs(toys))).heats()
    for run, cells in zip(_runs(toys), heats, strict=True):
        total = run.measures.confusions.sum(0)
        assert cells == [(f"{r},{c}", total[r, c]) for r in range(3) for c in range(4)]
    assert dict(heats[0])["0,1"] == 24 + 48 + 72 and dict(heats[1])["0,3"] == 6


def test_a_cell_leads_to_its_frames_and_the_frames_to_their_scores(tmp_path: Path, toys: ModuleType) -> None:
    give = toys.picture_of({"a": toys.MASKS, "b": toys.MASKS})
    (data,) = _Read(_page(tmp_path, _runs(toys), lambda run, i: None if i == 3 else give(run, i))).data()
    first, other = data["runs"]
    assert first["cells"]["0,1"] == {"pixels": 144, "of": 1536, "frames": 3, "top": [[3, 72], [2, 48], [1, 24]]}
    assert "0,1" not in other["cells"] and other["cells"]["0,3"]["top"] == [[3, 6]]
    assert first["worst"] == [3, 2, 1, 0] and first["best"] == [0, 1, 2, 3]
    assert data["frames"]["3"]["name"] == "frame 3" and data["frames"]["3"]["said"] == "night"
    assert data["frames"]["3"]["miou"][0] == pytest.approx(50 * (312 / 384 + 384 / 456))
    assert data["frames"]["3"]["picture"] is None and len(data["pictures"]) == 3
    assert data["frames"]["2"]["picture"] is not None
    assert data["classes"] == ["road", "<b>car</b>", "ghost", "unlabelled"]


def test_a_frame_with_a_picture_is_named_where_those_with_the_most_have_none(tmp_path: Path, toys: ModuleType) -> None:
    masks = [toys.eaten(n) for n in (9, 8, 7, 6, 5, 4, 3, 2)]
    give = toys.picture_of({"a": masks})
    (data,) = _Read(_page(tmp_path, [toys.scored("a", masks)], lambda r, i: give(r, i) if i > 5 else None)).data()
    assert [frame for frame, _ in data["runs"][0]["cells"]["0,1"]["top"]] == [0, 1, 2, 3, 4, 5, 6]


def test_the_page_says_what_was_measured(tmp_path: Path, toys: ModuleType) -> None:
    perfect = toys.scored("b", [toys.TRUTH] * 4)
    fog = [replace(toys.scored("a", [toys.eaten(8)] * 4), corruption="fog", severity=3)]
    page = _page(tmp_path, [toys.scored("a", [toys.eaten(3)] * 4), perfect, *fog], notes=("bag 2: could not be read",))
    text = re.sub(r"\s+", " ", _Read(page).text)
    worse = 50 * (312 / 384 + 384 / 456)
    assert "2 models on toys" in text and "toys: 4 frames, toy labels" in text and "bag 2: could not be read" in text
    assert f"{worse:.1f} % mIoU, a 100.0 % mIoU, b" in text
    assert f"▲ {100 - worse:+.1f} [{100 - worse:+.1f}, {100 - worse:+.1f}]" in text
    assert "fog" in text and f"−{worse - 50 * (192 / 384 + 384 / 576):.1f} to" in text
    assert "day" in text and "night" in text and "<b>car</b>" in text and "absent" in text


def test_one_run_is_shown_without_comparisons(tmp_path: Path, toys: ModuleType) -> None:
    text = re.sub(r"\s+", " ", _Read(_page(tmp_path, [toys.scored("a")])).text)
    assert "a on toys" in text and "over the first" not in text
    assert "pixel accuracy" in text and "25 ms latency p50" in text


def test_a_page_loads_nothing_from_anywhere(tmp_path: Path, toys: ModuleType) -> None:
    page = _page(tmp_path, _runs(toys), toys.picture_of({"a": toys.MASKS, "b": toys.MASKS}))
    assert re.findall(r"https?:|//\w+\.|@import|url\(", page) == []
    loading = [attributes for _, attributes in _Read(page).tags if {"src", "href", "srcset", "data"} & set(attributes)]
    assert loading == []  # the script makes images of what the page holds


NASTY = "</script><img src=x onerror=alert(1)>\"' {{ 7 * 7 }} &amp; <!--"


def test_names_with_html_in_them_are_harmless(tmp_path: Path, toys: ModuleType) -> None:
    labels = replace(toys.LABELS, name=NASTY, names=(NASTY, f"{NASTY}2", "ghost"))
    run = toys.scored(NASTY, names=[NASTY, f"{NASTY}2", "__proto__", "constructor"], dataset=NASTY, labels=labels)
    run = replace(run, measures=replace(run.measures, conditions=(NASTY,) * 4))
    fog = replace(run, corruption=NASTY, severity=1)
    plain = _Read(_page(tmp_path, [toys.scored("a"), replace(toys.scored("a"), corruption="fog", severity=1)]))
    nasty = _Read(_page(tmp_path, [run, fog], toys.picture_of({NASTY: toys.MASKS}), title=NASTY, notes=[NASTY]))
    assert not any(tag == "img" or any(name.startswith("on") for name in found) for tag, found in nasty.tags)
    assert len(nasty.scripts) == len(plain.scripts) == 2
    assert NASTY in nasty.text
    (data,) = nasty.data()
    assert data["runs"][0]["name"] == NASTY and data["frames"]["3"]["name"] == "constructor"


def test_other_frames_are_not_compared_and_stand_in_a_part_of_their_own(tmp_path: Path, toys: ModuleType) -> None:
    other = toys.scored("b", [toys.TRUTH] * 2, dataset="others")
    page = _Read(_page(tmp_path, [toys.scored("a"), other]))
    assert len(page.heats()) == 2 and "over the first" not in page.text
    assert "2 models on toys and others" in re.sub(r"\s+", " ", page.text)


def test_stress_on_other_frames_is_named_and_left_out(tmp_path: Path, toys: ModuleType) -> None:
    fog = toys.scored("a", [toys.TRUTH] * 2, corruption="fog", severity=2)
    text = _Read(_page(tmp_path, [toys.scored("a"), fog])).text
    assert "a under fog 2 on toys: left out of the curves" in text and "points of mIoU lost" not in text


def test_a_report_needs_something_scored_as_it_is(tmp_path: Path, toys: ModuleType) -> None:
    with pytest.raises(InputError, match=r"at least one model scored without a corruption.*1 scores under corruptions"):
        _page(tmp_path, [toys.scored("a", corruption="fog", severity=2)])
    with pytest.raises(InputError, match="no scores"):
        _page(tmp_path, [])


def test_a_run_that_scored_nothing_is_shown_without_numbers(tmp_path: Path, toys: ModuleType) -> None:
    page = _Read(_page(tmp_path, [toys.scored("a"), toys.scored("b", [None] * 4)]))
    assert all(pixels == 0 for _, pixels in page.heats()[1])
    assert "4 frames dropped" in re.sub(r"\s+", " ", page.text)
    assert "NaN" not in json.dumps(page.data()) and "nan" not in page.text
