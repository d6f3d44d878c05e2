"""What people configure and extend: the callbacks of a run."""

from tunevane.callback.base import Callback
from tunevane.callback.best_model import BestModelCheckpoint
from tunevane.callback.early_stopping import EarlyStopping
from tunevane.callback.evaluation import EvaluationCallback
from tunevane.callback.training_checkpoint import TrainingCheckpoint
from tunevane.callback.wandb_logger import WandBLogger
from tunevane.callback.wise_ft import WiSEFTCallback

__all__ = [
    "BestModelCheckpoint",
    "Callback",
    "EarlyStopping",
    "EvaluationCallback",
    "TrainingCheckpoint",
    "WandBLogger",
    "WiSEFTCallback",
]
