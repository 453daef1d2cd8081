"""Pages that are made from the code say what the code says."""

from pathlib import Path

from samseg_ros.schema import markdown

ROOT = Path(__file__).resolve().parents[1]


def test_the_page_of_parameters_is_the_table_of_settings() -> None:
    assert markdown() in (ROOT / "docs" / "parameters.md").read_text()


def test_the_readme_shows_only_files_that_exist() -> None:
    text = (ROOT / "README.md").read_text()
    targets = [part.split(")")[0] for part in text.split("](")[1:]]
    assert [t for t in targets if not t.startswith("http") and not (ROOT / t).exists()] == []
