"""What pydantic finds wrong with a value, in words for the person who has written it."""

from __future__ import annotations

from pydantic_core import ErrorDetails

_WHOLE, _NUMBER, _SWITCH = "a whole number", "a number", "true or false"
_SECTION = "a section: keys below it, or {key: value, …}"
_SHOULD_BE = {
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": "a finite number",
    "bool_type": _SWITCH,
    "bool_parsing": _SWITCH,
    "string_type": "text (numbers, yes and no are text in quotation marks)",
    "string_too_short": "text of %(min_length)d or more characters",
    "string_pattern_mismatch": "letters, digits, “_”, “.” and “-”, the first one a letter or digit",  # a name
    "path_type": "a path",
    "tuple_type": "a list: [a, b, …]",
    "too_short": "%(min_length)d or more entries",
    "too_long": "%(max_length)d or fewer entries",
    "dict_type": "keys with values: {key: value, …}",
    "model_type": _SECTION,
    "model_attributes_type": _SECTION,
    "literal_error": "%(expected)s",
    "greater_than": "above %(gt)g",
    "greater_than_equal": "%(ge)g or more",
    "less_than": "below %(lt)g",
    "less_than_equal": "%(le)g or less",
}
"""By pydantic's name of a mistake: what the value should be, with the limits that pydantic tells."""


def in_words(details: ErrorDetails) -> str:
    """What is wrong with a value, without where it stands and what it is."""
    match details["type"]:
        case "missing":
            return "missing"
        case "extra_forbidden":
            return "there is no such key"
        case kind if kind in _SHOULD_BE:
            return "should be " + _SHOULD_BE[kind] % details.get("ctx", {})
        case _:  # mostly our own
            return details["msg"].removeprefix("Value error, ")
