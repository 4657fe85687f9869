"""The conversations in which a model criticises and revises its replies: by any engine, kept on disk, gone on with.

OUT/critique/shard-*.jsonl    what came of each conversation: critiques, revisions, tokens
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from primum.core.errors import UsageError
from primum.core.records import JsonDict, Messages
from primum.core.store import Stage, fingerprint
from primum.judging.options import JudgeOptions
from primum.models.endpoint import address
from primum.models.sampling import Generated, Opening, Sampling, Streaming
from primum.pairing.revising import Critique
from primum.pairing.talks import Start, kept
from primum.pipeline.terminal import Terminal

VERSION = 1
"""Raise when the same settings would ask for other critiques or revisions."""


@dataclass(frozen=True)
class Conversations:
    """Has conversations with the model that wrote the replies (a `pairing.talks.Converse`).

    Args:
        critique: which model, by which engine, how it is sampled.
        options: the endpoint, where no model is named.
        seed: of the sampling.
        folder: where what came of them is kept.
        terminal: is told how far it is.
    """

    critique: Critique
    options: JudgeOptions
    seed: int
    folder: Path
    terminal: Terminal

    def __call__(self, starts: Sequence[Start]) -> list[JsonDict]:
        """Have them; those that were had before are read.

        Raises:
            UsageError: no model is named, or no engine runs it here.
        """
        from primum.models.opening import choose, open_engine

        opening, sampling = self.opening(), Sampling(self.critique.temperature, self.critique.tokens)
        chosen, opened = choose(self.critique.engine, opening), list[Streaming]()

        def say(batch: Sequence[Messages]) -> list[Generated]:
            if not opened:
                self.terminal.note(f"  engine {chosen.engine}: {chosen.why}")
                opened.append(open_engine(chosen.engine, opening))
            return opened[0](batch, sampling, self.seed)

        key = {
            "version": VERSION, "model": opening.model, "url": opening.url, "engine": chosen.engine,
            "weights": fingerprint(opening.model), "sampling": asdict(sampling), "seed": self.seed,
        }  # fmt: skip
        with self.terminal.step("critique and revise", len(starts), "replies") as advance:
            rows = kept(Stage(self.folder, key), starts, say, advance)
        failed = [row["error"] for row in rows if row["error"]]
        if failed:
            self.terminal.note(f"  {len(failed):,} without an answer (had again by the next run): {failed[0][:120]}")
        return rows

    def opening(self) -> Opening:
        """Return what the engine is opened with: the model named for it, else the endpoint's.

        Raises:
            UsageError: neither is named.
        """
        if self.critique.model:
            return Opening(self.critique.model)
        options = self.options
        if not options.endpoint:
            cure = "--critique.model NAME, or --endpoint http://localhost:8000/v1 --endpoint-model NAME"
            raise UsageError("nobody to criticise and revise the replies is named", cure=cure)
        url = address(options.endpoint)  # before it is written down with what came of it
        return Opening(options.endpoint_model, url=url, key_name=options.key_env, timeout=options.timeout)
