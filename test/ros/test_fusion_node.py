"""What comes out of the node for what goes in."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from std_msgs.msg import String


def pixels(message, kind=np.uint8):
    return np.frombuffer(message.data, kind).reshape(message.height, message.width, -1)


def test_a_mask_has_the_stamp_frame_and_size_of_its_image_and_the_classes_of_its_pixels(make_rig, messages):
    rig = make_rig()
    masks = rig.connect()
    rig.send_all(12.25, image=messages.image(12.25, value=200))
    rig.wait(lambda: masks, "a mask")
    mask = masks[0]
    assert (mask.header.stamp.sec, mask.header.stamp.nanosec, mask.header.frame_id) == (12, 250_000_000, "camera")
    assert (mask.height, mask.width, mask.encoding, mask.step) == (48, 64, "mono8", 64)
    assert (pixels(mask) == 1).all()  # bright
    rig.send_all(12.35, image=messages.image(12.35, value=20))
    rig.wait(lambda: len(masks) == 2, "a second mask")
    assert (pixels(masks[1]) == 0).all()


def test_all_sensors_are_fused_and_diagnostics_say_so(make_rig, messages):
    rig = make_rig()
    rig.connect()
    rig.send_all(1.0, lidar=messages.cloud(1.02))
    for name in ("image", "thermal", "lidar"):
        rig.wait_status(name, 0, "fused")
    values = {v.key: v.value for v in rig.statuses["lidar"].values}
    assert float(values["offset_s"]) == 0.02
    assert values["fused"] == "1"
    frame = rig.pipeline.frames[0]
    assert frame.thermal.shape == (48, 64) and frame.thermal[0, 0] == 30000
    np.testing.assert_allclose(frame.points.xyz, [[0, 0, 5]])
    np.testing.assert_allclose(frame.camera_from_lidar, np.eye(4))
    assert frame.camera.k[0, 2] == 32.0


def test_confidence_probabilities_and_class_confidence_agree_with_the_posterior(make_rig, messages):
    rig = make_rig()
    rig.connect()
    confidence = rig.listen(Image, "output/confidence")
    probabilities = rig.listen(Image, "output/class_probabilities")
    classes = rig.listen(DiagnosticArray, "output/class_confidence")
    rig.send_all(3.0, image=messages.image(3.0, value=200))
    rig.wait(lambda: confidence and probabilities and classes, "all three")
    sure = 1 / (1 + np.exp(-8.0) + np.exp(-12.0))  # softmax of (-4, 4, -8)
    assert confidence[0].encoding == "mono8"
    assert (pixels(confidence[0]) == round(255 * sure)).all()
    assert (probabilities[0].encoding, probabilities[0].height, probabilities[0].width) == ("8UC3", 12, 16)
    assert (pixels(probabilities[0]) == [0, 255, 0]).all()
    assert classes[0].header.stamp.sec == 3
    rows = [{v.key: v.value for v in status.values} for status in classes[0].status]
    assert [(r["id"], r["name"], float(r["pixel_share"])) for r in rows] == [
        ("0", "dark", 0.0),
        ("1", "bright", 1.0),
        ("2", "never", 0.0),
    ]
    assert abs(float(rows[1]["mean_posterior"]) - sure) < 1e-5
    assert rows[0]["mean_posterior"] == "nan"


def test_probabilities_are_of_the_classes_that_are_published(make_rig, messages, fake_pipeline):
    class Remapped(fake_pipeline):
        def __call__(self, frame, fused=False):
            matrix = np.array([[0, 0, 1], [1, 1, 0]], np.float32)  # dark and bright are one
            return replace(super().__call__(frame, fused), published_from_model=matrix)

    rig = make_rig(pipeline=Remapped())
    rig.connect()
    probabilities = rig.listen(Image, "output/class_probabilities")
    rig.send_all(3.0, image=messages.image(3.0, value=200))
    rig.wait(lambda: probabilities, "probabilities")
    assert probabilities[0].encoding == "8UC2"
    assert (pixels(probabilities[0]) == [0, 255]).all()


def test_confidence_can_be_floating_point(make_rig):
    rig = make_rig({"publish.confidence_encoding": "32FC1"})
    rig.connect()
    confidence = rig.listen(Image, "output/confidence")
    rig.send_all(3.0)
    rig.wait(lambda: confidence, "a confidence image")
    assert confidence[0].encoding == "32FC1"
    np.testing.assert_allclose(pixels(confidence[0], np.float32), 1.0)  # 0.99966 is stored as 255 / 255


def test_the_painted_cloud_is_in_the_clouds_frame_and_carries_the_class_at_each_points_pixel(make_rig, messages):
    rig = make_rig()
    rig.connect()
    clouds = rig.listen(PointCloud2, "output/pointcloud")
    picture = messages.image(5.0, value=20)
    half = np.frombuffer(picture.data, np.uint8).reshape(48, 64, 3).copy()
    half[:, 32:] = 220  # the right half is bright
    picture.data = half.tobytes()
    # f = 50, centre (32, 24): x = -1, z = 5 lies at u = 22; x = 1 at u = 42; the last one is behind the camera
    rig.send_all(5.0, image=picture, lidar=messages.cloud(5.0, [[-1, 0, 5], [1, 0, 5], [0, 0, -5]]))
    rig.wait(lambda: clouds, "a painted cloud")
    painted = clouds[0]
    assert (painted.header.frame_id, painted.header.stamp.sec, painted.point_step) == ("lidar", 5, 24)
    assert [(f.name, f.offset, f.datatype) for f in painted.fields] == [
        ("x", 0, 7),
        ("y", 4, 7),
        ("z", 8, 7),
        ("class_id", 12, 2),
        ("probability", 16, 7),
        ("entropy", 20, 7),
    ]
    point = np.dtype(
        {
            "names": ["x", "class_id", "probability", "entropy"],
            "formats": ["<f4", "u1", "<f4", "<f4"],
            "offsets": [0, 12, 16, 20],
            "itemsize": 24,
        }
    )
    points = np.frombuffer(painted.data, point)
    np.testing.assert_allclose(points["x"], [-1, 1, 0])
    assert points["class_id"].tolist() == [0, 1, 255]
    assert (points["probability"][:2] > 0.99).all() and points["probability"][2] == 0
    assert np.isfinite(points["entropy"][:2]).all() and np.isnan(points["entropy"][2])


def test_debug_pictures_show_class_colours_and_depth(make_rig, messages):
    rig = make_rig({"publish.overlay_alpha": 1.0})
    rig.connect()
    overlays, colors, depths = (rig.listen(Image, f"debug/{n}") for n in ("overlay", "color_mask", "lidar_depth"))
    rig.send_all(5.0, lidar=messages.cloud(5.0, [[0, 0, 5]]))
    rig.wait(lambda: overlays and colors and depths, "three pictures")
    assert (pixels(overlays[0]) == [255, 255, 0]).all() and overlays[0].encoding == "rgb8"
    assert (pixels(colors[0]) == [255, 255, 0]).all()
    depth = pixels(depths[0], np.float32)[..., 0]
    assert depths[0].encoding == "32FC1"
    assert depth[24, 32] == 5.0 and np.isnan(depth[0, 0])


def test_what_nobody_listens_to_is_not_computed(make_rig, call_log):
    from samseg_ros import drawing, posterior
    from samseg_ros.ros import outputs

    rig = make_rig()
    masks = rig.connect()
    for name in ("overlay", "color_mask"):
        call_log.watch(drawing, name)
    for name in ("probabilities", "at_pixels"):
        call_log.watch(posterior, name)
    call_log.watch(outputs, "project_to_camera")
    rig.send_all(1.0)
    rig.wait(lambda: masks, "a mask")
    assert call_log.calls == []
    overlays = rig.listen(Image, "debug/overlay")
    rig.send_all(1.1)
    rig.wait(lambda: overlays, "an overlay")
    assert call_log.calls == ["overlay"]


def test_the_fused_picture_is_asked_for_only_while_somebody_listens(make_rig, messages, fake_pipeline):
    fuses = type("Fuses", (fake_pipeline,), {"makes_fused": True})()
    rig = make_rig(pipeline=fuses)
    masks = rig.connect()
    rig.send_all(1.0)
    rig.wait(lambda: masks, "a mask")
    pictures = rig.listen(Image, "debug/fused")
    rig.send_all(7.25, image=messages.image(7.25, value=200))
    rig.wait(lambda: pictures, "a fused picture")
    assert rig.pipeline.asked_for_fused == [False, True]
    (picture,) = pictures
    assert (picture.header.stamp.sec, picture.header.stamp.nanosec) == (7, 250_000_000)
    assert (picture.header.frame_id, picture.encoding, picture.height, picture.width) == ("camera", "rgb8", 48, 64)
    assert (pixels(picture) == 55).all()


def test_a_model_without_a_fused_picture_offers_no_topic_for_it(make_rig):
    rig = make_rig()
    masks = rig.connect()
    rig.send_all(1.0)
    rig.wait(lambda: masks, "a mask")
    assert rig.node.count_publishers("/fusion_node/debug/overlay") == 1
    assert rig.node.count_publishers("/fusion_node/debug/fused") == 0
    assert rig.pipeline.asked_for_fused == [False]


def test_a_late_joiner_gets_the_label_info(make_rig):
    rig = make_rig()
    masks = rig.connect()
    rig.send_all(1.0)
    rig.wait(lambda: masks, "a mask")
    infos = rig.listen(String, "output/label_info", latched=True)
    rig.wait(lambda: infos, "the label info")
    info = json.loads(infos[0].data)
    assert info["unlabelled"] == 255 and info["name"] == "fake"
    assert info["classes"][1] == {"id": 1, "name": "bright", "color": [255, 255, 0]}


def test_compressed_images_are_taken_too_and_an_image_that_comes_both_ways_gives_one_mask(make_rig, messages):
    import cv2

    rig = make_rig({"inputs.thermal": False, "inputs.lidar": False})
    masks = rig.connect()
    packed = rig.world.create_publisher(CompressedImage, "/fusion_node/input/image/compressed", 10)

    def compressed(stamp_s, value):
        data = cv2.imencode(".png", np.full((48, 64, 3), value, np.uint8))[1].tobytes()
        return CompressedImage(header=messages.header(stamp_s, "camera"), format="png", data=data)

    rig.wait(packed.get_subscription_count, "the compressed topic to be matched")
    packed.publish(compressed(1.0, 10))
    rig.wait(lambda: len(masks) == 1, "a mask of the compressed image")
    assert (pixels(masks[0]) == 0).all()
    rig.send(image=messages.image(1.1, 200))
    rig.wait(lambda: len(masks) == 2, "a mask of the raw image")
    packed.publish(compressed(1.1, 10))
    rig.send(image=messages.image(1.2, 200))
    rig.wait(lambda: len(masks) == 3, "a third mask")
    assert [round(m.header.stamp.nanosec * 1e-8) for m in masks] == [0, 1, 2]
    assert rig.node.session.health["image"].bad == 0


def test_a_modality_that_is_switched_off_or_that_the_model_lacks_is_not_subscribed(make_rig):
    rig = make_rig({"inputs.lidar": False})
    assert set(rig.node.session.health) == {"image", "thermal"}
    assert rig.node.count_subscribers("/fusion_node/input/pointcloud") == 0
    rgb_only = type("RgbOnly", (type(rig.pipeline),), {"modalities": ("rgb",)})()
    assert set(make_rig(pipeline=rgb_only).node.session.health) == {"image"}


def test_a_model_that_hangs_is_an_error_until_it_goes_on(make_rig):
    rig = make_rig({"diagnostics.max_acceptable_consecutive_delay_ms": 300.0})
    masks = rig.connect()
    rig.pipeline.go_on.clear()
    rig.send_all(1.0)
    rig.wait_status("model", 2, "has worked on one frame for")
    rig.pipeline.go_on.set()
    rig.wait(lambda: masks, "the mask")
    rig.send_all(1.1)
    rig.wait(lambda: len(masks) == 2, "the next mask")
    rig.wait_status("model", 0, "segmenting")


def test_the_inference_thread_outlives_a_fault_in_taking(make_rig):
    rig = make_rig()
    masks = rig.connect()
    intake, take = rig.node.session.intake, rig.node.session.intake.take

    def fail_once():
        intake.take = take
        raise OverflowError("timestamp too large")

    intake.take = fail_once
    rig.send_all(1.0)  # the thread waits in the real one; it meets the faulty one after this frame
    rig.wait(lambda: rig.node.model.failed_frames == 1, "the fault")
    rig.send_all(1.1)
    rig.wait(lambda: len(masks) == 2, "the mask after it")
