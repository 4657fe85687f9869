"""What Inspect AI finds through its entry point: benchmarks as tasks, judges as scorers, a batched local provider.

    inspect eval primum/benchmark --model primum/embedded -T name=xstest -T limit=50
    inspect eval my_task.py --model primum/path/to/model --max-connections 96

Only Inspect imports this module (`pip install primum[inspect]`). Inspect asks one conversation at a time; the provider
gathers what is asked at the same time into batches. Needs Inspect's default event loop (asyncio).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    modelapi,
)
from inspect_ai.scorer import Score as InspectScore
from inspect_ai.scorer import Scorer, Target, mean, scorer, stderr
from inspect_ai.solver import TaskState, generate
from inspect_ai.tool import ToolChoice, ToolInfo

from primum.core.errors import UsageError
from primum.core.parts import takes
from primum.core.records import Intent, Message, Messages, Prompt, Reply, Role, user
from primum.evaluation.behaviours import BENIGN, BOTH, HARMFUL, behaviour_scores
from primum.evaluation.disclaimer import with_disclaimers
from primum.evaluation.items import Answer, Benchmark, Item, Metric, Score, scored
from primum.evaluation.suite import benchmark as benchmark_of
from primum.judging import Exchange
from primum.judging.runner import judge_all
from primum.models.sampling import Engine, Generated, Opening, Sampling
from primum.pipeline.benchmark import Ask, picked
from primum.pipeline.gather import Gather

ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
METRICS = {"*": [mean(), stderr()]}
GATHERED = 384
"""Questions answered as one batch where `-M batch=` says nothing else; the engine decodes as many together as fit."""


class PrimumAPI(ModelAPI):
    """A local model behind primum's batched engine."""

    def __init__(
        self, model_name: str, base_url: str | None = None, api_key: str | None = None,
        config: GenerateConfig | None = None, batch: int | None = None, wait: float = 0.02,
    ) -> None:  # fmt: skip
        """Name the model as primum does: embedded, a hub id, a folder, a .gguf file."""
        super().__init__(model_name, base_url, api_key, [], config or GenerateConfig())
        self.batch = batch or GATHERED
        self.gather = Gather(lambda: _engine(model_name, batch), self.batch, wait)

    def max_connections(self) -> int:
        """Return how many questions Inspect may have open: two batches, so that one gathers while one runs."""
        return 2 * self.batch

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """Answer one conversation."""
        if tools:
            raise UsageError("models of the provider 'primum' call no tools", cure="leave the tools out")
        sampling = Sampling(config.temperature or 0.0, config.max_tokens or 512, config.top_p or 1.0, config.top_k or 0)
        return self._output(await self.gather.ask(_messages(input), sampling, config.seed or 0))

    def _output(self, reply: Generated) -> ModelOutput:
        message = ChatMessageAssistant(content=reply.text, model=self.model_name, source="generate")
        stop = "max_tokens" if reply.finish == "length" else "stop"
        total = reply.prompt_tokens + reply.reply_tokens
        usage = ModelUsage(input_tokens=reply.prompt_tokens, output_tokens=reply.reply_tokens, total_tokens=total)
        choice = ChatCompletionChoice(message=message, stop_reason=stop)
        return ModelOutput(model=self.model_name, choices=[choice], usage=usage, error=reply.error or None)


@modelapi(name="primum")
def primum_provider() -> type[ModelAPI]:
    """Return the provider: `--model primum/MODEL`."""
    return PrimumAPI


def _engine(name: str, batch: int | None) -> Engine:
    from primum.models.opening import AUTO, choose, open_engine

    opening = Opening(name, batch)
    return open_engine(choose(AUTO, opening).engine, opening)


def _messages(asked: list[ChatMessage]) -> Messages:
    return tuple(Message(ROLES.get(one.role, "user"), one.text) for one in asked)


