"""Templates: what a session starts from. A deployment has the four of ours and its own, from one file."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from shared.errors import InvalidRequest
from shared.models import Resources


@dataclass(frozen=True, slots=True)
class Template:
    """A name, what it is for, and the image, resources and environment of a session that asks for no other.

    `image` "": the deployment's own of that name. `requires`: programs that it is nothing without. `unavailable`: why
    this deployment cannot start it; None: it can.
    """

    name: str
    description: str
    image: str = ""
    resources: Resources = Resources()
    env: Mapping[str, str] = field(default_factory=dict)
    requires: tuple[str, ...] = ()
    unavailable: str | None = None


OURS = (
    Template("base", "A shell and the usual tools"),
    Template("python", "Python with pip", env={"PYTHONUNBUFFERED": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}),
    Template("nodejs", "Node.js with npm", requires=("node", "npm")),
    Template("go", "The Go toolchain", resources=Resources(cpu=2.0, memory_bytes=4 << 30), requires=("go",)),
)
IMAGE = "onmemos/workspace-{template}"


class Templates:
    """The templates of a deployment: ours, with `own` beside them or in the stead of those of the same name.

    `image` makes the image of a template that names none, and holds `{template}`. `unavailable`: reasons by name.
    """

    def __init__(
        self, own: Iterable[Template] = (), *, image: str = IMAGE, unavailable: Mapping[str, str] | None = None
    ) -> None:
        reasons = unavailable or {}
        self._templates = {
            one.name: replace(
                one, image=one.image or image.format(template=one.name), unavailable=reasons.get(one.name)
            )
            for one in (*OURS, *own)
        }

    def __iter__(self) -> Iterator[Template]:
        return iter(self._templates.values())

    def find(self, name: str) -> Template:
        """Raises InvalidRequest: there is no such template, or this deployment cannot start it."""
        template = self._templates.get(name)
        if template is None:
            raise InvalidRequest.field("template", f"got '{name}', wanted one of {', '.join(self._templates)}")
        if template.unavailable is not None:
            startable = ", ".join(one.name for one in self if one.unavailable is None)
            raise InvalidRequest.field(
                "template", f"got '{name}', which cannot start here: {template.unavailable}; wanted one of {startable}"
            )
        return template
