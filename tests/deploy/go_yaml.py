"""YAML as Helm and Kubernetes read it, which differs from PyYAML in plain scalars.

They read `n` and `1e3` as a boolean and a number, PyYAML as texts: a missing quote in a template would go unnoticed.
They read dates and `=` as texts. https://github.com/yaml/go-yaml/blob/v2/resolve.go
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import yaml

_BOOLEANS: Final = re.compile(r"(y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$")
_FLOATS: Final = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"
)
_TEXTS: Final = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value")


class _Loader(yaml.CSafeLoader):
    """A class of its own, because resolvers belong to the class."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _TEXTS]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", _BOOLEANS, list("yYnNtTfFoO"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOATS, list("-+.0123456789"))


def _boolean(loader: yaml.CSafeLoader, node: yaml.ScalarNode) -> bool:
    return loader.construct_scalar(node)[0] in "yYtT" or node.value.lower() == "on"


_Loader.add_constructor("tag:yaml.org,2002:bool", _boolean)


def load_all(text: str) -> Iterator[dict[str, Any]]:
    """The documents that are not empty."""
    return (document for document in yaml.load_all(text, Loader=_Loader) if document)


def dump(values: Mapping[str, Any]) -> str:
    """JSON, which every YAML parser reads alike. It does not escape surrogates, because Go would not join them."""
    return json.dumps(values, ensure_ascii=False)
