"""JSON objects of which only some fields are read.

A declared sink reads a few fields of a value, and knows which before the first record comes. To decode
all of it would make a dictionary a record, with every name and every value in it. So a decoder is
compiled for the fields that are read (by msgspec); what else the value holds is looked at only as far
as JSON's grammar asks, and nothing is made of it.

Fields that go into a JSON column as they are need not even be decoded: they stay text, with every
digit that was produced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, ClassVar

import attrs
import msgspec


@attrs.frozen
class Shape:
    """What is read of a JSON object.

    Attributes:
        fields: names, each once. A `Row` holds their values in this order.
        texts: those that stay JSON text (`msgspec.Raw`).
    """

    fields: tuple[str, ...]
    texts: frozenset[str] = frozenset()

    def including(self, fields: Iterable[str]) -> Shape:
        """The same with more fields behind, all of which are decoded."""
        more = tuple(dict.fromkeys(fields))
        rest = tuple(field for field in more if field not in self.fields)
        return Shape(self.fields + rest, self.texts.difference(more))


class Row(msgspec.Struct, gc=False):
    """The fields of one object; None where one is missing. `msgspec.structs.astuple` gives all."""

    attributes: ClassVar[Mapping[str, str]]
    """By the names of fields, which may be any text, those of attributes."""

    def get(self, field: str) -> Any:
        """The value of a field of the shape."""
        return getattr(self, self.attributes[field])


@cache
def row_type(shape: Shape) -> type[Row]:
    """The class of rows of a shape."""
    attributes = {field: f"field_{place}" for place, field in enumerate(shape.fields)}
    made = msgspec.defstruct(
        "Row",
        [
            (name, msgspec.Raw if field in shape.texts else Any, None)
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
    """A function from JSON to a row.

    It raises ValueError where the value is no JSON object, and RecursionError where it nests too deep.
    Whole numbers keep all their digits, whatever their size.
    """
    return msgspec.json.Decoder(row_type(shape)).decode
