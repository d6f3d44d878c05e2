"""Why an epoch was kept and why training stopped, in words."""

from __future__ import annotations

from tunevane.core.explanation import best_epoch, in_words, short_names, why, why_kept, why_stopped
from tunevane.core.history import DecisionRecord

MRR = "minilm_reciprocal_rank"
VALUES = (0.303, 0.345, 0.353, 0.366, 0.364, 0.3659)


def record(epoch: int, value: float | None, verdict: str, callback: str = "best-model-checkpoint") -> DecisionRecord:
    reason = "Training is stopping, no improvement for 2 epochs" if verdict == "stop" else ""
    return DecisionRecord(epoch, callback, verdict, MRR, value, reason)


def short(name: str) -> str:
    return name.removeprefix("minilm_")


def demo() -> list[DecisionRecord]:
    made = []
    for epoch, value in enumerate(VALUES, 1):
        made.append(record(epoch, value, "improved" if epoch <= 4 else "not_improved"))
        stops = "stop" if epoch == 6 else "not_improved" if epoch == 5 else "improved"
        made.append(record(epoch, value, stops, "early-stopping/reciprocal_rank"))
    return made


def test_the_whole_story_in_one_sentence() -> None:
    assert why(demo(), 6, 4, short) == (
        "Kept epoch 4 because reciprocal_rank rose from 0.353 to 0.366; epochs 5 and 6 were no better; "
        "stopped after epoch 6: no improvement for 2 epochs"
    )


def test_while_it_runs_the_best_so_far_is_named() -> None:
    running = [each for each in demo() if each.epoch <= 3]
    assert why(running, 3, 0, short) == "Best so far is epoch 3 because reciprocal_rank rose from 0.345 to 0.353"
    assert why([], 0) == ""
    assert best_epoch([]) == 0
    assert best_epoch(running) == 3


def test_one_later_epoch_is_named_alone() -> None:
    assert why_kept([each for each in demo() if each.epoch <= 5], 5, 4, short).endswith("; epoch 5 was no better")


def test_without_a_keeper_the_last_epoch_is_kept_and_said() -> None:
    assert why_kept([], 3, 3) == "Kept epoch 3, the last one, because no epoch was to be chosen"
    never = [record(1, None, "unmeasured")]
    assert why_kept(never, 1, 1) == "Kept epoch 1, the last one, because no epoch qualified"


def test_a_stop_alone_is_a_sentence() -> None:
    stop = [record(2, 0.5, "stop", "early-stopping/x")]
    assert why(stop, 2) == "Stopped after epoch 2: no improvement for 2 epochs"
    other = DecisionRecord(2, "budget", "stop", "", None, "")
    assert why_stopped([other]) == "stopped after epoch 2: budget said so"


def test_each_decision_in_words() -> None:
    made = demo()
    assert in_words(made[0], made, short) == "reciprocal_rank is 0.303, the first that was measured"
    assert in_words(made[2], made, short) == "reciprocal_rank rose from 0.303 to 0.345"
    assert in_words(made[8], made, short) == "reciprocal_rank 0.364 is no better than the 0.366 of epoch 4"
    # One digit more, where three do not tell the values apart.
    assert in_words(made[10], made, short) == "reciprocal_rank 0.3659 is no better than the 0.3660 of epoch 4"
    assert in_words(made[11], made, short) == "Training is stopping, no improvement for 2 epochs"
    assert in_words(record(1, None, "unmeasured"), [], short) == "reciprocal_rank was not measured"
    assert in_words(record(1, 0.5, "not_improved"), [], short) == "reciprocal_rank is 0.500"
    tie = [record(1, 0.5, "improved"), record(2, 0.5, "not_improved")]
    assert in_words(tie[1], tie, short) == "reciprocal_rank equals the 0.500 of epoch 1"


def test_a_loss_falls() -> None:
    losses = [
        DecisionRecord(1, "best-model-checkpoint", "improved", "val_loss", 2.756, ""),
        DecisionRecord(2, "best-model-checkpoint", "improved", "val_loss", 2.711, ""),
    ]
    assert why(losses, 2, 2) == "Kept epoch 2 because val_loss fell from 2.756 to 2.711"


def test_a_choice_by_estimates_is_told_as_one() -> None:
    def confident(epoch: int, value: float, verdict: str, best: int, reason: str = "") -> DecisionRecord:
        return DecisionRecord(epoch, "best-model-checkpoint", verdict, MRR, value, reason, best_epoch=best)

    back = "Epoch 1 now looks better than epoch 2: estimated 0.361 against 0.360"
    made = [
        confident(1, 0.360, "improved", 1),
        confident(2, 0.359, "improved", 2),
        confident(3, 0.350, "not_improved", 1, back),
        confident(4, 0.340, "not_improved", 1),
    ]
    assert why(made[:2], 2, 0, short) == (
        "Best so far is epoch 2 because reciprocal_rank is estimated better than that of epoch 1, "
        "0.359 against 0.360 measured"
    )
    assert best_epoch(made) == 1
    assert why(made, 4, 1, short) == (
        "Kept epoch 1 because epoch 1 now looks better than epoch 2: estimated 0.361 against 0.360"
    )
    assert in_words(made[3], made, short) == "reciprocal_rank 0.340 is no better than the 0.360 of epoch 1"


def test_short_names_keep_what_differs() -> None:
    assert short_names(["minilm_ndcg@10", "minilm_recall_at_k"]) == {
        "minilm_ndcg@10": "ndcg@10",
        "minilm_recall_at_k": "recall_at_k",
    }
    assert short_names(["minilm_ndcg@10"]) == {"minilm_ndcg@10": "minilm_ndcg@10"}
    assert short_names([]) == {}
