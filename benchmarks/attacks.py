"""AutoAttack through this project against calling pyautoattack directly: same model, images, seed and batches.

    python benchmarks/attacks.py --model sdnet18-shapes --data shapes --n 100 --eps 8/255 --norm linf

Ours is what a run does: BatchNorm folded, channels last (exact to rounding); theirs is the network as it is loaded.
Both start from the same images in memory and end with adversarial images in memory. The two alternate within one
process; the ratio is the median of the paired ratios, of processor time on a CPU and of wall time on a GPU. The robust
images must be the same, one by one.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from pairing import clock_of
from pyautoattack import AutoAttack
from torch import Tensor

from data_prep import load_images
from data_prep.command_line import CommandParser
from robustness.attack import Attack
from robustness.grids import read_eps
from robustness.measure.autoattack import LIBRARY_NORMS
from robustness.measure.craft import Stage, craft
from robustness.measure.stages import list_stages
from robustness.measure.victims import Victim
from sdnet_core import load_model
from sdnet_core.adversarial import frozen
from sdnet_core.augment import to_images
from sdnet_core.environment import describe_environment, select_device
from sdnet_core.speed import accelerate


def main() -> None:
    parser = CommandParser(description=__doc__)
    parser.add_argument("--model", default="sdnet18-shapes")
    parser.add_argument("--data", default="shapes")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--lam", type=float, help="default: training λ")
    parser.add_argument("--norm", choices=["linf", "l2"], default="linf")
    parser.add_argument("--eps", type=read_eps, default=8 / 255)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device")
    options = parser.parse_args()

    device = select_device(options.device)
    clock = clock_of(device)
    network = load_model(options.model).to(device)
    fast = accelerate(network, "exact", device)
    images = load_images(options.data, split="test", data_dir=options.data_dir).subset(options.n)
    x = to_images(torch.from_numpy(np.array(images.pixels))).contiguous()
    y = torch.from_numpy(np.array(images.labels))
    attack = Attack(name="autoattack", norm=options.norm, eps=options.eps, batch_size=options.batch_size)
    lam = options.lam if network.has_lam else None
    victim, plain = Victim(fast, lam), Victim(network, lam)
    spent: dict[str, float] = {}

    def ours() -> Tensor:
        spent.clear()
        with frozen(fast):
            stages = list_stages(attack, victim, num_classes=network.config.num_classes, seed=0)
            timed = [Stage(stage.name, _timed(stage, spent, clock)) for stage in stages]
            settings = {"norm": attack.norm, "eps": attack.eps, "batch_size": attack.batch_size, "seed": 0}
            return craft(victim, timed, x, y, device=device, **settings).robust

    def theirs() -> Tensor:
        direct = AutoAttack(plain, norm=LIBRARY_NORMS[attack.norm], eps=attack.eps, seed=0, device=device)
        found, _ = direct.run_standard_evaluation(x.to(device), y.to(device), batch_size=attack.batch_size)
        right = [plain(part).argmax(1) for part in found.split(attack.batch_size)]
        return torch.cat(right).cpu() == y

    pairs = []
    for repeat in range(options.repeats):
        order: list[Callable[[], Tensor]] = [ours, theirs] if repeat % 2 == 0 else [theirs, ours]
        seconds, answers = {}, {}
        for run in order:
            started = clock()
            with torch.no_grad() if run is theirs else torch.enable_grad():
                answers[run] = run()
            seconds[run] = clock() - started
        same = int((answers[ours] == answers[theirs]).sum())
        robust = [float(answers[run].float().mean()) for run in (ours, theirs)]
        pairs.append(seconds[ours] / seconds[theirs])
        print(
            f"ours {seconds[ours]:7.1f} s, pyautoattack {seconds[theirs]:7.1f} s, ratio {pairs[-1]:.3f}; "
            f"robust {robust[0]:.1%} and {robust[1]:.1%}, alike on {same} of {len(y)} images"
        )
    share = {name: f"{value:.1f} s" for name, value in spent.items()}
    print(f"median ratio {statistics.median(pairs):.3f} ({min(pairs):.3f} to {max(pairs):.3f}); ours by part: {share}")
    print(describe_environment(device)["hardware"])


def _timed(stage: Stage, spent: dict[str, float], clock: Callable[[], float]) -> Callable[[Tensor, Tensor], Tensor]:
    def perturb(images: Tensor, labels: Tensor) -> Tensor:
        started = clock()
        adversarial = stage.perturb(images, labels)
        spent[stage.name] = spent.get(stage.name, 0.0) + clock() - started
        return adversarial

    return perturb


if __name__ == "__main__":
    main()
