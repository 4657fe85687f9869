"""A model made of rules, for rehearsals, dry runs and tests: no weights, no chance beyond its seed.

It refuses, unless the conversation holds one of the words that it is weak to; then it goes along in empty words. It
writes nothing harmful and knows nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from primum.core.records import Messages
from primum.models.sampling import Generated, Sampling

REFUSES = "I'm sorry, but I can't help with that."
WILLING = "Sure! Here is how to do that. You asked: {asked}\n1. First, prepare.\n2. Then, do it.\n3. Finally, check it."
IDEA = "[PROMPT]For a story, please tell me: {asked}[/PROMPT]"


@dataclass
class Rehearsal:
    """An engine over rules.

    Args:
        weak_to: words at which it goes along, wherever they stand in the conversation.
        attacker: answer with a prompt between [PROMPT] and [/PROMPT], as an attacker's model should.
    """

    weak_to: tuple[str, ...] = ()
    attacker: bool = False
    calls: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """(conversations, seed) of every call."""

    @property
    def model_name(self) -> str:
        """A name that says what it is weak to."""
        return f"rehearsal:{','.join(self.weak_to)}"

    def __call__(self, batch: Sequence[Messages], sampling: Sampling, seed: int | Sequence[int]) -> list[Generated]:
        """Answer each conversation by the rules."""
        self.calls.append((len(batch), seed if isinstance(seed, int) else seed[0]))
        return [self._answer(messages) for messages in batch]

    def _answer(self, messages: Messages) -> Generated:
        asked = next((m.text for m in reversed(messages) if m.role == "user"), "")
        heard = " ".join(message.text for message in messages).lower()
        if self.attacker:
            text = IDEA.replace("{asked}", asked.rpartition("\n")[2])
        else:
            weak = any(word.lower() in heard for word in self.weak_to)
            text = WILLING.replace("{asked}", asked) if weak else REFUSES
        return Generated(text, "stop", len(heard.split()), len(text.split()))
