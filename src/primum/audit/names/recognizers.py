"""A recognizer of people's names by its own name: spaCy, Presidio, GLiNER, or a list of known names.

    spacy[:MODEL]       a spaCy pipeline with an `ner` part: an installed package or a folder (en_core_web_sm)
    presidio[:MODEL]    Presidio's analyzer over a spaCy pipeline (en_core_web_lg), or as a .yaml file of its own says
    gliner[:MODEL]      a GLiNER model of the hub or a folder (urchade/gliner_multi_pii-v1)
    list:FILE           names that are known, one a line: a register of patients or staff

Nothing is downloaded but a GLiNER model of the hub.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from primum.core.errors import BadInputError, MissingExtraError, UsageError, did_you_mean
from primum.core.records import digest

Stretch = tuple[int, int]
"""Characters start to end (end not included)."""
PERSON = frozenset({"person", "per", "prs", "ps", "persname", "pers"})
"""What pipelines of different languages call a person, without case."""
NEEDLESS = ("tagger", "parser", "senter", "lemmatizer", "attribute_ruler", "morphologizer", "trainable_lemmatizer")
"""Parts of a spaCy pipeline that names do not need."""
ANY_LANGUAGE = ""
LANGUAGES = {"xx": ANY_LANGUAGE, "nb": "no"}
"""spaCy's codes where they are not those of the `language` step."""


class Recognizer(NamedTuple):
    """Finds names of people in texts.

    Args:
        model: the model and its version, as the report names it.
        language: of the texts it can read; ANY_LANGUAGE where it reads all.
        words: how many it reads at a time.
        find: texts to where the names stand in each, in order.
        state: what its answers depend on beside the model's name; never told.
    """

    model: str
    language: str
    words: int
    find: Callable[[Sequence[str]], list[list[Stretch]]]
    state: str = ""


@cache
def recognizer(name: str) -> Recognizer:
    """Return the recognizer of a name; loaded once a process.

    Raises:
        UsageError: no such recognizer or model, or a model that knows no people.
        MissingExtraError: what it needs is not installed.
        BadInputError: a list of names that cannot be read.
    """
    kind, _, model = name.partition(":")
    makers = {"spacy": _spacy, "presidio": _presidio, "gliner": _gliner, "list": _list}
    if kind not in makers:
        raise UsageError(f"no recognizer of names '{kind}'", cure=did_you_mean(kind, makers))
    return makers[kind](model)


def _need(module: str, part: str, extra: str = "names") -> None:
    if importlib.util.find_spec(module) is None:
        raise MissingExtraError(part, extra)


def _spacy(model: str) -> Recognizer:
    nlp = _pipeline(model or "en_core_web_sm")
    known = {label for labels in nlp.pipe_labels.values() for label in labels if label.casefold() in PERSON}
    if not known:
        cure = "take a pipeline with a part `ner` that knows PERSON or PER, like en_core_web_sm"
        raise UsageError("this spaCy pipeline knows no people", where=model, cure=cure)

    def find(texts: Sequence[str]) -> list[list[Stretch]]:
        read = nlp.pipe(texts, batch_size=64)
        return [[(one.start_char, one.end_char) for one in doc.ents if one.label_ in known] for doc in read]

    told = f"spaCy {nlp.meta['lang']}_{nlp.meta['name']} {nlp.meta['version']}"
    code: str = nlp.lang
    return Recognizer(told, LANGUAGES.get(code, code), 2000, find)


def _pipeline(model: str) -> Any:
    _need("spacy", "spaCy, which finds names,")
    import spacy

    _installed(model)
    try:
        return spacy.load(model, exclude=NEEDLESS)
    except (OSError, ValueError) as error:
        said = str(error).splitlines()[0]
        raise UsageError(f"cannot load this spaCy pipeline: {said}", where=model, cure="see spacy.io/models") from error


def _installed(model: str) -> None:
    from spacy.util import is_package

    if not is_package(model) and not Path(model).is_dir():
        cure = f"python -m spacy download {model}, or the folder of a pipeline"
        raise UsageError(f"no spaCy pipeline '{model}' is installed", cure=cure)


def _presidio(model: str) -> Recognizer:
    _need("presidio_analyzer", "Presidio, which finds names,")
    from importlib.metadata import version

    from presidio_analyzer import AnalyzerEngine, BatchAnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.nlp_engine import NlpEngineProvider

    if model.endswith((".yaml", ".yml")):
        if not Path(model).is_file():
            raise BadInputError("no such file", where=model, cure="a configuration of Presidio's NLP engine")
        provider = NlpEngineProvider(conf_file=model)
    else:
        model = model or "en_core_web_lg"
        _installed(model)  # Presidio would download it
        models = [{"lang_code": _pipeline(model).lang, "model_name": model}]
        provider = NlpEngineProvider(nlp_configuration={"nlp_engine_name": "spacy", "models": models})
    engine = provider.create_engine()
    language = engine.get_supported_languages()[0]
    registry = RecognizerRegistry(supported_languages=[language])
    registry.load_predefined_recognizers(languages=[language], nlp_engine=engine)
    batch = BatchAnalyzerEngine(AnalyzerEngine(registry, engine, supported_languages=[language]))

    def find(texts: Sequence[str]) -> list[list[Stretch]]:
        found = batch.analyze_iterator(texts, language, batch_size=64, entities=["PERSON"])
        return [[(one.start, one.end) for one in text] for text in found]

    return Recognizer(f"Presidio {version('presidio-analyzer')} over {model}", language, 2000, find)


def _gliner(model: str) -> Recognizer:
    _need("gliner", "GLiNER, which finds names,", "gliner")
    from gliner import GLiNER

    model = model or "urchade/gliner_multi_pii-v1"
    try:
        network = GLiNER.from_pretrained(model)
    except (OSError, ValueError) as error:
        cure = "the id of a GLiNER model on the hub, or its folder"
        said = str(error).splitlines()[0]
        raise UsageError(f"cannot load this GLiNER model: {said}", where=model, cure=cure) from error
    network.eval()

    def find(texts: Sequence[str]) -> list[list[Stretch]]:
        found = network.inference(list(texts), ["person"], threshold=0.5, batch_size=8)
        return [[(one["start"], one["end"]) for one in text] for text in found]

    return Recognizer(f"GLiNER {model}", ANY_LANGUAGE, int(network.config.max_len), find)


def _list(file: str) -> Recognizer:
    path = Path(file)
    if not path.is_file():
        raise BadInputError("no such file", where=file or "--names list:", cure="--names list:FILE, a name a line")
    try:
        names = sorted({line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()} - {""})
    except UnicodeDecodeError as error:
        raise BadInputError("not UTF-8", where=file, cure="save the file as UTF-8") from error
    if not names:
        raise BadInputError("no name in this list", where=file, cure="write a name a line")
    # the longest first: of "Ann" and "Ann Lee" the longer one is found where it stands
    longest = sorted(names, key=len, reverse=True)
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest))})(?!\w)", re.IGNORECASE)

    def find(texts: Sequence[str]) -> list[list[Stretch]]:
        return [[match.span() for match in pattern.finditer(text)] for text in texts]

    return Recognizer(f"a list of {len(names):,} names", ANY_LANGUAGE, 2000, find, digest(names))
