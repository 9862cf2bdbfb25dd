"""A deployment's templates: ours, its own, and those that cannot start there."""

import pytest

from shared.errors import InvalidRequest
from shared.models import Resources
from shared.templates import OURS, Template, Templates


def test_ours_are_the_four_with_the_deployments_images() -> None:
    templates = Templates(image="eu.pkg.dev/p/onmemos/{template}:7")
    assert [one.name for one in templates] == ["base", "python", "nodejs", "go"]
    assert templates.find("go").image == "eu.pkg.dev/p/onmemos/go:7"
    assert templates.find("go").resources == Resources(2.0, 4 << 30)


def test_a_templates_own_image_stays_as_it_is() -> None:
    own = Template("ml", "Models", image="eu.pkg.dev/p/ml:{1}")
    assert Templates([own]).find("ml").image == "eu.pkg.dev/p/ml:{1}"
    assert Templates([Template("zig", "Zig")], image="x/{template}").find("zig").image == "x/zig"


def test_a_template_of_the_same_name_takes_the_place_of_ours() -> None:
    templates = Templates([Template("go", "Ours, with our modules", image="own/go:1")])
    assert [one.name for one in templates] == [one.name for one in OURS]
    assert templates.find("go").description == "Ours, with our modules"


def test_an_unknown_template_is_refused_with_all_there_are() -> None:
    with pytest.raises(InvalidRequest, match="got 'ruby', wanted one of base, python, nodejs, go") as refusal:
        Templates().find("ruby")
    assert list(refusal.value.errors) == ["template"]


def test_one_that_cannot_start_is_refused_with_the_reason_and_those_that_can() -> None:
    templates = Templates(unavailable={"go": "go is not installed on this machine", "gone": "x"})
    assert {one.name: one.unavailable for one in templates if one.unavailable} == {
        "go": "go is not installed on this machine"
    }
    with pytest.raises(InvalidRequest, match=r"not installed on this machine; wanted one of base, python, nodejs$"):
        templates.find("go")
