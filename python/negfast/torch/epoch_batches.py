"""The batches of the epochs that a refresher leads: which lists they are composed of, and where they stand."""

from collections.abc import Mapping
from typing import Any

from negfast.errors import StateError
from negfast.results import MinedNegatives
from negfast.torch.live_batches import LiveBatches


class EpochBatches:
    """What a refresher knows of the batch sampler that is trained on.

    One that composes its batches of lists, as a :class:`HardBatchSampler` does, gets new ones where an epoch begins,
    and a state brings it to its place in an epoch. A state may come before the batch sampler: it waits for it.
    """

    def __init__(self) -> None:
        self._dealing: LiveBatches | None = None
        self._follows = True
        self._composed: MinedNegatives | None = None  # what the batches of the epoch are composed of
        self._waiting: Mapping[str, Any] | None = None
        self._older: MinedNegatives | None = None

    @property
    def are_dealt(self) -> bool:
        """Whether lists are told which anchors are dealt out."""
        return self._dealing is not None

    def take(self, dealing: LiveBatches, follows: bool, epoch: int | None, mined: MinedNegatives | None) -> None:
        """Lead this batch sampler from now on; a trainer that trains once more makes others."""
        self._dealing, self._follows, self._composed = dealing, follows, None
        if self._waiting is not None:
            self._resume()
        elif epoch is not None:
            dealing.set_epoch(epoch)
            self.compose(mined)

    def set_epoch(self, epoch: int) -> None:
        """Tell the batch sampler of the epoch."""
        if self._dealing is not None:
            self._dealing.set_epoch(epoch)

    def compose(self, mined: MinedNegatives | None) -> None:
        """Give these lists to a batch sampler that composes its batches of them."""
        if self._composer is not None and self._follows and mined is not None:
            if self._composed is not mined:
                self._composer.update(mined)
            self._composed = mined

    def consumed(self) -> None:
        """Note that the loop trained on a batch."""
        if self._dealing is not None and hasattr(self._dealing.batches, "consumed"):
            self._dealing.batches.consumed()

    def at_end(self) -> bool:
        """Return whether all batches of the epoch were consumed, as far as the batch sampler knows."""
        if self._waiting is not None:
            return bool(self._waiting["at_end"])
        position = None if self._dealing is None else getattr(self._dealing.batches, "position", None)
        return self._dealing is not None and position is not None and position >= len(self._dealing)

    def state_dict(self, mined: MinedNegatives | None, *, skips: bool) -> dict[str, Any]:
        """Return where they stand: at the beginning of the epoch, where the trainer itself skips batches."""
        older = None if self._composed is None or self._composed is mined else self._composed.to_dict()
        composer = self._composer
        if composer is None:
            return {"batches": None, "composed": older}
        stand: dict[str, Any] = composer.state_dict()
        if skips:
            stand["position"] = 0
        return {"batches": {"stand": stand, "at_end": self.at_end() and not skips}, "composed": older}

    def load_state_dict(self, state: Mapping[str, Any], mined: MinedNegatives | None) -> None:
        """Bring them to where another stood, as soon as there are some."""
        waiting, composed = state.get("batches"), state.get("composed")
        if waiting is not None and not (isinstance(waiting, Mapping) and waiting.keys() == {"stand", "at_end"}):
            raise StateError("batches of the state must be where they stood; the state is damaged, load another")
        self._older = mined if composed is None else MinedNegatives.from_dict(composed)
        self._waiting = waiting
        self._resume()

    def _resume(self) -> None:
        batches = self._composer
        if self._waiting is None or batches is None:
            return
        stand, self._waiting = self._waiting["stand"], None
        if self._follows and self._older is not None:
            batches.update(self._older)
            self._composed = self._older
        self._older = None
        batches.load_state_dict(stand)
        batches.state_dict()  # composes the epoch now, by the lists that it was begun with

    @property
    def _composer(self) -> Any:
        batches = None if self._dealing is None else self._dealing.batches
        return batches if hasattr(batches, "update") and hasattr(batches, "load_state_dict") else None
