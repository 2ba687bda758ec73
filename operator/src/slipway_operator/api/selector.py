"""A label selector, as Kubernetes' own metav1.LabelSelector: which ModelDeployments are served."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

LabelKey = Annotated[str, Field(min_length=1, max_length=317)]


class _Strict(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid"
    )


class Operator(StrEnum):
    """How the value of a label is compared."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class Requirement(_Strict):
    """One condition on one label."""

    key: LabelKey
    operator: Operator
    values: list[str] = Field(default_factory=list[str])

    @model_validator(mode="after")
    def _values_where_needed(self) -> Self:
        if (self.operator in (Operator.IN, Operator.NOT_IN)) != bool(self.values):
            raise ValueError("In and NotIn need values; Exists and DoesNotExist must not have any")
        return self

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels satisfies it; NotIn also holds without the label."""
        match self.operator:
            case Operator.IN:
                return labels.get(self.key) in self.values
            case Operator.NOT_IN:
                return labels.get(self.key) not in self.values
            case Operator.EXISTS:
                return self.key in labels
            case Operator.DOES_NOT_EXIST:
                return self.key not in labels


class LabelSelector(_Strict):
    """All of it must match; an empty one matches everything."""

    match_labels: dict[LabelKey, str] = Field(default_factory=dict)
    match_expressions: list[Requirement] = Field(default_factory=list[Requirement])

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether the selector matches an object with these labels."""
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            requirement.matches(labels) for requirement in self.match_expressions
        )
