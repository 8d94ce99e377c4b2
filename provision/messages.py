"""What pydantic found, in words for operators and with the place in the file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from types import UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from provision.document import Node, Path


class Complaint(NamedTuple):
    """One thing wrong with a value: its path below the model's root, what is so, and the way out."""

    path: Path
    fact: str
    remedy: str
    kind: str


@dataclass(frozen=True)
class Vocabulary:
    """What a kind of document adds: words for its patterns, and keys that its files have and its models have not."""

    words: Mapping[str, str] = field(default_factory=dict)
    extra_keys: Mapping[type, tuple[str, ...]] = field(default_factory=dict)
    hidden_keys: Mapping[type, tuple[str, ...]] = field(default_factory=dict)
    synonyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """One of a few words -> what other programs call it, in lower case with '-' for '_'."""
    unsupported: Mapping[str, str] = field(default_factory=dict)
    """Words for what there is nothing of -> what to do instead."""
    elsewhere: str = "it stands elsewhere"
    """Where a key belongs that a model knows of and the file may not have at this place."""

    def keys_of(self, model: type[BaseModel]) -> list[str]:
        """The keys that a file may have where `model` stands."""
        hidden = self.hidden_keys.get(model, ())
        own = [name for name in model.model_fields if name not in hidden]
        return own + list(self.extra_keys.get(model, ()))


_PLAIN = Vocabulary()


def nearest(word: str, known: Iterable[str]) -> str:
    """A remedy for a word that is not known: "did you mean 'x'?", else the known ones."""
    names = sorted(known)
    close = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"known: {shown}" if names else ""


def quoted(value: object) -> str:
    """A value as a message may show it: one line, at most 40 characters, nothing invisible."""
    text = "".join(c if c.isprintable() else "?" for c in str(value)[:41])
    return f"'{text[:40]}...'" if len(text) > 40 else f"'{text}'"


def complaints(
    error: ValidationError, model: type[BaseModel], root: Node, vocabulary: Vocabulary = _PLAIN
) -> list[Complaint]:
    """What is wrong with the tree at `root`, once per place; a union's several errors become one."""
    places: dict[Path, list[Mapping[str, Any]]] = {}
    for detail in error.errors(include_url=False):
        places.setdefault(_place(detail, root), []).append(detail)
    deeper = {path[:n] for path in places for n in range(len(path))}
    return [
        _complaint(path, details, model, vocabulary)
        for path, details in places.items()
        if not (path in deeper and all(d["type"] == "too_short" for d in details))
    ]


def _place(detail: Any, root: Node) -> Path:
    """The part of pydantic's location that exists in the tree, and the missing key if that is the matter."""
    node: Node | None = root
    path: list[str | int] = []
    for part in detail["loc"]:
        node = node.child(part) if node else None
        if node is None:
            break
        path.append(part)
    return (*path, detail["loc"][-1]) if detail["type"] == "missing" else tuple(path)


def _complaint(
    path: Path, details: list[Mapping[str, Any]], model: type[BaseModel], vocabulary: Vocabulary
) -> Complaint:
    kinds = [d["type"] for d in details]
    value = details[0]["input"]
    last = str(path[-1]) if path else ""
    if "extra_forbidden" in kinds:
        owner = _model_at(model, path[:-1])
        known = vocabulary.keys_of(owner) if owner else []
        if last in known:
            return Complaint(path, f"'{last}' does not belong here", vocabulary.elsewhere, "extra_forbidden")
        return Complaint(path, f"unknown key {quoted(last)}", nearest(last, known), "extra_forbidden")
    if "missing" in kinds:
        return Complaint(path, f"'{last}' is missing", "add it", "missing")
    if value is None:
        return Complaint(path, "is empty", "give it a value or leave the key out", kinds[0])
    fact, remedy = _words(details, kinds, value, vocabulary)
    return Complaint(path, fact, remedy, kinds[0])


def _words(details: list[Mapping[str, Any]], kinds: list[str], value: Any, vocabulary: Vocabulary) -> tuple[str, str]:
    shown = quoted(value) if isinstance(value, (str, int, float)) else "this"
    if isinstance(value, (dict, list)) and not set(kinds) & {"dict_type", "tuple_type", "too_short", "too_long"}:
        return "must be one value, not a list or mapping", ""
    for detail in details:
        if detail["type"] == "value_error":
            fact, _, remedy = str(detail["ctx"]["error"]).partition("; ")
            own = detail["loc"][-1] if len(details) > 1 else ""
            if not own or fact.startswith("must "):
                return f"{shown} {fact}", remedy
    addresses = [k for k in kinds if k.startswith("ip_v")]
    if addresses:
        return _address_words(shown, value, addresses, len(kinds) > len(addresses))
    return _plain_words(details[0], shown, vocabulary)


