"""What is written from the route table is what it should be, and what is stale is named."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from infra.openapi.__main__ import ROOT, files, stale
from infra.openapi.document import public
from infra.openapi.maps import functions, queues
from shared.http import ROUTES


def copied(to: Path) -> Path:
    for path in files():
        (to / path).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / path, to / path)
    return to


def test_what_is_in_the_repository_is_fresh() -> None:
    assert stale(ROOT) == {}


def test_a_stale_file_is_named_with_what_differs(tmp_path: Path) -> None:
    root = copied(tmp_path)
    path = root / "terraform/functions.json"
    path.write_text(path.read_text().replace('"timeout_s": 660', '"timeout_s": 15', 1))
    (found,) = stale(root).items()
    assert found[0] == "terraform/functions.json"
    assert '-    "timeout_s": 15' in found[1]
    assert '+    "timeout_s": 660' in found[1]


def test_a_missing_file_is_stale(tmp_path: Path) -> None:
    (copied(tmp_path) / "docs/api.md").unlink()
    assert stale(tmp_path) == {"docs/api.md": "is not there"}


def test_a_long_difference_is_cut(tmp_path: Path) -> None:
    (copied(tmp_path) / "docs/api.md").write_text("nothing\n")
    assert len(stale(tmp_path)["docs/api.md"].splitlines()) == 21


def test_the_command_says_by_its_exit_code_whether_all_is_fresh() -> None:
    checked = subprocess.run([sys.executable, "-m", "infra.openapi", "--check"], cwd=ROOT, timeout=60, check=False)
    assert checked.returncode == 0


def test_the_maps_have_every_function_and_a_queue_for_every_step() -> None:
    assert functions().keys() == ROUTES.keys()
    assert {queue["function"] for queue in queues().values()} == {
        name for name, one in functions().items() if one["access"] == "task"
    }
    assert all(queue["min_backoff"].endswith("s") for queue in queues().values())


def test_the_page_has_a_section_with_a_call_for_every_operation() -> None:
    page = (ROOT / "docs/api.md").read_text()
    for route in public():
        _, _, section = page.partition(f"### {route.name}\n")
        section = section.partition("\n### ")[0]
        assert f"`{route.method} {route.path}`" in section
        assert "```sh\ncurl " in section
        assert f"| {route.status} | " in section


def test_every_link_of_the_page_leads_to_one_of_its_headings() -> None:
    page = (ROOT / "docs/api.md").read_text()
    heads = {line.lstrip("# ").lower().replace(" ", "-") for line in page.splitlines() if line.startswith("#")}
    links = {part.partition(")")[0] for part in page.split("](#")[1:]}
    assert links <= heads


def test_the_document_is_json_as_it_stands() -> None:
    assert json.loads((ROOT / "terraform/openapi.json").read_text())["swagger"] == "2.0"
