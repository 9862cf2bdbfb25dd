"""Objects of strings: labels and environment variables."""

import re
from typing import Any

from marshmallow import ValidationError

from shared.fields import NO_NUL, Value, seen, whole

MAX_LABELS = 32  # Google Cloud takes 64 a resource; half are the caller's
MAX_ENV_BYTES = 32_768  # Cloud Run's limit of one variable; here of all: cloud.google.com/run/quotas
# cloud.google.com/resource-manager/docs/labels-overview#requirements
LABEL_KEY = re.compile(r"(?!onmemos|goog)[a-z][a-z0-9_-]{0,62}")
LABEL_WANTED = "1 to 63 of a-z, 0-9, '_', '-', beginning with a letter; not beginning with onmemos or goog"
LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
RESERVED_ENV = re.compile(
    r"PORT|K_.*|X_GOOGLE_.*|CLOUD_RUN_.*|ONMEMOS_.*|WORKSPACE_ID|NAMESPACE|USER|BUCKET_NAME|HOME|GOOGLE_.*"
)


class Pairs(Value[dict[str, str]]):
    """An object of strings; the subclass says which."""

    def json_schema(self) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": {"type": "string"}, **self._described()}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> dict[str, str]:
        if not isinstance(value, dict):
            raise ValidationError(f"got {seen(value)}, wanted an object of strings")
        for key, item in value.items():
            self._check(key, item)
        return dict(value)

    def _check(self, key: str, item: Any) -> None:
        raise NotImplementedError


class Labels(Pairs):
    """Google Cloud labels."""

    def json_schema(self) -> dict[str, Any]:
        value = {"type": "string", "pattern": whole(LABEL_VALUE)}
        wanted = f"keys are {LABEL_WANTED}"
        return {
            **super().json_schema(), "maxProperties": MAX_LABELS, "additionalProperties": value,
            **self._described(wanted),
        }  # fmt: skip

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> dict[str, str]:
        labels = super()._deserialize(value, attr, data, **options)
        if len(labels) > MAX_LABELS:
            raise ValidationError(f"got {len(labels)} labels, wanted at most {MAX_LABELS}")
        return labels

    def _check(self, key: str, item: Any) -> None:
        if not LABEL_KEY.fullmatch(key):
            raise ValidationError(f"got the key {seen(key)}, wanted {LABEL_WANTED}")
        if not isinstance(item, str) or not LABEL_VALUE.fullmatch(item):
            raise ValidationError(f"got {seen(item)} for {seen(key)}, wanted up to 63 of a-z, 0-9, '_', '-'")


class Environment(Pairs):
    """Environment variables; with `of_session`, none of those that we or the platform set."""

    def __init__(self, *, of_session: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self._of_session = of_session

    def json_schema(self) -> dict[str, Any]:
        reserved = "; names that we or the platform set are refused" if self._of_session else ""
        wanted = f"names are letters, digits and '_'; at most {MAX_ENV_BYTES:,} bytes in all{reserved}"
        value = {"type": "string", "pattern": whole(NO_NUL)}
        return {**super().json_schema(), "additionalProperties": value, **self._described(wanted)}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> dict[str, str]:
        env = super()._deserialize(value, attr, data, **options)
        size = sum(len(key.encode()) + len(item.encode()) for key, item in env.items())
        if size > MAX_ENV_BYTES:
            raise ValidationError(f"got {size} bytes, wanted at most {MAX_ENV_BYTES} in all")
        return env

    def _check(self, key: str, item: Any) -> None:
        if not isinstance(key, str) or not ENV_NAME.fullmatch(key):  # YAML's keys may be anything
            raise ValidationError(
                f"got the name {seen(key)}, wanted letters, digits and '_', not beginning with a digit"
            )
        if self._of_session and RESERVED_ENV.fullmatch(key):
            raise ValidationError(f"got the name {seen(key)}, wanted one that is not reserved")
        if not isinstance(item, str) or "\0" in item:
            raise ValidationError(f"got {seen(item)} for {seen(key)}, wanted a string without NUL")
