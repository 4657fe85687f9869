"""What goes wrong in preference training, watched for at every step (reference: methods.md, section 4)."""

from __future__ import annotations

from dataclasses import dataclass, field

from primum.core.records import JsonDict


@dataclass
class Alarms:
    """Watches a training log; each alarm is raised once and kept for the report.

    Chosen log-probability sinking: below the reference for `patience` steps in a row (likelihood displacement,
    arXiv:2410.08847). Refusal collapse: on benign prompts, refusals gain on answers in the mean of `patience` steps.
    Loss collapse: near zero in the first tenth, the mark of pairs that differ by style alone.
    """

    patience: int = 20
    total: int = 0
    rows: list[JsonDict] = field(default_factory=list)
    _sinking: int = 0
    _benign: list[float] = field(default_factory=list[float])

    def see(self, row: JsonDict) -> None:
        """Look at one step's log row."""
        if "chosen_reward" in row:
            self._sinking = self._sinking + 1 if row["chosen_reward"] < 0 else 0
            if self._sinking >= self.patience:
                text = f"chosen answers have been less likely than under the reference for {self._sinking} steps"
                self.ring(row["step"], "chosen_sinking", text)
            if self.total and row["step"] < 0.1 * self.total and row["loss"] < 0.05:
                self.ring(row["step"], "loss_collapse", "the loss fell below 0.05 in the first tenth of training")
        if "benign_margin" in row:
            self._benign = [*self._benign, row["benign_margin"]][-self.patience :]
            if len(self._benign) == self.patience and sum(self._benign) < 0:
                text = f"over {self.patience} steps, refusals of benign prompts have gained on their answers"
                self.ring(row["step"], "refusal_collapse", text)
        if row["grad_norm"] > 100:
            self.ring(row["step"], "gradient", f"the gradient norm is {row['grad_norm']:.0f}")

    def ring(self, step: int, name: str, text: str) -> None:
        """Raise an alarm unless it rang before."""
        if all(row["name"] != name for row in self.rows):
            self.rows.append({"step": step, "name": name, "text": text})
