"""JSON objects of which only some fields are read.

A declared sink reads a few fields of a value, and knows which before the first record comes. To decode
the whole value would make a dictionary per record, with every name and every value in it. So msgspec
compiles a decoder for the fields that are read; the rest of the value is only skipped over.

Fields that go into a JSON column as they are need not even be decoded: they stay text, with every
digit that was produced. So do numbers with a fraction or an exponent, as `Digits`: what they are to
become, the column that they go into knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, ClassVar

import attrs
import msgspec


class Digits(str):
    """A number with a fraction or an exponent, as it was written: ``1.10`` is not ``1.1``."""

    __slots__ = ()


def plain(value: Any) -> Any:
    """Return a value as an ordering key has it: 1.0 and 1 are one, and what is absent is None."""
    if type(value) is Digits:
        return float(value)
    return None if value is msgspec.UNSET else value


@attrs.frozen
class Shape:
    """The fields that are read of a JSON object.

    Attributes:
        fields: names, each once. A `Row` holds their values in this order.
        texts: those that stay JSON text (`msgspec.Raw`).
    """

    fields: tuple[str, ...]
    texts: frozenset[str] = frozenset()

    def including(self, fields: Iterable[str]) -> Shape:
        """Return the same shape with more fields at its end, all of which are decoded."""
        more = tuple(dict.fromkeys(fields))
        rest = tuple(field for field in more if field not in self.fields)
        return Shape(self.fields + rest, self.texts.difference(more))


class Row(msgspec.Struct, gc=False):
    """The fields of one object; UNSET for one that is absent. `msgspec.structs.astuple` gives all."""

    attributes: ClassVar[Mapping[str, str]]
    """Field → attribute: the name of a field may be any text, that of an attribute may not."""

    def get(self, field: str) -> Any:
        """Return the value of a field of the shape; UNSET if it is absent."""
        return getattr(self, self.attributes[field])


@cache
def row_type(shape: Shape) -> type[Row]:
    """Return the class of a shape's rows."""
    attributes = {field: f"field_{place}" for place, field in enumerate(shape.fields)}
    made = msgspec.defstruct(
        "Row",
        [
            (name, msgspec.Raw if field in shape.texts else Any, msgspec.UNSET)
            for field, name in attributes.items()
        ],
        bases=(Row,),
        namespace={"attributes": attributes},
        rename={name: field for field, name in attributes.items()},
        gc=False,
    )
    assert issubclass(made, Row)
    return made


def row_parser(shape: Shape) -> Callable[[bytes], Row]:
    """Return a function from JSON to a row.

    The function raises ValueError if the value is not a JSON object, and RecursionError if it nests
    too deep. Whole numbers keep all their digits, whatever their size; other numbers are `Digits`.
    """
    return msgspec.json.Decoder(row_type(shape), float_hook=Digits).decode
