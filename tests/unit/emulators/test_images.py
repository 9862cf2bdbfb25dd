"""Image references as a container runtime reads them."""

import pytest

from infra.emulators.kubernetes import images


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("me/app:1.2", "docker.io/me/app:1.2"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/a/b:c", "localhost:5000/a/b:c"),
        ("europe-docker.pkg.dev/p/r/agent:v1", "europe-docker.pkg.dev/p/r/agent:v1"),
        (f"gcr.io/x@sha256:{'a' * 64}", f"gcr.io/x@sha256:{'a' * 64}"),
    ],
)
def test_a_reference_has_a_full_name(image: str, name: str) -> None:
    assert images.full_name(image) == name
    images.pull(image)


@pytest.mark.parametrize("image", ["Upper", "a b", "x:", "http://x/y", "x@sha256:1"])
def test_what_is_no_reference_says_so(image: str) -> None:
    with pytest.raises(images.NotPulled) as raised:
        images.pull(image)
    assert raised.value.reason == "InvalidImageName"
    assert raised.value.message.startswith(f'Failed to apply default image tag "{image}": ')


def test_only_a_fixed_version_is_kept() -> None:
    assert images.is_latest("x")
    assert images.is_latest("x:latest")
    assert not images.is_latest("x:1")


def test_an_image_without_a_command_of_its_own_is_an_agent() -> None:
    assert images.own_command("registry.k8s.io/pause:3.10") == ("sleep", "infinity")
    assert images.own_command("onmemos/agent:1") == ()
