"""Replies from any OpenAI-compatible endpoint; see primum.models.endpoint for what it survives.

By chat completions the endpoint holds the template. Where the address ends in /completions, conversations are rendered
and cut into tokens by MODEL's own tokenizer, as in the other engines, and the endpoint is given token ids.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from primum.core.errors import UsageError
from primum.core.parts import SUFFIXES, bytes_of, media_type, takes
from primum.core.records import JsonDict, Message, Messages, Part
from primum.models.chat import fitted
from primum.models.endpoint import Ask, Endpoint, PassingError, RefusedError, endpoint, served_name
from primum.models.ends import Ends, ends_of_files
from primum.models.likelihood import Continuation, Likelihood, cut_all, echoed_text, echoed_tokens, moved
from primum.models.sampling import Generated, Opening, Request, Sampling, collect

about = "any OpenAI-compatible endpoint (vLLM, SGLang, llama-server, hosted ones), over HTTP"
rank = 0
cure = "name one: --url http://localhost:8000/v1"


def why_not(opening: Opening) -> str | None:
    """Return why it cannot be used, or None."""
    return None if opening.url else "no endpoint was named"


def open_engine(opening: Opening) -> HTTPEngine:
    """Open an endpoint; by chat completions nothing is sent yet.

    Raises:
        UsageError: no address, or not an http(s) one; for completions, no tokenizer of that name.
    """
    place = endpoint(opening)
    place.url, chat, _ = place.url.partition("/chat/completions")
    if chat or not place.url.endswith("/completions"):
        return HTTPEngine(place, opening.model)
    from primum.models.load import tokenizer_of

    place.url = place.url.removesuffix("/completions")
    tokenizer = tokenizer_of(opening.model)
    named = served_name(opening.model, place.models())
    return CompletionsEngine(place, named, tokenizer, ends_of_files(opening.model, tokenizer))


@dataclass
class HTTPEngine:
    """An engine over an endpoint, which knows the model by a name and holds its template."""

    endpoint: Endpoint
    model: str

    @property
    def model_name(self) -> str:
        """The model's name and where it answers."""
        return f"{self.model}@{self.endpoint.place}"

    def __call__(self, batch: Sequence[Messages], sampling: Sampling, seed: int | Sequence[int]) -> list[Generated]:
        """Generate one reply per conversation, in the order given."""
        return collect(self, batch, sampling, seed)

    def stream(self, requests: Iterable[Request], sampling: Sampling) -> Generator[tuple[int, Generated]]:
        """Yield (request index, reply) as replies come."""
        asks = (Ask(request.index, _body(self.model, request, sampling), parsed) for request in requests)
        yield from self.endpoint.answers(asks, "/chat/completions", failed)

    def likelihoods(self, asked: Sequence[Continuation]) -> list[Likelihood]:
        """Return log-likelihoods by the endpoint's completions with `echo` (vLLM and SGLang have it, OpenAI's no more).

        Raises:
            UsageError: a context is a conversation: only the model's own tokenizer knows where its answer begins.
        """
        if any(not isinstance(one.context, str) for one in asked):
            cure = "give the address with /completions at its end, or use --engine vllm or transformers"
            raise UsageError("an endpoint cannot say how likely an answer in a conversation is", cure=cure)
        texts = [moved(str(one.context), one.text) for one in asked]
        asks = (
            Ask(i, echo(self.model, before + after), echoed_text(len(before)))
            for i, (before, after) in enumerate(texts)
        )
        found = dict(self.endpoint.answers(asks, "/completions", Likelihood.failed))
        return [found[i] for i in range(len(texts))]


