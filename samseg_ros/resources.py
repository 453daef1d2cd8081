"""Where the files beside the code are: the installed share folder, else the source tree."""

from __future__ import annotations

import os
import sysconfig
from functools import cache
from pathlib import Path

from samseg_ros.errors import SamsegError

PACKAGE = "samseg_ros"


@cache
def share_dir() -> Path:
    """Return the folder that holds config/, models/, launch/ and schema/.

    Looked up in this order: the source tree (also for ``pip install -e``), ament's share, the environment's share, and
    the share beside wherever the code was put.

    Raises:
        SamsegError: none of them holds our config/.
    """
    candidates = [Path(__file__).resolve().parents[1]]
    try:
        from ament_index_python.packages import get_package_share_directory

        candidates.append(Path(get_package_share_directory(PACKAGE)))
    except (ImportError, LookupError, OSError):  # OSError: no AMENT_PREFIX_PATH
        pass
    candidates.append(Path(sysconfig.get_path("data")) / "share" / PACKAGE)
    # pip install --user and --target put share/ some folders above the code.
    candidates += [parent / "share" / PACKAGE for parent in Path(__file__).resolve().parents[1:5]]
    for path in candidates:
        if (path / "config" / "labels").is_dir():
            return path
    raise SamsegError(
        f"the files of {PACKAGE} were not found in {', '.join(map(str, candidates))}; reinstall the package"
    )


def config_dir() -> Path:
    """Folder of parameter files, label sets and viewer layouts."""
    return share_dir() / "config"


def models_dir() -> Path:
    """Folder of model cards and shipped weights."""
    return share_dir() / "models"


def installed_models_dir() -> Path:
    """Folder of the weights that the user installed: ``$SAMSEG_MODELS``, else the user's data folder (XDG)."""
    own = os.environ.get("SAMSEG_MODELS")
    if own:
        return Path(own).expanduser()
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / PACKAGE / "models"
