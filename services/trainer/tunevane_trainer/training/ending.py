"""How a run ends: select the weights, refine them, measure what the user gets, hand it over."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tunevane.api.trainer.v1 import run_pb2
from tunevane.api.type.v1 import blob_pb2, event_pb2
from tunevane.callback.schedule import Schedule
from tunevane.core import bundles
from tunevane.core.worse import worse
from tunevane.nn import checkpoint, folders, models
from tunevane.nn.blend import blend
from tunevane_trainer.training import own, sweep
from tunevane_trainer.training.against import Against
from tunevane_trainer.training.committed import Committed
from tunevane_trainer.training.files import Files
from tunevane_trainer.training.loop import Trainer
from tunevane_trainer.training.measure import Meter
from tunevane_trainer.training.patience import Moment
from tunevane_trainer.training.reporter import Reporter, log_event
from tunevane_trainer.training.state import Progress


@dataclass(frozen=True)
class Ending:
    """What follows the last epoch of a run."""

    run: run_pb2.Run
    """The run as it was claimed."""

    schedule: Schedule
    """Its callbacks."""

    files: Files
    """Where its files go."""

    reporter: Reporter
    """Where its log goes."""

    meter: Meter
    """Measures weights with every evaluation of the run."""

    committed: Committed
    """What the run's history holds, and the weights of all epochs."""

    against: Against
    """What was measured before training, by query."""

    def finish(self, trainer: Trainer, progress: Progress) -> None:
        """Selects, refines, measures, and hands the artifact over."""
        epoch, weights = self._select(trainer, progress)
        moment = Moment(progress.epoch, progress.step)
        weights = self._refine(trainer, weights, moment)
        if self.committed.after is None:
            self._measure(trainer, weights, moment)
        self.reporter.log("Building the artifact ...")
        artifact = self._artifact(trainer)
        self.reporter.log("Pushing artifact ...")
        self.files.push(bundles.refs(artifact))
        self.reporter.log(f"Artifact pushed under ID '{bundles.digest(artifact)[:32]}'")
        self.reporter.log(f"Artifact size is {bundles.total_bytes(artifact) / 1e6:.3f} MB", event_pb2.SEVERITY_DEBUG)
        ended = event_pb2.RunEnded(artifact=artifact, artifact_epoch=epoch)
        self.files.commit([log_event("Finished 🚀"), event_pb2.Event(run_ended=ended)])

    def _measure(self, trainer: Trainer, weights: blob_pb2.Bundle, moment: Moment) -> None:
        """Measures what the user gets, and records it with what the log says about it in one step."""
        measured = self.meter.measure(weights, moment)
        sentence = worse(self.committed.before or {}, measured.values)
        measured.values |= own.values(self.schedule, self.meter.model_name, trainer.model)
        events = [log_event("Done ✨"), log_event(self._took(), event_pb2.SEVERITY_DEBUG)]
        before = self.committed.before or {}
        for name, value in measured.values.items():
            earlier = f"{before[name]:.5f}" if name in before else "unknown"
            events.append(log_event(f"Metric: '{name}' before fine-tuning:  {earlier} after fine-tuning: {value:.5f}"))
        if sentence:
            events.append(log_event(sentence, event_pb2.SEVERITY_WARNING))
        if self.schedule.measurers:
            events.insert(0, measured.event(event_pb2.STAGE_AFTER, self.files.store, self.against))
        self.files.commit(events)

    def _took(self) -> str:
        seconds = int(time.time() - self.run.create_time.seconds)
        days, hours, minutes = seconds // 86_400, seconds // 3_600 % 24, seconds // 60 % 60
        return f"Finetuning took {days} days, {hours} hours {minutes} minutes and {seconds % 60} seconds"

    def _select(self, trainer: Trainer, progress: Progress) -> tuple[int, blob_pb2.Bundle]:
        """Puts the best epoch's weights into the model, or leaves the last; returns which and what."""
        best = self.schedule.best_epoch(progress.callbacks)
        if best == 0:
            self.reporter.log(
                "No epoch qualified as the best model, so the last weights are kept", event_pb2.SEVERITY_WARNING
            )
        # Epochs that were trained beyond the one that training ends with are nobody's.
        epoch = best or progress.decided
        weights = self.committed.weights[epoch]
        if epoch != progress.epoch:
            self.files.fetch(bundles.refs(weights))
            checkpoint.load(trainer.model, weights, self.files.store)
        if best:
            self.reporter.log(f"The artifact holds the weights of epoch {best}, the best of {progress.decided}")
        return epoch, weights

    def _refine(self, trainer: Trainer, weights: blob_pb2.Bundle, moment: Moment) -> blob_pb2.Bundle:
        """Mixes the pre-trained weights back in, where a callback asks for it."""
        refiner = self.schedule.refiner
        if refiner is None:
            return weights
        store = self.files.store
        # Built anew: nothing keeps the blobs of the pre-trained weights through a long run.
        pretrained = models.build(self.run.spec.model, store).state_dict()
        alpha = refiner.alpha
        if alpha == "sweep":
            found = sweep.best_alpha(self.meter, self.schedule, weights, checkpoint.save(pretrained, store), moment)
            alpha = found.alpha
            for line in found.lines():
                self.reporter.log(line)
        checkpoint.fill(trainer.model, blend(pretrained, checkpoint.read(weights, store), alpha))
        self.reporter.log(f"Mixed pre-trained and fine-tuned weights with alpha {alpha:g}")
        return checkpoint.save(trainer.model.state_dict(), store)

    def _artifact(self, trainer: Trainer) -> blob_pb2.Bundle:
        """Saves the model as a folder that sentence-transformers loads, and stores its files."""
        with tempfile.TemporaryDirectory(prefix="tunevane-artifact-") as scratch:
            folders.save(trainer.model, Path(scratch))
            return models.folder_bundle(Path(scratch), self.files.store)
