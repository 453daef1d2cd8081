"""The Autoware preset on the live node: the packed mask, the cloud's ids, and what is refused."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import String


def unpacked(message):
    """As the format is described: repeats of uint8 label and int32 little-endian length."""
    data, pixels = bytes(message.data), []
    for start in range(0, len(data), 5):
        label, length = struct.unpack("<Bi", data[start : start + 5])
        pixels += [label] * length
    return np.array(pixels).reshape(message.height, message.width)


@pytest.fixture
def preset(tmp_path):
    """Settings for the fake's classes: dark is road, bright a car, never a wall."""
    (tmp_path / "mask.csv").write_text("from,to\n0,9\n1,7\n2,2\n")
    (tmp_path / "cloud.csv").write_text("from,to\n0,8\n1,0\n2,255\n")
    return {
        "autoware.mask_rle": True,
        "autoware.pointcloud": True,
        "autoware.mask_remap_path": str(tmp_path / "mask.csv"),
        "autoware.pointcloud_remap_path": str(tmp_path / "cloud.csv"),
    }


@pytest.fixture
def half_bright(messages):
    def make(stamp_s):
        picture = messages.image(stamp_s, value=20)
        half = np.frombuffer(picture.data, np.uint8).reshape(48, 64, 3).copy()
        half[:, 32:] = 220
        picture.data = half.tobytes()
        return picture

    return make


def test_the_packed_mask_arrives_best_effort_and_is_the_remapped_mask(make_rig, preset, half_bright):
    rig = make_rig(preset)
    masks, packed = rig.connect(), []
    qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)  # as segmentation_pointcloud_fusion asks
    rig.world.create_subscription(Image, "/fusion_node/output/mask_rle", packed.append, qos)
    rig.wait(lambda: rig.node.count_subscribers("/fusion_node/output/mask_rle"), "the packed mask to be discovered")
    rig.send_all(4.5, image=half_bright(4.5))
    rig.wait(lambda: masks and packed, "both masks")
    (message,) = packed
    assert (message.encoding, message.height, message.width) == ("mono8", 48, 64)
    assert (message.header.frame_id, message.header.stamp.sec, message.header.stamp.nanosec) == (
        "camera",
        4,
        500_000_000,
    )
    # At the border the two classes are equally sure: below 0.5 the pixel is unknown.
    plain = np.frombuffer(masks[0].data, np.uint8).reshape(48, 64)
    ids = unpacked(message)
    unsure = ids == 0
    assert not unsure[:, :28].any() and not unsure[:, 36:].any()
    np.testing.assert_array_equal(ids[~unsure], np.array([9, 7, 2])[plain[~unsure]])
    assert set(np.unique(ids)) >= {7, 9}


def test_the_threshold_can_be_set_while_it_runs(make_rig, preset, half_bright):
    rig = make_rig(preset | {"autoware.min_confidence": 0.0})
    rig.connect()
    packed = rig.listen(Image, "output/mask_rle")
    rig.send_all(1.0, image=half_bright(1.0))
    rig.wait(lambda: len(packed) == 1, "a packed mask")
    assert (unpacked(packed[0]) != 0).all()
    (result,) = rig.node.set_parameters([Parameter("autoware.min_confidence", value=1.0)])
    assert result.successful
    rig.send_all(1.1, image=half_bright(1.1))
    rig.wait(lambda: len(packed) == 2, "another")
    sure = unpacked(packed[1])
    assert (sure[:, 31:33] == 0).all()  # between the two halves
    assert (sure[:, :28] == 9).all() and (sure[:, 36:] == 7).all()
    (result,) = rig.node.set_parameters([Parameter("publish.min_confidence", value=1.0)])
    assert result.successful
    rig.send_all(1.2)
    rig.wait(lambda: len(packed) == 3, "a third")
    assert (unpacked(packed[2]) == 0).all()  # every pixel is 255 in the mask


def test_only_what_is_listened_to_is_packed(make_rig, preset, call_log):
    from samseg_ros import autoware
    from samseg_ros.ros import messages as out

    rig = make_rig(preset)
    masks = rig.connect()
    call_log.watch(autoware, "mask_ids")
    call_log.watch(out, "run_lengths")
    rig.send_all(1.0)
    rig.wait(lambda: masks, "a mask")
    assert call_log.calls == []
    packed = rig.listen(Image, "output/mask_rle")
    rig.send_all(1.1)
    rig.wait(lambda: packed, "a packed mask")
    assert call_log.calls == ["mask_ids", "run_lengths"]


def test_the_painted_cloud_has_the_clusterers_layout_and_ids(make_rig, preset, messages, half_bright):
    rig = make_rig(preset)
    rig.connect()
    clouds = rig.listen(PointCloud2, "output/pointcloud")
    rig.send_all(5.0, image=half_bright(5.0), lidar=messages.cloud(5.0, [[-1, 0, 5], [1, 0, 5], [0, 0, -5]]))
    rig.wait(lambda: clouds, "a painted cloud")
    (cloud,) = clouds
    # What label_based_euclidean_cluster checks before it takes a cloud.
    fields = [(f.name, f.offset, f.datatype, f.count) for f in cloud.fields]
    assert fields == [
        ("x", 0, 7, 1),
        ("y", 4, 7, 1),
        ("z", 8, 7, 1),
        ("class_id", 12, 2, 1),
        ("probability", 16, 7, 1),
        ("entropy", 20, 7, 1),
    ]
    assert (cloud.point_step, cloud.row_step, cloud.width * cloud.height, len(cloud.data)) == (24, 72, 3, 72)
    data = np.frombuffer(cloud.data, np.uint8).reshape(3, 24)
    assert data[:, 12].tolist() == [8, 0, 255]  # flat surface, car, behind the camera
    entropy = data[:, 20:24].copy().view("<f4")[:, 0]
    assert np.isfinite(entropy[:2]).all() and np.isnan(entropy[2])


def test_the_label_info_tells_the_ids_of_every_topic(make_rig, preset):
    rig = make_rig(preset)
    infos = rig.listen(String, "output/label_info", latched=True)
    rig.wait(lambda: infos, "the label info")
    info = json.loads(infos[0].data)
    assert [c["name"] for c in info["classes"]] == ["dark", "bright", "never"]
    names = {topic: [c["name"] for c in s["classes"]] for topic, s in info["topics"].items()}
    assert names["output/mask_rle"][3:5] == ["obstacle", "traffic_light"]
    assert names["output/pointcloud"][8:10] == ["flat_surface", "structure"]


def test_without_the_preset_the_packed_mask_is_not_offered(make_rig):
    rig = make_rig()
    masks = rig.connect()
    rig.send_all(1.0)
    rig.wait(lambda: masks, "a mask")
    assert rig.node.count_publishers("/fusion_node/output/mask") == 1
    assert rig.node.count_publishers("/fusion_node/output/mask_rle") == 0


def test_a_label_set_without_a_table_keeps_the_node_from_being_configured(make_rig):
    rig = make_rig({"autoware.pointcloud": True})
    rig.wait_status("model", 2, "from the classes of fake to Autoware's ids, there is none for them; write a CSV")
    assert rig.node.model.state == "unconfigured"
