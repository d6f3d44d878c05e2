"""What a run needs to go on: the optimizer comes back to the bit, in few files, and so do the random generators."""

from pathlib import Path

import torch

from tunevane.storage.blobs import BlobStore
from tunevane_trainer.training import state
from tunevane_trainer.training.optimizers import AdamW
from tunevane_trainer.training.state import Progress, Within


def stepped(steps: int) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(1)
    model = torch.nn.Sequential(*[torch.nn.Linear(3, 3) for _ in range(6)])
    optimizer = AdamW(lr=0.1).build(model)
    for number in range(steps):
        model(torch.full((2, 3), float(number))).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def test_an_optimizer_comes_back_to_the_bit_in_few_files(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    _, optimizer = stepped(3)
    within = Within([0.1, float("nan")], {"cpu": "00ff"})
    progress = Progress(2, 6, 1, False, {"early": {"best": 0.5}}, {"2": {"norm": 1.5}}, within)
    bundle = state.save(progress, *state.of(optimizer), store)
    assert len(bundle.files) == 4
    _, fresh = stepped(0)
    loaded = state.load(bundle, fresh, store)
    assert repr(loaded) == repr(progress)
    for one, other in zip(optimizer.state.values(), fresh.state.values(), strict=True):
        assert set(one) == set(other)
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_random_generators_go_on_where_they_were() -> None:
    device = torch.device("cpu")
    torch.manual_seed(5)
    torch.rand(7)
    kept = state.random_state(device)
    expected = torch.rand(9)
    torch.manual_seed(6)
    state.restore_random_state(kept, device)
    assert torch.equal(torch.rand(9), expected)
