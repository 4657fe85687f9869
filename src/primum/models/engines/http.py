"""Replies from any OpenAI-compatible endpoint, by chat completions; see primum.models.endpoint for what it survives."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass

from primum.core.errors import UsageError
from primum.core.records import JsonDict, Messages
from primum.models.endpoint import Ask, Endpoint, PassingError, RefusedError, endpoint
from primum.models.likelihood import Continuation, Likelihood, echoed_text, moved
from primum.models.sampling import Generated, Opening, Request, Sampling, collect

about = "any OpenAI-compatible endpoint (vLLM, SGLang, llama-server, hosted ones), over HTTP"
rank = 0
cure = "name one: --url http://localhost:8000/v1"


def why_not(opening: Opening) -> str | None:
    """Return why it cannot be used, or None."""
    return None if opening.url else "no endpoint was named"


def open_engine(opening: Opening) -> HTTPEngine:
    """Open an endpoint; nothing is sent yet.

    Raises:
        UsageError: no address, or not an http(s) one.
    """
    return HTTPEngine(endpoint(opening), opening.model)


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
            cure = "use --engine vllm, or transformers"
            raise UsageError("an endpoint cannot say how likely an answer in a conversation is", cure=cure)
        texts = [moved(str(one.context), one.text) for one in asked]
        asks = (
            Ask(i, echo(self.model, before + after), echoed_text(len(before)))
            for i, (before, after) in enumerate(texts)
        )
        found = dict(self.endpoint.answers(asks, "/completions", Likelihood.failed))
        return [found[i] for i in range(len(texts))]


def failed(reason: str) -> Generated:
    """Return the reply that could not be had."""
    return Generated("", "error", 0, 0, reason)


def echo(model: str, prompt: str) -> JsonDict:
    """Return the body that asks for the log-probabilities of a text; one new token, as some servers refuse none."""
    return {"model": model, "prompt": prompt, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1}


def _body(model: str, request: Request, sampling: Sampling) -> JsonDict:
    body: JsonDict = {
        "model": model,
        "messages": [{"role": m.role, "content": m.content} for m in request.messages],
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "seed": request.seed % (1 << 31),
    }
    if sampling.top_p < 1:
        body["top_p"] = sampling.top_p
    if sampling.top_k:
        body["top_k"] = sampling.top_k  # not OpenAI's own, but vLLM, SGLang and llama-server take it
    return body


def parsed(answer: JsonDict) -> Generated:
    """Return the reply that an answer holds.

    Raises:
        PassingError: it is no chat completion.
        RefusedError: the endpoint's own filter kept the reply.
    """
    try:
        choice = answer["choices"][0]
        message = choice["message"]
        content = message.get("content")
        text = content if content is not None else message.get("refusal") or ""
        usage = answer.get("usage") or {}
        counts = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise PassingError("an answer that is no chat completion") from error
    if not isinstance(text, str):
        raise PassingError("an answer whose content is no text")
    if choice.get("finish_reason") == "content_filter":
        raise RefusedError("the endpoint's content filter kept the reply")
    finish = "length" if choice.get("finish_reason") == "length" else "stop"
    return Generated(text.strip(), finish, *counts)
