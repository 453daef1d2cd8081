"""`fusion_node`: camera, thermal and LiDAR in; mask, confidence and painted cloud out.

A lifecycle node: configure loads the model and warms it up, activate starts the work, deactivate frees the model's
memory. With ``autostart`` (the default) it does the first two by itself. Settings that were changed in between, another
model among them, hold from the next activation on: it makes anew what depends on them.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rclpy._rclpy_pybind11 import RCLError, RCLInvalidROSArgsError
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.utilities import remove_ros_args

from samseg_ros.config import Config
from samseg_ros.errors import SamsegError
from samseg_ros.labels import format_label_info
from samseg_ros.ros.diagnostics import STEADY, Diagnostics
from samseg_ros.ros.extrinsics import Extrinsics, NoExtrinsics, make_extrinsics
from samseg_ros.ros.health import Check, ModelHealth, Verdict
from samseg_ros.ros.outputs import Outputs, warm_up
from samseg_ros.ros.parameters import Parameters, frozen_settings
from samseg_ros.ros.process import gpu_memory_mib, release_gpu_cache, run, tune_malloc
from samseg_ros.ros.selfcheck import SelfCheck
from samseg_ros.ros.session import Session, needed_infos, used_inputs

REFRESH_S = 0.5
"""How often publishers are looked at, to follow their QoS."""
WARM_UP_SIZE = (480, 640)
"""Camera size to warm up with; another size costs the first frame a little time."""

PipelineFactory = Callable[[Config], Any]
"""Makes what `samseg_ros.pipeline.Pipeline` is: called with a Frame and ``fused`` it returns a Segmentation; it has
``labels``, ``own_classes``, ``modalities``, ``makes_fused``, ``runs_on``, ``warm_up(size)``, and a ``config`` that may
be replaced between frames."""


def load_pipeline(config: Config) -> Any:
    """Load the real pipeline (imports torch, which takes seconds: not before it is needed)."""
    from samseg_ros.pipeline import Pipeline

    return Pipeline.from_config(config)


class FusionNode(LifecycleNode):
    """The node.

    Args:
        pipeline_factory: makes the pipeline; tests hand in a fast one.
        arguments: what rclpy.node.Node takes (context, cli_args, namespace, parameter_overrides).

    Raises:
        SamsegError: a parameter that does not exist, or a value that it cannot have.
    """

    def __init__(self, pipeline_factory: PipelineFactory = load_pipeline, **arguments: Any) -> None:
        super().__init__("fusion_node", **arguments)
        self.model = ModelHealth()
        self._factory = pipeline_factory
        self._pipeline: Any = None
        self._extrinsics: Extrinsics = NoExtrinsics()
        self._outputs: Outputs | None = None
        self._loaded_with: dict[str, Any] = {}
        self._made_for: tuple[Any, ...] = ()
        """What the extrinsics and outputs depend on."""
        self._self_check: SelfCheck | None = None
        self.session: Session | None = None
        self._parameters_of_ours = Parameters(self, lambda: self.model.state, self._settings_changed)
        if self.config.tune_malloc:
            tune_malloc()
        self._refuse_impossible_transitions()
        self._diagnostics = Diagnostics(self, self._verdicts, self.config.diagnostics.period_s)
        self.create_timer(REFRESH_S, self._refresh, clock=STEADY)

    @property
    def config(self) -> Config:
        """The settings as they are now."""
        return self._parameters_of_ours.config

    def autostart(self) -> None:
        """Configure and activate, if the parameter says so."""
        if not self.config.autostart:
            return
        try:
            if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
                self.trigger_activate()
        except RCLError as error:  # somebody else was quicker
            self.get_logger().warning(f"autostart gave way to another transition: {error}")

    def end(self, timeout_s: float) -> bool:
        """Stop working; return whether the inference thread has ended."""
        return self.session is None or self.session.halt(timeout_s)

    def destroy_node(self) -> None:
        """Leave the graph at once; rclpy alone leaves the state machine, and with it the node, to the collector."""
        super().destroy_node()
        self._state_machine.destroy_when_not_in_use()

    # Lifecycle. An exception in here would vanish without a word (rclpy drops it), hence _attempt.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model, warm it up, offer the outputs."""
        return self._attempt("configuring", self._configure, "inactive", "unconfigured", undo=self._cleanup)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and start the inference thread."""
        result = self._attempt("activating", lambda: self._activate(state), "active", "inactive", undo=self._deactivate)
        if result != TransitionCallbackReturn.SUCCESS:
            super().on_deactivate(state)
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop, and free the memory of the model."""
        super().on_deactivate(state)
        return self._take_back("deactivating", self._deactivate, "inactive")

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Take the outputs back."""
        return self._take_back("cleaning up", self._cleanup, "unconfigured")

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop whatever runs."""
        return self._attempt("shutting down", self._cleanup, "finalized", "finalized")

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Go back to unconfigured; where that fails too, the node is finalized."""
        return self._attempt("cleaning up", self._cleanup, "unconfigured", "finalized")

    def _take_back(self, doing: str, work: Callable[[], None], after: str) -> TransitionCallbackReturn:
        """Do the work of a transition downwards; half done there is no state to stay in, hence `on_error`."""
        result = self._attempt(doing, work, after, "error")
        return result if result == TransitionCallbackReturn.SUCCESS else TransitionCallbackReturn.ERROR

    def _attempt(
        self, doing: str, work: Callable[[], None], after: str, on_failure: str, undo: Callable[[], None] | None = None
    ) -> TransitionCallbackReturn:
        """Do the work of a transition; where it fails, ``undo`` takes back what was half done."""
        self.model.state, self.model.error = doing, ""
        self._diagnostics.publish()
        try:
            work()
            self.model.state = after
            return TransitionCallbackReturn.SUCCESS
        except SamsegError as error:
            self.model.error = f"{doing} failed: {error}"
            self.get_logger().error(self.model.error)
        except Exception as error:
            self.model.error = f"{doing} failed: {type(error).__name__}: {error}"
            self.get_logger().fatal(f"{doing} failed:\n{traceback.format_exc()}")
        finally:
            self._diagnostics.publish()
        self.model.state = on_failure
        if undo is not None:
            self._undo(doing, undo)
        return TransitionCallbackReturn.FAILURE

    def _undo(self, doing: str, undo: Callable[[], None]) -> None:
        try:
            undo()
        except Exception:
            self.get_logger().error(f"{doing} failed, and so did undoing it:\n{traceback.format_exc()}")

    def _configure(self) -> None:
        self._prepare(self.config)

    def _activate(self, state: LifecycleState) -> None:
        config = self.config
        names, outputs = self._prepare(config)
        super().on_activate(state)  # of the outputs, which may be new
        overridden = self._parameters_of_ours.overridden
        self.session = Session(self, self._pipeline, names, self._extrinsics, outputs, config, overridden, self.model)
        self._self_check = SelfCheck(self._checks, self.get_logger(), time.monotonic())
        self.get_logger().info(f"active: fusing {', '.join(('image', *names))}")
        if "lidar" not in names and config.inputs.lidar:
            self.get_logger().info(
                f"{config.model.name} takes no LiDAR: ~/output/pointcloud and ~/debug/lidar_depth stay silent; "
                "publish.pointcloud: always paints the cloud all the same"
            )

    def _deactivate(self) -> None:
        self._self_check = None
        if self.session is not None:
            self.session.close()
        self.session = self._pipeline = None  # the session holds the model too
        gc.collect()
        release_gpu_cache()

    def _cleanup(self) -> None:
        self._deactivate()
        self._withdraw()

    def _prepare(self, config: Config) -> tuple[tuple[str, ...], Outputs]:
        """Have the model, extrinsics and outputs that the settings ask for, keeping what was made for the same.

        Returns:
            The auxiliary inputs, and the outputs.
        """
        frozen = frozen_settings(config)
        if self._pipeline is None or self._loaded_with != frozen:
            self._deactivate()  # the memory of the one before, first
            self._load(config)
            self._loaded_with = frozen
        labels, makes_fused = self._pipeline.labels, self._pipeline.makes_fused
        names = used_inputs(config, self._pipeline.modalities)
        made_for = (frozen, names, format_label_info(labels), makes_fused, _written(config))
        if self._outputs is None or self._made_for != made_for:
            is_needed = bool(needed_infos(config, names))
            extrinsics = make_extrinsics(self, config.projection) if is_needed else NoExtrinsics()
            self._withdraw()
            self._extrinsics = extrinsics
            self._outputs = Outputs(self, labels, makes_fused, config.autoware, self._pipeline.own_classes)
            self._made_for = made_for
        return names, self._outputs

    def _withdraw(self) -> None:
        """Take extrinsics and outputs back."""
        self._extrinsics.close()
        self._extrinsics = NoExtrinsics()
        outputs, self._outputs = self._outputs, None
        if outputs is not None:
            outputs.close()

    def _load(self, config: Config) -> None:
        model = config.model
        start = time.monotonic()
        self.get_logger().info(f"loading {model.name} ({model.config})" + (", compiling" if model.compile else ""))
        self._pipeline = self._factory(config)
        self.get_logger().info(f"loaded after {time.monotonic() - start:.1f} s; warming up")
        self._pipeline.warm_up(WARM_UP_SIZE)
        warm_up(config, self._pipeline.labels)
        self.get_logger().info(f"ready after {time.monotonic() - start:.1f} s")

    # The rest.

    def _settings_changed(self, config: Config) -> None:
        self._diagnostics.repeat_every(config.diagnostics.period_s)
        if self.session is not None:
            self.session.configure(config)

    def _refresh(self) -> None:
        if self.session is not None:
            self.session.refresh()
        check = self._self_check  # another thread may deactivate
        if check is not None:
            check.refresh(time.monotonic())

    def _checks(self) -> list[Check]:
        session, pipeline, model = self.session, self._pipeline, self.config.model
        if session is None or pipeline is None:
            return []
        verdict = self.model.verdict(time.monotonic(), self.config.diagnostics, {})
        about = f"{model.name} ({model.config}) on {pipeline.runs_on}, {verdict.message}"
        return [*session.checks(), Check("model", verdict.level, about)]

    def _verdicts(self) -> dict[str, Verdict]:
        session = self.session
        inputs = session.verdicts() if session is not None else {}  # before the model, which learns from it
        extra = {"extrinsics": self._extrinsics.source}
        memory = gpu_memory_mib()
        if memory is not None:
            extra["gpu_memory_mib"] = f"{memory:.0f}"
        if session is not None:
            skipped = session.collector.counters["image"].missing  # a required input was not there
            extra |= {
                "dropped": str(session.intake.dropped),
                "waiting": str(len(session.intake)),
                "skipped": str(skipped),
            }
        model = self.model.verdict(time.monotonic(), self.config.diagnostics, extra)
        return inputs | {"model": model}

    def _refuse_impossible_transitions(self) -> None:
        """Answer ``success: false`` to, say, activate before configure, which rclpy answers by an exception."""
        service = self._service_change_state
        change_state = service.callback

        def guarded(request: Any, response: Any) -> Any:
            try:
                return change_state(request, response)
            except RCLError as error:
                self.get_logger().warning(f"transition refused: {error}")
                response.success = False
                return response

        service.callback = guarded


def _written(config: Config) -> list[tuple[int, int]]:
    """Return time and size of the files that extrinsics and outputs are made from: one may be corrected."""
    tables = config.autoware.mask_remap_path, config.autoware.pointcloud_remap_path
    files = [path for name in (config.projection.calibration_path, *tables) if (path := Path(name)).is_file()]
    return [(file.stat().st_mtime_ns, file.stat().st_size) for file in files]


def main(args: list[str] | None = None, pipeline_factory: PipelineFactory = load_pipeline) -> int:
    """Run the node until it is told to end; return the exit code.

    Args:
        args: as ``sys.argv``, the program's name first.
    """
    _refuse_other_arguments(sys.argv if args is None else args)
    return run(lambda: FusionNode(pipeline_factory), args)


def _refuse_other_arguments(args: list[str]) -> None:
    """Answer --help, and refuse what is no ROS argument: nothing would heed it."""
    parser = argparse.ArgumentParser(
        "fusion_node",
        description="Segment what camera, thermal camera and LiDAR see.",
        epilog="Everything is set as ROS parameters: --ros-args --params-file FILE -p model.checkpoint:=FOLDER "
        "-r '~/input/image:=/camera/image_raw'. `samseg settings` lists the parameters.",
    )
    try:
        parser.parse_args(remove_ros_args(args)[1:])
    except RCLInvalidROSArgsError:
        return  # `run` tells what is wrong with them


if __name__ == "__main__":
    raise SystemExit(main())
