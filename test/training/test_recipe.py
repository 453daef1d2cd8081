from __future__ import annotations

import pytest

from samseg_ros.config import ThermalConfig
from samseg_ros.errors import SamsegError
from samseg_ros.training.recipe import ScheduleSettings, load_recipe, shipped_recipes
from samseg_ros.training.schedule import Course, learning_rate


def write(tmp_path, text):
    path = tmp_path / "r.yaml"
    path.write_text("model: mm_sam_adapter\npreset: compact\n" + text)
    return path


ONE_PHASE = "phases: [{steps: 1, crop: [64, 64]}]\n"


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_loads(name):
    assert load_recipe(name).phases


def test_the_published_recipe_of_mm_sam_adapter_has_the_papers_numbers():
    recipe = load_recipe("mm_sam_adapter_deliver")
    optimizer, schedule = recipe.optimizer, recipe.schedule
    assert (optimizer.name, optimizer.learning_rate, optimizer.weight_decay) == ("adamw", 2e-4, 0.01)
    assert (optimizer.grouping, optimizer.layer_decay) == ("published", 0.9)
    assert (schedule.decay, schedule.power, schedule.per) == ("poly", 0.9, "epoch")
    assert (schedule.warmup, schedule.warmup_epochs, schedule.warmup_from) == ("exponential", 10, 0.1)
    assert (recipe.phases[0].epochs, recipe.phases[0].batch, recipe.phases[0].crop) == (100, 8, (1024, 1024))
    assert recipe.steps_of(3983) == (49788,)  # 100 x 3983 / 8


def test_the_published_fmb_recipe_alone_sees_thermal_as_levels_over_255():
    others = {name for name in shipped_recipes() if load_recipe(name).data.thermal != ThermalConfig()}
    assert others == {"mm_sam_adapter_fmb"}
    known = load_recipe("mm_sam_adapter_fmb").data.thermal
    assert (known.normalization, known.fixed_low, known.fixed_high) == ("fixed", 0, 255)


