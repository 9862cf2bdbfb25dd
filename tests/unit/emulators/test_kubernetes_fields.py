"""Quantities, selectors, protobuf and field sets: the parts of the API server that know no objects."""

from decimal import Decimal

import pytest

from infra.emulators.kubernetes.fieldsets import Path, leaves, merged, pruned, read, told, written
from infra.emulators.kubernetes.protobuf import decoded
from infra.emulators.kubernetes.quantities import quantity, written_like
from infra.emulators.kubernetes.selectors import label_selector, matches
from infra.emulators.kubernetes.statuses import BadRequest, UnsupportedMediaType
from infra.emulators.kubernetes.tables import at_path

SCHEMA = {
    "properties": {
        "spec": {
            "properties": {
                "ports": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["port", "protocol"],
                    "items": {"properties": {"port": {}, "protocol": {"default": "TCP"}, "name": {}}},
                },
                "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {}},
                "args": {"type": "array", "items": {}},
                "labels": {"type": "object", "additionalProperties": {}},
            }
        }
    }
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500m", "0.5"),
        ("2", "2"),
        ("1.5Gi", str(3 * 2**29)),
        ("1e3", "1000"),
        ("-1", "-1"),
        ("10n", "1E-8"),
        ("1E", "1e18"),
    ],
)
def test_quantities_have_units(text: str, value: str) -> None:
    assert quantity(text) == Decimal(value)


@pytest.mark.parametrize("text", ["", "lots", "1 Gi", "1GiB", "--1", "1.2.3", "\uff13", "1" * 65])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        quantity(text)


def test_sums_are_written_in_the_limits_unit() -> None:
    assert written_like(Decimal("0.6"), "1") == "600m"
    assert written_like(Decimal(3 * 2**30), "4Gi") == "3Gi"
    assert written_like(Decimal(2**20 + 1), "1Gi") == str(2**20 + 1)
    assert written_like(Decimal(0), "1Gi") == "0"


@pytest.mark.parametrize("text", ["a=(b", "a in b", "=b", "a b", "a,,b", "a,", "a=b c", "a in (b", "!", "a=-", "a>x"])
def test_selectors_that_do_not_parse(text: str) -> None:
    with pytest.raises(BadRequest):
        label_selector(text)


def test_selectors_compare_numbers() -> None:
    obj = {"metadata": {"labels": {"size": "12"}}}
    assert label_selector("size>9")(obj)
    assert not label_selector("size<9")(obj)
    assert not label_selector("other>1")(obj)


def test_selectors_of_objects() -> None:
    labels = {"app": "web", "tier": "front"}
    assert matches({}, labels)
    assert not matches(None, labels)
    expressions = [{"key": "tier", "operator": "In", "values": ["front"]}, {"key": "x", "operator": "DoesNotExist"}]
    assert matches({"matchLabels": {"app": "web"}, "matchExpressions": expressions}, labels)
    assert not matches({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}, labels)


def test_kubectls_namespace_in_protobuf() -> None:
    body = bytes.fromhex(
        "6b3873000a0f0a02763112094e616d657370616365121b0a130a03666f6f12001a0022002a0032003800420012001a020a001a002200"
    )
    assert decoded(body) == {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "foo"}}
    with pytest.raises(BadRequest):
        decoded(body[:30])
    with pytest.raises(UnsupportedMediaType):
        decoded(body.replace(b"Namespace", b"Namespicy"))


def test_field_sets_know_keys_sets_and_whole_values() -> None:
    obj = {"spec": {"ports": [{"port": 80, "name": "web"}], "tags": ["a"], "args": ["x", "y"], "labels": {"k": "v"}}}
    fields = set(leaves(obj, SCHEMA))
    assert {told(path) for path in fields} == {
        '.spec.ports[port=80,protocol="TCP"]',
        '.spec.ports[port=80,protocol="TCP"].port',
        '.spec.ports[port=80,protocol="TCP"].name',
        '.spec.tags[="a"]',
        ".spec.args",
        ".spec.labels.k",
    }
    assert read(written(fields)) == fields


def test_an_apply_merges_by_key_and_takes_back_by_path() -> None:
    live = {"spec": {"ports": [{"port": 80, "name": "web"}, {"port": 81}], "args": ["x"], "labels": {"a": "1"}}}
    config = {"spec": {"ports": [{"port": 80, "protocol": "TCP", "name": "www"}], "args": ["y"]}}
    result = merged(live, config, SCHEMA)
    assert result["spec"]["ports"] == [{"port": 80, "protocol": "TCP", "name": "www"}, {"port": 81}]
    assert result["spec"]["args"] == ["y"]
    gone: set[Path] = {("f:spec", "f:labels", "f:a"), ("f:spec", "f:ports", 'k:{"port":81,"protocol":"TCP"}')}
    left = pruned(result, gone, SCHEMA)
    assert "labels" not in left["spec"]
    assert [port["port"] for port in left["spec"]["ports"]] == [80]


def test_printer_columns_find_their_way() -> None:
    obj = {
        "status": {"conditions": [{"type": "A"}, {"type": "Ready", "status": "True"}]},
        "metadata": {"labels": {"a.b/c": "x"}},
    }
    assert at_path(obj, '.status.conditions[?(@.type=="Ready")].status') == "True"
    assert at_path(obj, ".status.conditions[0].type") == "A"
    assert at_path(obj, r".metadata.labels.a\.b/c") == "x"
    assert at_path(obj, ".status.conditions[7].type") is None
