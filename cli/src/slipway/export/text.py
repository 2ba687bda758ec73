"""Estimators that cut text into words: alone, or on columns of a data frame."""

from __future__ import annotations

import locale
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from slipway.errors import InvalidArguments
from slipway.model.tensor import Tensor

_INPUT = "text"
_SHAPE = ("batch", 1)
_SENTENCES = 20
# Of letters in all languages, where C knows those of English alone.
_LOCALE = "C.UTF-8"
# What scikit-learn's pattern finds, in the syntax of ONNX Runtime's expressions.
_WORDS = r"(?u)\b\w\w+\b"
_WORDS_IN_FILE = r"[\p{L}\p{N}_]{2,}"


def is_vectorizer(step: Any) -> bool:
    """Return whether a transformer was fitted to text."""
    return hasattr(step, "vocabulary_") and hasattr(step, "token_pattern")


def takes_text(estimator: Any) -> bool:
    """Return whether a pipeline takes text as it is, and no matrix: its head cuts it into words."""
    first = head(estimator)
    return hasattr(estimator, "predict") and is_vectorizer(first)


def text_input(estimator: Any, given: Sequence[Tensor]) -> Tensor:
    """Return the input of a pipeline that takes text: [batch, 1] BYTES, with typical sentences.

    Raises:
        InvalidArguments: ``given`` is something else.
    """
    chosen = tuple(given) or (Tensor(_INPUT, "BYTES", _SHAPE),)
    if len(chosen) != 1 or chosen[0].datatype != "BYTES" or chosen[0].wire_shape[1:] != [1]:
        raise InvalidArguments(
            "a pipeline of text takes one input of BYTES", f"--input {_INPUT}=BYTES[batch,1]"
        )
    return replace(chosen[0], shape=_SHAPE, typical=tuple(sentences(head(estimator))))


def sentences(vectorizer: Any) -> list[str]:
    """Return all words that a vectorizer knows in some sentences, as people write them."""
    words = [str(word) for word in vectorizer.vocabulary_]
    several = [words[start::_SENTENCES] for start in range(_SENTENCES)]
    plain = [" ".join(some) for some in several if some]
    apart = [" é ".join(some) for some in several if some]
    return [*plain, *apart, *(f"{text.upper()}, ({text})!" for text in plain)]


def options(vectorizers: Iterator[Any]) -> dict[int, dict[str, str]]:
    """Return skl2onnx's options for vectorizers, such that words are those of scikit-learn.

    Its own choice is a locale that few systems have, and words of English letters.
    """
    return {id(vectorizer): _options(vectorizer) for vectorizer in vectorizers}


def _options(vectorizer: Any) -> dict[str, str]:
    if not _is_here(_LOCALE):
        return {"locale": "C"}
    if vectorizer.analyzer == "word" and vectorizer.token_pattern == _WORDS:
        return {"locale": _LOCALE, "tokenexp": _WORDS_IN_FILE}
    return {"locale": _LOCALE}


def _is_here(name: str) -> bool:
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, name)
    except locale.Error:
        return False
    locale.setlocale(locale.LC_CTYPE, before)
    return True


def head(estimator: Any) -> Any:
    """Return what meets the data first, inside of pipelines and searches for parameters."""
    if hasattr(estimator, "best_estimator_"):
        return head(estimator.best_estimator_)
    if getattr(estimator, "steps", None):
        return head(estimator.steps[0][1])
    return estimator
