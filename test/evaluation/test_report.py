"""The page stands alone and says what metrics.json says; the numbers behind it can be computed by hand."""

import base64
import html.parser
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from samseg_ros.config import Config
from samseg_ros.evaluation.metrics import confusion
from samseg_ros.evaluation.pictures import Panels, tile
from samseg_ros.evaluation.report import write_report
from samseg_ros.evaluation.results import FrameRow, Run, metrics
from samseg_ros.evaluation.scoring import FrameScore
from samseg_ros.labels import LabelSet
from samseg_ros.types import Frame

LABELS = LabelSet("toy", ("road", "<car>", "ghost"), np.array([[128, 64, 128], [0, 0, 142], [9, 9, 9]], np.uint8))
TRUTH = np.array([[0, 0, 1, 1]], np.uint8)
PREDICTED = np.array([[0, 1, 1, 1]], np.uint8)  # road 1/2, car 2/3, ghost absent


def _rows() -> list[FrameRow]:
    return [
        FrameRow(i, i, published=i != 2, latency_ms=None if i == 2 else 10.0 * (i + 1), sensors=("rgb", "lidar"))
        for i in range(5)
    ]


def _measured(notes: tuple[str, ...] = (), rate: float = 0.0, scored: bool = True) -> dict[str, Any]:
    run = Run("drive", "direct", "toy (tiny)", {"image": "/camera", "lidar": ""}, Config(), rate, notes)
    rows = _rows()
    rows[2].error = "no mask within 3 s"
    scores = [FrameScore(0, "night", confusion(PREDICTED, TRUTH, 3))] if scored else []
    return metrics(run, rows, scores, LABELS, wall_s=2.0)


def _page(path: Path, measured: dict[str, Any], **more: Any) -> str:
    write_report(path / "report.html", "A <drive>", measured, _rows(), LABELS, **more)
    return (path / "report.html").read_text()


def test_latencies_and_rates_by_hand() -> None:
    measured = _measured()
    # 10, 20, 40, 50 ms; linear percentiles as numpy's default.
    assert measured["latency_ms"] == {
        "p50": 30.0,
        "p95": pytest.approx(48.5),
        "p99": pytest.approx(49.7),
        "mean": 30.0,
        "max": 50.0,
    }
    assert measured["fps"] == pytest.approx(4 / 0.120)
    assert _measured(rate=1.0)["fps"] == pytest.approx(4 / 2.0)
    assert measured["frames"] == {"received": 5, "published": 4, "dropped": 1}
    assert measured["errors"] == {"no mask within 3 s": 1}


def test_nothing_published_leaves_no_numbers_instead_of_wrong_ones() -> None:
    run = Run("drive", "direct", "toy", {}, Config())
    measured = metrics(run, [FrameRow(0, 0)], [], LABELS, 1.0)
    assert measured["latency_ms"]["p50"] is None and measured["fps"] is None
    assert measured["frames"]["dropped"] == 1


def test_the_page_says_what_was_measured(tmp_path: Path) -> None:
    page = _page(tmp_path, _measured(), counts=confusion(PREDICTED, TRUTH, 3))
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.partition("<body>")[2]))
    assert "A &lt;drive&gt;" in text and "&lt;car&gt;" in text  # escaped
    assert f"{100 * (1 / 2 + 2 / 3) / 2:.1f} %" in text
    assert "1 of 5 frames without a mask: no mask within 3 s" in text
    assert "night" in text and "ghost absent" in text
    assert "road 50 50" in text  # the row of the confusion: half of the road was taken for a car
    assert "30 ms" in text and "48 ms" in text


@pytest.mark.parametrize("scored", [True, False])
def test_the_page_is_well_formed_and_loads_nothing(tmp_path: Path, scored: bool) -> None:
    picture = tmp_path / "a.png"
    cv2.imwrite(str(picture), np.zeros((20, 30, 3), np.uint8))
    page = _page(tmp_path, _measured(scored=scored), pictures=[("frame 0", picture)])
    assert re.findall(r"(?:src|href)=\"(?!data:)", page) == []
    assert re.findall(r"https?://", page) == []
    _Balanced().feed(page)


class _Balanced(html.parser.HTMLParser):
    """Fails where a tag is closed that is not the one that is open."""

    VOID = ("meta", "img")

    def __init__(self) -> None:
        super().__init__()
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