def _address_words(shown: str, value: Any, kinds: list[str], or_name: bool) -> tuple[str, str]:
    family = "IP" if len(kinds) > 1 else f"IPv{kinds[0][4]}"
    if or_name and not _meant_address(str(value), family):
        return f"{shown} is neither an {family} address nor a DNS name", ""
    if not kinds[0].endswith("network"):
        return f"{shown} is not an {family} address", _meant_address(str(value), family)
    try:
        right = ip_network(str(value), strict=False)
    except ValueError:
        return f"{shown} is not an {family} prefix", "write it as 192.0.2.0/24 or 2001:db8::/64"
    if family in ("IP", f"IPv{right.version}"):
        return f"{shown} has bits set behind its prefix length", f"did you mean {right}?"
    return f"{shown} is not an {family} prefix", ""


def _meant_address(value: str, family: str) -> str:
    """A question that names the address which was probably meant, of the right family; "" for nothing."""
    bare, slash, _ = value.strip().strip("[]").partition("/")
    # Leading zeros are octal to some programs and decimal to others, so none are read.
    plain = ".".join(part.lstrip("0") or "0" for part in bare.split(".")) if "." in bare else bare
    try:
        meant = ip_address(plain)
    except ValueError:
        return ""
    if plain == value or family not in ("IP", f"IPv{meant.version}"):
        return ""
    return f"did you mean {meant}?{' Its length is that of its network' if slash else ''}"


def _meant_word(value: str, pattern: str) -> str:
    """The same for a word that has to match a pattern."""
    plain = value.strip().rstrip(".").lower()
    guesses = [plain, plain.replace("_", "-"), f"/{value.strip('/ ')}"]
    mode = plain.removeprefix("0o")
    for guess in (*guesses, *([mode.zfill(4)] if mode.isdigit() else [])):
        if re.fullmatch(pattern, guess):
            return f"; did you mean '{guess}'?"
    return ""


def _meant_choice(value: str, allowed: list[str], vocabulary: Vocabulary) -> str:
    """The same for a word of a few."""
    word = value.strip().lower().replace("_", "-")
    for meant in allowed:
        if word in (meant, *vocabulary.synonyms.get(meant, ())):
            return f"did you mean '{meant}'?"
    if word in vocabulary.unsupported:
        return vocabulary.unsupported[word]
    return nearest(word, allowed).partition("known")[0]


def _plain_words(detail: Mapping[str, Any], shown: str, vocabulary: Vocabulary) -> tuple[str, str]:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "enum":
        allowed = [word.strip("'") for word in str(context["expected"]).replace(" or ", ", ").split(", ")]
        return f"{shown} is not one of {', '.join(allowed)}", _meant_choice(str(detail["input"]), allowed, vocabulary)
    if kind == "string_pattern_mismatch":
        words, meant = vocabulary.words.get(context["pattern"], ""), _meant_word(detail["input"], context["pattern"])
        return f"{shown} is not allowed", f"{words}{meant}"
    match kind:
        case "dict_type" | "model_type" | "model_attributes_type":
            return "must be a mapping of 'key: value' lines", ""
        case "tuple_type" | "list_type":
            return "must be a list", f"write it as [{shown.strip(chr(39))}]" if shown != "this" else ""
        case "int_type" | "int_parsing" | "int_from_float":
            return f"{shown} is not a whole number", ""
        case "float_type" | "float_parsing":
            return f"{shown} is not a number", ""
        case "bool_type" | "bool_parsing":
            return f"{shown} is neither true nor false", ""
        case "string_type" | "path_type":
            return f"{shown} is not text", "put it in quotes"
        case "greater_than":
            return f"{shown} is too small", f"it must be more than {context['gt']}"
        case "greater_than_equal":
            return f"{shown} is too small", f"the least is {context['ge']}"
        case "less_than_equal":
            return f"{shown} is too large", f"the most is {context['le']}"
        case "too_short":
            return "has too few entries", f"it needs at least {context['min_length']}"
        case "too_long":
            return "has too many entries", f"it may have at most {context['max_length']}"
        case "string_too_long":
            return "is too long", f"at most {context['max_length']} characters"
        case "uuid_parsing":
            return f"{shown} is not a UUID", "write it as dmidecode -s system-uuid prints it"
    return f"{shown} is not allowed here", ""


def _model_at(model: type[BaseModel], path: Path) -> type[BaseModel] | None:
    """The model that stands at `path` below `model`."""
    found: Any = model
    for part in path:
        found = next((inner for kind in _kinds(found) if (inner := _inside(kind, str(part))) is not None), None)
    return next((kind for kind in _kinds(found) if _is_model(kind)), None)


def _inside(kind: Any, part: str) -> Any:
    """The annotation of a model's field, a mapping's values or a list's items; None for other types."""
    if _is_model(kind):
        field = kind.model_fields.get(part)
        return field.annotation if field else None
    arguments = get_args(kind)
    if get_origin(kind) is dict:
        return arguments[1]
    return arguments[0] if get_origin(kind) is tuple else None


def _kinds(annotation: Any) -> Iterator[Any]:
    """The types that an annotation allows, without ``Annotated`` and unions around them."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _kinds(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for part in get_args(annotation):
            yield from _kinds(part)
    else:
        yield annotation


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and get_origin(kind) is None and issubclass(kind, BaseModel)
