"""Templates: what a session starts from. The image's name is made by the provider from the template's."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.errors import InvalidRequest
from shared.models import Resources


@dataclass(frozen=True, slots=True)
class Template:
    """A name, what it is for, and the resources and environment of a session that asks for no other."""

    name: str
    description: str
    resources: Resources = Resources()
    env: Mapping[str, str] = field(default_factory=dict)


TEMPLATES: Mapping[str, Template] = {
    template.name: template
    for template in (
        Template("base", "A shell and the usual tools"),
        Template("python", "Python with pip", env={"PYTHONUNBUFFERED": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}),
        Template("nodejs", "Node.js with npm"),
        Template("go", "The Go toolchain", resources=Resources(cpu=2.0, memory_bytes=4 << 30)),
    )
}


def find(name: str) -> Template:
    """Raises InvalidRequest: no such template."""
    try:
        return TEMPLATES[name]
    except KeyError:
        raise InvalidRequest.field("template", f"got '{name}', wanted one of {', '.join(TEMPLATES)}") from None
