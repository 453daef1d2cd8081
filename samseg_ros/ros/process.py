"""The process around the node: memory, signals, threads, and an end within three seconds."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NoReturn, Protocol

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.signals import SignalHandlerOptions

from samseg_ros.errors import SamsegError

SWITCH_INTERVAL_S = 2e-4
"""How long a busy Python thread may hold up the executor (default 5 ms; measured: up to 7 times less latency)."""
PATIENCE_S = 1.2
"""For the frame in the works when the process is asked to end."""
LIMIT_S = 2.5
"""From being asked to the end, whatever happens: `ros2 launch` and users who wait are promised 3 s."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


class Runnable(Protocol):
    """What `run` needs of a node, beside being an rclpy node."""

    def autostart(self) -> None:
        """Configure and activate, where the settings say so."""
        ...

    def end(self, timeout_s: float) -> bool:
        """Stop working; return whether every thread has ended."""
        ...


def tune_malloc() -> bool:
    """Keep buffers of images in the heap instead of mapping fresh pages for each message (glibc only).

    Both settings are needed; together they halve the time from wire to callback at 1080p.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, 32 << 20)) and bool(mallopt(_M_TRIM_THRESHOLD, 512 << 20))


def release_gpu_cache() -> None:
    """Give unused GPU memory back, if torch was ever loaded."""
    cuda = _cuda()
    if cuda is not None:
        cuda.empty_cache()


def gpu_memory_mib() -> float | None:
    """GPU memory held by tensors, MiB; None without a GPU in use."""
    cuda = _cuda()
    return None if cuda is None else float(cuda.memory_allocated()) / 2**20


def _cuda() -> Any:
    """Return torch.cuda if it is in use; torch may be missing, or half imported by another thread."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    is_initialized = getattr(cuda, "is_initialized", None)
    return cuda if is_initialized is not None and is_initialized() else None


def run(make_node: Callable[[], Any], args: list[str] | None) -> int:
    """Run a node until SIGINT or SIGTERM, which end the process; return an exit code only if it cannot start.

    The main thread only waits for signals, so that neither a slow model nor a long start delays the end. It ends with
    code 0, be it that a frame in the works was given up; with 1 where ending hung, saying what every thread was at.
    """
    asked_to_end: SimpleQueue[int] = SimpleQueue()  # its put() may be called from a signal handler
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked_to_end.put(0))
    log = get_logger("samseg_ros")
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        node = make_node()
    except SamsegError as error:
        log.fatal(str(error))
        return 2
    except Exception as error:  # arguments that rcl cannot parse, a parameter file that is not there, an invalid name
        log.fatal(f"cannot start: {error}")
        return 2
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    ending = threading.Event()
    threads = [
        threading.Thread(target=_spin, args=(executor, asked_to_end, ending), name="executor", daemon=True),
        threading.Thread(target=node.autostart, name="autostart", daemon=True),
    ]
    for thread in threads:
        thread.start()
    code = asked_to_end.get()
    ending.set()
    faulthandler.dump_traceback_later(LIMIT_S, exit=True)  # its own thread in C: it needs no interpreter lock
    _end(node, executor, threads)
    _leave(code)


def _spin(executor: SingleThreadedExecutor, asked_to_end: SimpleQueue[int], ending: threading.Event) -> None:
    """Spin; an error in one callback is logged and does not end the node, unless that is ``ending`` anyway."""
    while True:
        try:
            executor.spin()
            return
        except ExternalShutdownException:
            asked_to_end.put(0)
            return
        except Exception:
            if ending.is_set():  # the executor was shut down while it waited
                return
            get_logger("samseg_ros").error(f"a callback failed:\n{traceback.format_exc()}")
            time.sleep(0.1)  # not a busy loop if it fails for good


def _end(node: Any, executor: SingleThreadedExecutor, threads: list[threading.Thread]) -> None:
    ended = node.end(PATIENCE_S)
    executor.shutdown(timeout_sec=0.2)
    for thread in threads:
        thread.join(0.2)
    if ended and not any(thread.is_alive() for thread in threads):
        node.destroy_node()
        rclpy.try_shutdown()
    else:
        get_logger("samseg_ros").info("ended while the model was at work")


def _leave(code: int) -> NoReturn:
    """End without the interpreter's own shutdown.

    It takes apart every module, torch's take two seconds of a processor; and it crashes where a thread is inside torch.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
