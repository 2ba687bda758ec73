"""Types of single values, with what they must look like: quantities, networks, names."""

from typing import Annotated, Any

from pydantic import Field, WithJsonSchema

from slipway_operator.api.schema import INT_OR_STRING, OPAQUE_OBJECT, cel, validated

OpaqueObject = Annotated[dict[str, Any], WithJsonSchema(OPAQUE_OBJECT)]


def is_zero(value: int | str) -> bool:
    """Whether a number or a percentage of pods is none at all."""
    digits = str(value).removesuffix("%")
    return digits.isdecimal() and int(digits) == 0


def _int_or_string(rule: dict[str, str]) -> WithJsonSchema:
    return WithJsonSchema(
        {
            **INT_OR_STRING,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            # The API server estimates the cost of a CEL rule from this bound.
            "maxLength": 32,
            **validated(rule),
        }
    )


IntOrPercent = Annotated[
    int | str,
    _int_or_string(
        cel(
            "type(self) == int ? self >= 0 : self.matches('^[0-9]+%$')",
            "must be a number of pods or a percentage of them, such as 1 or 25%",
        )
    ),
]
_NUMBER = "([0-9]+|[0-9]*[.][0-9]+)"
_MULTIPLES = "k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei"
Quantity = Annotated[
    int | str,
    _int_or_string(
        cel(
            f"type(self) == int ? self >= 0 : self.matches('^{_NUMBER}(m|{_MULTIPLES})?$')",
            "must be a quantity: a number that is not negative, with a unit where one is "
            "meant, such as 500m, 2, 0.5Gi or 512Mi",
            messageExpression="'\"' + string(self) + '\" is not a quantity: write a number "
            "that is not negative, with a unit where one is meant, such as 500m, 2, 0.5Gi "
            "or 512Mi'",
        )
    ),
]
Bytes = Annotated[
    int | str,
    _int_or_string(
        cel(
            "type(self) == int ? self >= 1 : self.matches('[1-9]') && "
            f"(self.matches('^[0-9]+$') || self.matches('^{_NUMBER}({_MULTIPLES})$'))",
            "must be a size in bytes above 0, such as 512Mi, 0.5Gi or 65536",
            messageExpression="'\"' + string(self) + '\" is not a size: write bytes above 0, with "
            "a unit where one is meant, such as 512Mi, 0.5Gi or 65536; m means thousandths'",
        )
    ),
]


Workers = Annotated[
    int | str,
    _int_or_string(
        cel(
            "type(self) == int ? self >= 1 && self <= 64 : self == 'auto'",
            "must be a number of processes from 1 to 64, or auto",
        )
    ),
]


CIDR_PATTERN = r"^(\d{1,3}(\.\d{1,3}){3}/\d{1,2}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*/\d{1,3})$"
Cidr = Annotated[
    str,
    Field(pattern=CIDR_PATTERN, max_length=64),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 64,
            **validated(
                cel(
                    "self.matches('^([0-9]{1,3}([.][0-9]{1,3}){3}/[0-9]{1,2}|"
                    "[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*/[0-9]{1,3})$')",
                    "must be a network: an address, a slash and the length of the prefix, such as "
                    "10.0.0.0/8 or fd00::/8",
                )
            ),
        }
    ),
]


HostName = Annotated[
    str,
    Field(
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    ),
]
Provider = Annotated[str, Field(pattern="^[A-Za-z][A-Za-z0-9]*ExecutionProvider$", max_length=64)]
CPU_PROVIDER = "CPUExecutionProvider"
ProviderOptions = dict[str, dict[str, Annotated[str, Field(max_length=1024)]]]
# The runtime reads a list that commas separate.
LibraryPath = Annotated[str, Field(pattern="^/[^,]+$", max_length=1024)]
ModelAlias = Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=128)]
