"""A deployment's file of templates: it is read, and what is wrong is said by file, template and field."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.config import ConfigError
from shared.models import Resources
from shared.template_file import read_templates
from shared.templates import Template

Written = Callable[[str], str]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    def write(text: str) -> str:
        path = tmp_path / "templates.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_everything_that_the_format_knows_is_read(written: Written) -> None:
    path = written("""
        templates:
          ml:
            description: Models
            image: europe-docker.pkg.dev/my-project/onmemos/ml:1
            resources: {cpu: 4, memory: 16Gi}
            env: {OMP_NUM_THREADS: "4"}
            requires: [python3, git]
          tiny:
            description: Täglich
    """)
    assert read_templates(path) == (
        Template(
            "ml",
            "Models",
            image="europe-docker.pkg.dev/my-project/onmemos/ml:1",
            resources=Resources(4.0, 16 << 30),
            env={"OMP_NUM_THREADS": "4"},
            requires=("python3", "git"),
        ),
        Template("tiny", "Täglich"),
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("templates: {ml: {image: x}}", "templates.ml.description: missing; it is required"),
        ("templates: {ml: {description: 1}}", "templates.ml.description: got 1, wanted what it is for"),
        ("templates: {ml: {description: x, imgae: y}}", 'templates.ml.imgae: unknown field, got "y"; wanted one of'),
        ("templates: {ml: {description: x, image: 'a b'}}", 'templates.ml.image: got "a b", wanted the reference'),
        ("templates: {ml: {description: x, resources: {cpu: many}}}", 'templates.ml.resources.cpu: got "many", wanted'),
        ("templates: {ml: {description: x, env: {A: 1}}}", 'templates.ml.env: got 1 for "A", wanted a string'),
        ("templates: {ml: {description: x, env: {PORT: '1'}}}", 'templates.ml.env: got the name "PORT"'),
        ("templates: {ml: {description: x, env: {7: '1'}}}", "templates.ml.env: got the name 7"),
        ("templates: {ml: {description: x, requires: python3}}", 'templates.ml.requires: got "python3", wanted a list'),
        ("templates: {ml: {description: x, requires: [a/b]}}", 'got "a/b", wanted the name of a program'),
        ("templates: {ml: }", "templates.ml"),
        ("templates: {7: {description: x}}", "wanted a template's name"),
        ("templates: {'a b': {description: x}}", "wanted a template's name"),
        ("templates: []", "templates: "),
        ("templates:", "templates: got null"),
        ("template: {}", "templates: missing"),
        ("just text", 'body: got "just text", wanted a JSON object'),
        ("", "body: got null"),
        ("templates: {ml: [}", "is not YAML"),
        ("templates: !!python/object/apply:os.system [true]", "is not YAML"),
    ],
)
def test_what_is_wrong_is_named_with_the_file_the_template_and_the_field(
    written: Written, text: str, complaint: str
) -> None:
    path = written(text)
    with pytest.raises(ConfigError, match=re.escape(complaint)) as refusal:
        read_templates(path)
    assert str(refusal.value).startswith(f"ONMEMOS_TEMPLATES_FILE: {path}")
    assert "\n" not in str(refusal.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read '.*none\.yaml' \(No such file"):
        read_templates(str(tmp_path / "none.yaml"))
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not YAML"):
        read_templates(str(binary))
