"""The table of settings for editors and readers: JSON schema and Markdown."""

from __future__ import annotations

from typing import Any

from samseg_ros.config import NODE_NAME, Config, settings


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a parameter file in ROS's form, as Autoware keeps it under ``schema/``."""
    ours = Config.model_json_schema(ref_template="#/definitions/{model}")
    sections = ours.pop("$defs")
    ours["properties"] |= {"use_sim_time": {"type": "boolean"}, "qos_overrides": {"type": "object"}}
    node = {
        "type": "object",
        "properties": {"ros__parameters": {"$ref": f"#/definitions/{NODE_NAME}"}},
        "required": ["ros__parameters"],
        "additionalProperties": False,
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": f"Parameters of {NODE_NAME}",
        "type": "object",
        "definitions": {NODE_NAME: ours, **sections},
        "properties": {"/**": node},
        "required": ["/**"],
        "additionalProperties": False,
    }


def markdown() -> str:
    """Return every setting as a Markdown table (docs/parameters.md)."""
    lines = ["| parameter | default | allowed | what |", "|---|---|---|---|"]
    for s in settings():
        allowed = " \\| ".join(s.choices)
        if not allowed and s.minimum is not None:
            allowed = f"{s.minimum:g} … {s.maximum:g}" if s.maximum is not None else f"from {s.minimum:g}"
        default = str(s.default).lower() if isinstance(s.default, bool) else s.default
        changes = " *Changes at run time.*" if s.runtime else ""
        lines.append(f"| `{s.name}` | {default} | {allowed} | {s.description.replace('|', chr(92) + '|')}{changes} |")
    return "\n".join(lines) + "\n"
