from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from samseg_ros.config import Config, flatten, from_flat, load, settings
from samseg_ros.errors import SamsegError
from samseg_ros.resources import config_dir
from samseg_ros.schema import json_schema

SHIPPED = sorted(config_dir().glob("*.param.yaml"))


def write(folder: Path, tree: Any) -> Path:
    path = folder / "a.param.yaml"
    path.write_text(tree if isinstance(tree, str) else yaml.safe_dump(tree))
    return path


def test_flat_names_and_the_tree_are_the_same_settings() -> None:
    assert from_flat(flatten(Config())) == Config()
    assert flatten(Config())["sync.lidar.timeout_s"] == Config().sync.lidar.timeout_s


def test_every_setting_has_a_description_and_a_default_within_its_own_limits() -> None:
    for setting in settings():
        assert setting.description, setting.name
        assert from_flat({setting.name: setting.default}) == Config()
        if setting.choices:
            assert setting.default in setting.choices


def test_names_of_settings_are_unique() -> None:
    names = [s.name for s in settings()]
    assert len(set(names)) == len(names) > 30


def test_what_may_change_at_run_time_is_marked() -> None:
    runtime = {s.name for s in settings() if s.runtime}
    assert {"publish.min_confidence", "publish.overlay_alpha", "max_rate_hz"} <= runtime
    assert "model.name" not in runtime


def test_limits_are_told() -> None:
    (dilation,) = [s for s in settings() if s.name == "projection.dilation_px"]
    assert (dilation.minimum, dilation.maximum, dilation.default) == (1, 9, 2)


def test_a_misspelt_setting_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(
        SamsegError, match=r"unknown setting 'sync.lidar.timeout'; did you mean 'sync.lidar.timeout_s'\?"
    ):
        from_flat({"sync.lidar.timeout": 1.0})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("publish.min_confidence", 1.5),
        ("publish.min_confidence", "high"),
        ("projection.dilation_px", 0),
        ("thermal.normalization", "auto"),
        ("model.precision", "fp16"),
        ("thermal.fixed_low", float("nan")),
        ("projection.max_intensity", float("inf")),
        ("diagnostics.period_s", 1e-12),
    ],
)
def test_a_value_that_a_setting_cannot_have_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(SamsegError, match=f"parameters: {name}: .*, got {value!r}"):
        from_flat({name: value})


@pytest.mark.parametrize(
    "wrap", [lambda t: t, lambda t: {"/**": {"ros__parameters": t}}, lambda t: {"fusion_node": {"ros__parameters": t}}]
)
def test_a_ros_file_and_a_plain_tree_are_both_read(tmp_path: Path, wrap: Any) -> None:
    config = load(write(tmp_path, wrap({"model": {"threads": 3}, "max_rate_hz": 5.0})))
    assert (config.model.threads, config.max_rate_hz) == (3, 5.0)
    assert config.model.name == Config().model.name


def test_dotted_names_are_read_as_well(tmp_path: Path) -> None:
    assert load(write(tmp_path, {"/**": {"ros__parameters": {"sync.lidar.offset_s": 0.2}}})).sync.lidar.offset_s == 0.2


@pytest.mark.parametrize("section", [5, [1], "words"])
def test_a_ros_section_that_is_no_mapping_is_refused_by_its_name(tmp_path: Path, section: Any) -> None:
    with pytest.raises(SamsegError, match=r"a\.param\.yaml: /\*\*\.ros__parameters: expected a mapping"):
        load(write(tmp_path, {"/**": {"ros__parameters": section}}))


@pytest.mark.parametrize(
    "tree",
    [
        {"/**": {"ros__parameters": {}}, "max_rate_hz": 5.0},
        {"/**": {"ros__parameters": {}, "max_rate_hz": 5.0}},
    ],
)
def test_a_setting_beside_a_ros_section_is_refused_and_not_dropped(tmp_path: Path, tree: Any) -> None:
    with pytest.raises(SamsegError, match="expected nothing beside ros__parameters, got max_rate_hz; move it under"):
        load(write(tmp_path, tree))


def test_sections_of_other_nodes_are_passed_over_and_ours_are_merged(tmp_path: Path) -> None:
    tree = {
        "/**": {"ros__parameters": {"model": {"threads": 3}}},
        "/robot/fusion_node": {"ros__parameters": {"model": {"config": "b"}}},
        "camera": {"ros__parameters": {"exposure": 5}},
    }
    model = load(write(tmp_path, tree)).model
    assert (model.threads, model.config) == (3, "b")


def test_a_fixed_thermal_range_has_to_be_one() -> None:
    for low in (40000.0, 31315.0):
        with pytest.raises(SamsegError, match=r"thermal: expected fixed_low below fixed_high .*, got {.*'fixed_low'"):
            from_flat({"thermal.normalization": "fixed", "thermal.fixed_low": low})


def test_overrides_lie_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, {"max_rate_hz": 5.0, "publish": {"min_confidence": 0.3}})
    config = load(path, {"max_rate_hz": 7.0})
    assert (config.max_rate_hz, config.publish.min_confidence) == (7.0, 0.3)


def test_parameters_of_rclpy_itself_may_stand_in_the_file(tmp_path: Path) -> None:
    tree = {"/**": {"ros__parameters": {"use_sim_time": True, "qos_overrides": {"/x": {"publisher": {"depth": 3}}}}}}
    assert load(write(tmp_path, tree)) == Config()


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load(write(tmp_path, "")) == Config()


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2\n", "just words"])
def test_a_file_that_is_no_mapping_is_refused_by_its_path(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(SamsegError, match=str(path)):
        load(path)


def test_a_missing_file_is_refused_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(SamsegError, match=r"none\.yaml: cannot be read"):
        load(tmp_path / "none.yaml")


def test_an_unknown_setting_in_a_file_is_refused_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(SamsegError, match=r"a\.param\.yaml: unknown setting 'model.nam'; did you mean 'model.name'?"):
        load(write(tmp_path, {"model": {"nam": "x"}}))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.name)
def test_a_shipped_parameter_file_is_in_ros_form_and_loads(path: Path) -> None:
    tree = yaml.safe_load(path.read_text())
    assert list(tree) == ["/**"]
    assert list(tree["/**"]) == ["ros__parameters"]
    assert load(path).model.name == path.name.removesuffix(".param.yaml")


def test_the_default_model_has_a_parameter_file() -> None:
    assert f"{Config().model.name}.param.yaml" in {p.name for p in SHIPPED}


def test_the_json_schema_forbids_what_is_not_a_setting_and_tells_the_limits() -> None:
    sections = json_schema()["definitions"]
    assert sections["fusion_node"]["additionalProperties"] is False
    publish = sections["PublishConfig"]
    assert publish["properties"]["min_confidence"]["maximum"] == 1.0
    assert publish["additionalProperties"] is False


def test_the_json_schema_is_of_a_file_in_ros_form_and_all_its_references_lead_somewhere() -> None:
    schema = json_schema()
    assert schema["properties"]["/**"]["properties"]["ros__parameters"] == {"$ref": "#/definitions/fusion_node"}
    assert (schema["required"], schema["properties"]["/**"]["required"]) == (["/**"], ["ros__parameters"])
    references = set(re.findall(r'"\$ref": "#/definitions/(\w+)"', json.dumps(schema)))
    assert references == set(schema["definitions"])
    top = set(schema["definitions"]["fusion_node"]["properties"])
    assert top == {s.name.partition(".")[0] for s in settings()} | {"use_sim_time", "qos_overrides"}
