"""A deployment's own templates, from its one YAML file.

    templates:
      ml:
        description: PyTorch and what goes with it
        image: europe-docker.pkg.dev/my-project/onmemos/ml:1
        resources: {cpu: 4, memory: 16Gi}
        env: {OMP_NUM_THREADS: "4"}
        requires: [python3]

Everything but the description is optional. A name that is ours takes the place of ours.
"""

import re
from pathlib import Path
from typing import Any

import yaml
from marshmallow import ValidationError, fields

from shared.config import ConfigError
from shared.fields import NAME, ResourcesSchema, Strict, Text, Words, flat
from shared.models import Resources
from shared.pairs import Environment
from shared.templates import Template

MOST_PROGRAMS = 20
IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,511}")


class TemplateSchema(Strict):
    """One template of the file."""

    description = Text("what it is for", required=True)
    image = Text("the reference of an image", IMAGE, load_default="")
    resources = fields.Nested(ResourcesSchema, load_default=Resources())
    env = Environment(of_session=True, load_default=dict)
    requires = Words(Text("the name of a program", NAME), MOST_PROGRAMS, load_default=list)


class FileSchema(Strict):
    """The file."""

    templates = fields.Dict(keys=Text("a template's name", NAME), values=fields.Nested(TemplateSchema), required=True)


def read_templates(path: str) -> tuple[Template, ...]:
    """Raises ConfigError, which names the file, the template and what is wrong with it."""
    try:
        document: Any = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError(f"ONMEMOS_TEMPLATES_FILE: cannot read '{path}' ({exc.strerror}); wanted a YAML file") from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise ConfigError(f"ONMEMOS_TEMPLATES_FILE: {path} is not YAML: {' '.join(str(exc).split())}") from exc
    try:
        found = FileSchema().load(document)["templates"]
    except ValidationError as exc:
        complaints = "; ".join(f"{name}: {one}" for name, all_of in flat(_by_template(exc)) for one in all_of)
        raise ConfigError(f"ONMEMOS_TEMPLATES_FILE: {path}: {complaints}") from exc
    return tuple(Template(name=name, **{**one, "requires": tuple(one["requires"])}) for name, one in found.items())


def _by_template(exc: ValidationError) -> dict[str, Any]:
    """What marshmallow says of a mapping, {name: {"key": …, "value": …}}, without that step."""
    messages: dict[str, Any] = exc.normalized_messages()
    found = messages.get("templates")
    if isinstance(found, dict):
        named = {name: one.get("value", one.get("key")) for name, one in found.items() if isinstance(one, dict)}
        messages = {**messages, "templates": {**found, **named}}
    return messages