@pytest.mark.parametrize(("width", "number", "shown_width"), [(2000, 6, 1400), (900, 12, 900)])
def test_some_pictures_evenly_spread_are_put_into_the_page_made_smaller(
    tmp_path: Path, width: int, number: int, shown_width: int
) -> None:
    pictures = []
    for i in range(30):
        path = tmp_path / f"{i}.png"
        cv2.imwrite(str(path), np.full((100, width, 3), 8 * i, np.uint8))
        pictures.append((f"frame {i}", path))
    page = _page(tmp_path, _measured(), pictures=pictures)
    embedded = re.findall(r"data:image/jpeg;base64,([^\"]+)", page)
    assert len(embedded) == number
    shown = cv2.imdecode(np.frombuffer(base64.b64decode(embedded[-1]), np.uint8), cv2.IMREAD_COLOR)
    assert shown.shape[1] == shown_width
    assert abs(int(shown.mean()) - 8 * 29) <= 1
    assert "frame 0<" in page and "frame 29<" in page


@pytest.mark.parametrize(
    ("size", "parts", "grid"),
    [
        ((96, 128), {}, (1, 2)),
        ((96, 128), {"thermal"}, (1, 3)),
        ((96, 128), {"thermal", "depth_m"}, (2, 2)),
        ((96, 128), {"truth", "thermal", "depth_m"}, (2, 3)),
        ((96, 128), {"thermal", "fused"}, (2, 2)),
        ((96, 128), {"truth", "thermal", "depth_m", "fused"}, (2, 4)),
        ((96, 320), {"depth_m"}, (3, 1)),
    ],
)
def test_a_picture_shows_every_panel_in_a_grid(size: tuple[int, int], parts: set[str], grid: tuple[int, int]) -> None:
    everything: dict[str, Any] = {
        "thermal": np.arange(size[0] * size[1], dtype=np.uint16).reshape(size),
        "depth_m": np.full(size, 10.0, np.float32),
        "truth": np.zeros(size, np.uint8),
        "fused": np.zeros((*size, 3), np.uint8),
    }
    frame = Frame(np.full((*size, 3), 90, np.uint8), thermal=everything["thermal"] if "thermal" in parts else None)
    panels = Panels(frame, np.zeros(size, np.uint8), **{name: everything[name] for name in parts if name != "thermal"})
    picture = tile(panels, LABELS, Config())
    assert picture.shape[1] == grid[1] * size[1]
    caption = 24
    assert picture.shape[0] - grid[0] * (size[0] + caption) == 22  # one row of the legend
    assert (picture[caption : caption + size[0], : size[1]] == 90).all()


def test_the_fused_picture_is_shown_before_the_segmentation() -> None:
    fused = np.zeros((96, 128, 3), np.uint8)
    fused[:48] = 10, 20, 30
    picture = tile(
        Panels(Frame(np.full((96, 128, 3), 90, np.uint8)), np.zeros((96, 128), np.uint8), fused=fused), LABELS, Config()
    )
    assert (picture[24 : 24 + 96, 128:256] == fused).all()


def test_metrics_of_fused_pictures_are_shown_with_the_number_of_frames(tmp_path: Path) -> None:
    fusion = {"frames": 4, "thermal_frames": 3, "entropy_bits": 6.54321, "ssim_thermal": 0.25}
    page = _page(tmp_path, _measured() | {"fusion": fusion})
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    assert "mean over 4 pictured frames, 3 of them with a thermal image" in text
    assert "entropy (bits) 6.543 SSIM with thermal 0.250" in text and "VIF of" not in text
    _Balanced().feed(page)


def test_wrong_pixels_are_red_and_unlabelled_ones_are_not() -> None:
    mask = np.zeros((96, 128), np.uint8)
    truth = mask.copy()
    truth[:48], truth[48:, :64] = 1, 255
    picture = tile(Panels(Frame(np.full((96, 128, 3), 90, np.uint8)), mask, truth=truth), LABELS, Config())
    wrong = picture[24 + 96 + 24 : 24 + 96 + 24 + 96, 128:256]  # camera, mask | truth, wrong
    red = (wrong == (230, 30, 40)).all(-1)
    assert red[:48].all() and not red[48:].any()