@task
def benchmark(
    name: str = "xstest", limit: int | None = None, data: str | None = None, judge: str | None = None,
    per_group: int | None = None,
) -> Task:  # fmt: skip
    """Return one of primum's benchmarks as a task; those by likelihood are primum's own (`primum evaluate`).

    The items are those that `primum evaluate` asks with the same limit and per_group; how many were left out because
    they ask what one before them asks stands in the task's metadata (`repeated`).
    """
    found = benchmark_of(name)
    if found.by_likelihood:
        raise UsageError(f"{name} is scored by likelihood", cure=f"primum evaluate MODEL --benchmark {name}")
    sampling = found.settings
    chosen, repeated = picked(
        found, Ask(sampling, limit=limit, per_group=per_group, source=Path(data) if data else None)
    )
    found = with_disclaimers(found, chosen)
    items = {item.id: item for item in chosen}
    samples = [_sample(key, item) for key, item in items.items()]
    settings = GenerateConfig(temperature=sampling.temperature, max_tokens=sampling.max_new_tokens)
    return Task(
        dataset=MemoryDataset(samples, name=name), solver=generate(), scorer=_benchmark_scorer(found, items, judge),
        config=settings, name=name, metadata={"repeated": repeated},
    )  # fmt: skip


def _sample(key: str, item: Item) -> Sample:
    kinds = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}
    turns: list[ChatMessage] = [
        kinds[one.role](content=one.text) for one in takes(item.prompt.messages, "the bridge to Inspect")
    ]
    return Sample(input=turns, id=key, metadata={"cluster": item.cluster, "groups": list(item.groups)})


def _benchmark_scorer(found: Benchmark, items: Mapping[str, Item], judge: str | None) -> Scorer:
    @scorer(metrics=METRICS, name=f"primum_{found.name}")
    def build() -> Scorer:
        async def score(state: TaskState, target: Target) -> InspectScore:
            item, output = items[str(state.sample_id)], state.output
            answer = Answer(output.completion, finish="length" if output.stop_reason == "max_tokens" else "stop")
            if found.judged:
                answer = await asyncio.to_thread(_judged, item.prompt, answer, judge or found.judge)
            return _score(found.score(item, answer), found.metrics, answer)

        return score

    return build()


@scorer(metrics=METRICS)
def primum_judge(judge: str = "rules", intent: Intent = "harmful") -> Scorer:
    """Score any task's replies by a judge of primum: harmful compliance, refusal, babble."""
    metrics = {"harmful": HARMFUL, "benign": BENIGN}.get(intent, BOTH)

    async def score(state: TaskState, target: Target) -> InspectScore:
        prompt = Prompt((user(state.input_text),), intent, "other")
        answer = await asyncio.to_thread(_judged, prompt, Answer(state.output.completion), judge)
        return _score(behaviour_scores(Item(prompt, ""), answer, tuple(metrics)), metrics, answer)

    return score


def _judged(prompt: Prompt, answer: Answer, judge: str) -> Answer:
    finish = "length" if answer.finish == "length" else "stop"
    reply = Reply(prompt.id, "inspect", "", answer.text, finish, 0, answer.tokens, 0)
    (verdict,) = judge_all(judge, [Exchange(prompt, reply)])
    return answer._replace(verdict=verdict)


def _score(values: Mapping[str, Score], metrics: Mapping[str, Metric], answer: Answer) -> InspectScore:
    """Return every metric; one that is unscored, or not about this item, is NaN, which Inspect leaves out.

    Why, and which way is better, stands in the metadata: a log has no other place for it.
    """
    numbers, reasons = scored(values)
    said = answer.verdict.behaviour or "unscored" if answer.verdict else None
    value: dict[str, Any] = {name: numbers.get(name, math.nan) for name in metrics}
    directions = {name: metric.direction for name, metric in metrics.items()}
    return InspectScore(value=value, answer=said, metadata={"unscored": reasons, "directions": directions})