@dataclass
class CompletionsEngine(HTTPEngine):
    """An engine over an endpoint's completions, for the template and tokenizer that we hold."""

    tokenizer: Any = None
    ends: Ends = field(default_factory=lambda: Ends(frozenset(), None))

    def stream(self, requests: Iterable[Request], sampling: Sampling) -> Generator[tuple[int, Generated]]:
        """Yield (request index, reply) as replies come."""
        asks = (self._ask(request, sampling) for request in requests)
        yield from self.endpoint.answers(asks, "/completions", failed)

    def likelihoods(self, asked: Sequence[Continuation]) -> list[Likelihood]:
        """Return log-likelihoods by completions with `echo`; in conversations too."""
        asks = (
            Ask(i, echo(self.model, [*row.context, *row.answer]), echoed_tokens(len(row.context), len(row.answer)))
            for i, row in enumerate(cut_all(asked, self.tokenizer, self.ends.context and self.ends.context - 2))
        )
        found = dict(self.endpoint.answers(asks, "/completions", Likelihood.failed))
        return [found[i] for i in range(len(asked))]

    def _ask(self, request: Request, sampling: Sampling) -> Ask[Generated]:
        takes(request.messages, "an endpoint by plain completions", (), "take /completions off the address")
        prompt = fitted([request.messages], self.tokenizer, self.ends.room(sampling.max_new_tokens))[0]
        stops = [self.tokenizer.decode([token]) for token in sorted(self.ends.stops)][:4]  # OpenAI takes four
        body = {"prompt": prompt.ids, "stop": stops, **_settings(self.model, request, sampling)}
        return Ask(request.index, body, lambda answer: replace(completed(answer), prompt_cut=prompt.cut))


def failed(reason: str) -> Generated:
    """Return the reply that could not be had."""
    return Generated("", "error", 0, 0, reason)


def echo(model: str, prompt: str | list[int]) -> JsonDict:
    """Return the body that asks for the log-probabilities of a text; one new token, as some servers refuse none."""
    return {"model": model, "prompt": prompt, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1}


def _body(model: str, request: Request, sampling: Sampling) -> JsonDict:
    takes(request.messages, "an OpenAI-compatible endpoint", ("image", "audio"), "leave the prompt out, or show frames")
    messages = [{"role": m.role, "content": _content(m)} for m in request.messages]
    return {"messages": messages, **_settings(model, request, sampling)}


def _content(message: Message) -> str | list[JsonDict]:
    """Return a turn as the protocol has it: pictures as data: addresses, recordings as base64."""
    return message.content if isinstance(message.content, str) else [_part(part) for part in message.content]


def _part(part: Part) -> JsonDict:
    if part.type == "text":
        return {"type": "text", "text": part.text}
    data = bytes_of(part)
    kind, code = str(media_type(data)), b64encode(data).decode()
    if part.type == "image":
        return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{code}"}}
    return {"type": "input_audio", "input_audio": {"data": code, "format": SUFFIXES[kind][1:]}}


def _settings(model: str, request: Request, sampling: Sampling) -> JsonDict:
    body: JsonDict = {
        "model": model, "max_tokens": sampling.max_new_tokens, "temperature": sampling.temperature,
        "seed": request.seed % (1 << 31),
    }  # fmt: skip
    if sampling.top_p < 1:
        body["top_p"] = sampling.top_p
    if sampling.top_k:
        body["top_k"] = sampling.top_k  # not OpenAI's own, but vLLM, SGLang and llama-server take it
    return body


def parsed(answer: JsonDict) -> Generated:
    """Return the reply that an answer to a chat holds.

    Raises:
        PassingError: it is no chat completion.
        RefusedError: the endpoint's own filter kept the reply.
    """

    def text(choice: Any) -> Any:
        content = choice["message"].get("content")
        return content if content is not None else choice["message"].get("refusal") or ""

    return _read(answer, text, "chat completion")


def completed(answer: JsonDict) -> Generated:
    """Return the reply that a completion holds; raises as `parsed` does."""
    return _read(answer, lambda choice: choice["text"], "completion")


def _read(answer: JsonDict, text_of: Callable[[Any], Any], kind: str) -> Generated:
    try:
        choice = answer["choices"][0]
        text, ended = text_of(choice), choice.get("finish_reason")
        usage = answer.get("usage") or {}
        counts = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise PassingError(f"an answer that is no {kind}") from error
    if not isinstance(text, str):
        raise PassingError("an answer whose content is no text")
    if ended == "content_filter":
        raise RefusedError("the endpoint's content filter kept the reply")
    return Generated(text.strip(), "length" if ended == "length" else "stop", *counts)