def test_the_cards_two_nets_have_the_same_budget():
    fused, alone = load_recipe("mm_sam_adapter_world"), load_recipe("mm_sam_adapter_world_rgb")
    assert fused.phases == alone.phases
    assert alone.sensors == ("rgb",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ONE_PHASE + "optimizer: {learnig_rate: 1}\n", r"optimizer\.learnig_rate: .*did you mean 'learning_rate'"),
        (ONE_PHASE + "data: {thermal: {fixd_low: 0}}\n", r"data\.thermal\.fixd_low: .*did you mean 'fixed_low'"),
        (
            ONE_PHASE + "data: {thermal: {normalization: fixed, fixed_low: 9, fixed_high: 5}}\n",
            "fixed_low below fixed_high",
        ),
        (ONE_PHASE + "sensor: [rgb]\n", "sensor: .*did you mean 'sensors'"),
        (
            ONE_PHASE + "data: {size: [96, 128], squash: true, pad_to: [128, 160]}\n",
            "expected one of squash, pad_to and",
        ),
        (ONE_PHASE + "batch: 2\n", r"batch: .*did you mean 'phases\.0\.batch'"),
        (ONE_PHASE + "precision: fp8\n", "precision: .*got 'fp8'"),
        ("phases: [{crop: [64, 64]}]\n", "give either steps or epochs"),
        ("phases: [{steps: 1, epochs: 1, crop: [64, 64]}]\n", "give either steps or epochs"),
        (ONE_PHASE + "schedule: {warmup: exponential, warmup_steps: 5}\n", "needs warmup_from above 0"),
        (ONE_PHASE + "loss: {terms: {cross_entropi: 1}}\n", "cross_entropi"),
        ("phases: []\n", "phases"),
        ("phases: [{steps: 1, crop: [64, 64], resize: [2, 1]}]\n", "expected resize as .low, high."),
        ("phases: [{epochs: .inf, crop: [64, 64]}]\n", r"phases\.0\.epochs: .*got inf"),
        (ONE_PHASE + "optimizer: {betas: [2, 2]}\n", r"optimizer\.betas\.0: .*less than 1, got 2"),
        (
            ONE_PHASE + "schedule: {final_rate: 0.5}\n",
            r"schedule\.final_rate: expected at most optimizer\.learning_rate .0\.0007., got 0\.5; lower it",
        ),
        (ONE_PHASE + "seed: 99999999999999\n", "seed: .*less than 2147483648"),
        (ONE_PHASE + "schedule: {warmup_epochs: .inf}\n", r"schedule\.warmup_epochs: .*got inf"),
        ("phases: [{steps: 1, crop: [32, 64]}]\n", r"phases\.0\.crop\.0: .*greater than or equal to 64, got 32"),
        (ONE_PHASE + "data: {input_pixels: 64}\n", "input_pixels: expected at least 4096"),
        (ONE_PHASE + "data: {size: [0, 0]}\n", r"data\.size\.0: .*greater than or equal to 64, got 0"),
        ("phases: [{steps: 1, batch: 2}]\n", r"phases\.0\.crop: Field required"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_name(tmp_path, text, said):
    with pytest.raises(SamsegError, match=f"(?s){said}"):
        load_recipe(write(tmp_path, text))


def test_a_recipe_that_is_no_text_or_not_there_is_refused(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(SamsegError, match="cannot be read"):
        load_recipe(path)
    with pytest.raises(SamsegError, match="no recipe mm_sam_adapter_wrld; did you mean 'mm_sam_adapter_world'"):
        load_recipe("mm_sam_adapter_wrld")


def test_changes_reach_nested_settings_and_phases(tmp_path):
    path = write(tmp_path, ONE_PHASE)
    recipe = load_recipe(path, {"optimizer.learning_rate": 0.5, "phases.0.steps": 7, "options.fusion": "add"})
    assert (recipe.optimizer.learning_rate, recipe.phases[0].steps, recipe.options) == (0.5, 7, {"fusion": "add"})
    with pytest.raises(SamsegError, match=r"phases\.3\.steps: there is no such setting"):
        load_recipe(path, {"phases.3.steps": 7})
    with pytest.raises(SamsegError, match=r"optimizer\.lerning_rate"):
        load_recipe(path, {"optimizer.lerning_rate": 7})


def course(steps, steps_per_epoch):
    return Course((steps,), (2,), 2 * steps_per_epoch)


def test_a_cosine_falls_from_the_peak_to_the_final_rate():
    schedule = ScheduleSettings(final_rate=0.1)
    rates = [learning_rate(1.1, schedule, step, course(100, 10)) for step in (0, 50, 100)]
    assert rates == pytest.approx([1.1, 0.6, 0.1])


def test_a_linear_warm_up_reaches_the_full_rate_at_its_end():
    schedule = ScheduleSettings(decay="constant", warmup_steps=4)
    rates = [learning_rate(1.0, schedule, step, course(100, 10)) for step in range(5)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1])


def test_the_published_schedule_is_poly_by_epoch_times_an_exponential_warm_up():
    schedule = load_recipe("mm_sam_adapter_deliver").schedule
    at = {step: learning_rate(2e-4, schedule, step, course(1000, 10)) for step in (0, 50, 99, 100, 109, 500, 999)}
    assert at[0] == pytest.approx(2e-4 * 0.1)
    assert at[50] == pytest.approx(2e-4 * (1 - 5 / 100) ** 0.9 * 0.1**0.5)
    assert at[99] == pytest.approx(2e-4 * (1 - 9 / 100) ** 0.9 * 0.1**0.01)
    assert at[100] == at[109] == pytest.approx(2e-4 * (1 - 10 / 100) ** 0.9)
    assert at[500] == pytest.approx(2e-4 * 0.5**0.9)
    assert at[999] == pytest.approx(2e-4 * 0.01**0.9)


def test_epochs_are_counted_by_samples_where_phases_have_unlike_batches():
    halves = Course((10, 5), (2, 8), samples=20)  # epoch 1 is 10 steps of 2; epochs 2 and 3 are 2.5 steps of 8 each
    assert [halves.seen(step) for step in (0, 3, 10, 12, 15)] == [0, 6, 20, 36, 60]
    assert halves.epoch(15) == 3
    assert [halves.steps_of(epochs) for epochs in (0.5, 1, 2, 4)] == [5, 10, 12.5, 17.5]
    schedule = ScheduleSettings(decay="poly", power=1, per="epoch")
    rates = [learning_rate(3.0, schedule, step, halves) for step in range(15)]
    assert rates == pytest.approx([3.0] * 10 + [2.0] * 3 + [1.0] * 2)


def test_a_warm_up_of_epochs_that_ends_in_a_later_phase_rises_without_a_jump():
    schedule = ScheduleSettings(decay="constant", warmup_epochs=2)
    rates = [learning_rate(1.0, schedule, step, Course((4, 4), (5, 10), samples=20)) for step in range(8)]
    assert rates == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 1, 1])  # 4 steps of 5 and 2 of 10
