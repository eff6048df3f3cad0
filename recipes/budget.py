"""How long a run is, in samples or in time, and what follows: learning rate, checkpoints, the end.

The learning rate rises, stands, and falls to zero in the last share of the run. Until it falls a
run is the beginning of every longer one, so a long run may be made of pieces, or be ended anywhere.
"""

import math
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from headstart.recipes.checkpoints import keep

__all__ = ["Budget"]


class Budget(TrainerCallback):
    """Ends a run in time, saves now and then, and knows how far the run has come.

    Args:
        num_steps: Of the whole run.
        samples_per_step: That all workers see.
        warm_up: Steps in which the learning rate rises, however long the run is.
        decay: Share of the run, its last, in which the learning rate falls.
        max_s: Seconds of training, those before a kill included; None is no limit.
        piece_s: Seconds after which this call ends; None is no limit.
        save_s: Between two checkpoints.
        milestone: Samples at which a checkpoint is kept, and again each time that they double.
    """

    def __init__(
        self,
        *,
        num_steps: int,
        samples_per_step: int,
        warm_up: int,
        decay: float,
        max_s: float | None,
        piece_s: float | None,
        save_s: float,
        milestone: int | None,
    ) -> None:
        self._num_steps = num_steps
        self.samples_per_step = samples_per_step
        self._warm_up = warm_up
        self._decay = decay
        self._max_s = max_s
        self._piece_s = piece_s
        self._save_s = save_s
        self._milestone = milestone
        self._began = time.monotonic()
        self._before = self._spent = self._saved = 0.0
        self._passed = 0
        self._has_fallen = self._keeps = False
        self.is_paused = False

    @property
    def elapsed_s(self) -> float:
        """Of training, up to the end of the last step; the same for all workers."""
        return self._before + self._spent

    def share(self, step: int) -> float:
        """Of the run, by its steps or its time, whichever is nearer its end."""
        in_time = 0.0 if self._max_s is None else self.elapsed_s / self._max_s
        return min(1.0, max(step / self._num_steps, in_time))

    def rate(self, step: int) -> float:
        """Return the learning rate's share of its highest."""
        rise = min(1.0, (step + 1) / max(1, self._warm_up))
        left = min(1.0, (1 - self.share(step)) / self._decay)
        return rise * (1 - math.sqrt(1 - left))

    def on_train_begin(
        self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any
    ) -> None:
        self._began, self._spent, self._saved = time.monotonic(), 0.0, 0.0
        self._before = max((line.get("elapsed_s", 0.0) for line in state.log_history), default=0.0)
        self._passed = self._milestone_by(state.global_step)
        self._has_fallen = self.share(state.global_step) >= 1 - self._decay
        # A checkpoint has the rate of its own plan: here it may not have to fall yet.
        for group in optimizer.param_groups if optimizer is not None else ():
            group["lr"] = group["initial_lr"] * self.rate(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._spent = _agreed(time.monotonic() - self._began)
        share = self.share(state.global_step)
        falls = share >= 1 - self._decay
        passed = self._milestone_by(state.global_step)
        # The last one before it falls, too: what a longer run goes on from.
        self._keeps = not self._has_fallen and (falls or passed > self._passed)
        self._has_fallen, self._passed = falls, passed
        self.is_paused = share < 1 and self._spent >= (self._piece_s or math.inf)
        if share >= 1 or self.is_paused:
            control.should_training_stop = True
        elif not self._keeps and self._spent - self._saved < self._save_s:
            return
        control.should_save = control.should_log = True
        self._saved = self._spent

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._keeps and state.is_world_process_zero:
            samples = state.global_step * self.samples_per_step
            keep(Path(args.output_dir), state.global_step, samples)

    def _milestone_by(self, step: int) -> int:
        """Return the last milestone that has been passed, in samples; 0 is none."""
        seen = step * self.samples_per_step
        if not self._milestone or seen < self._milestone:
            return 0
        return int(self._milestone * 2 ** math.floor(math.log2(seen / self._milestone)))


def _agreed(seconds: float) -> float:
    """Return the first worker's clock: those that ended at different steps would wait for ever."""
    if not torch.distributed.is_initialized():
        return seconds
    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    shared = torch.tensor(seconds, dtype=torch.float64, device=device)
    torch.distributed.broadcast(shared, 0)
    return float(shared)
