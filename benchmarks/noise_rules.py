"""Compare rules that set λ from an image or its code, on training images under all 19 corruptions.

A rule is λ = max(training λ, factor · σ̂) for an estimator of the noise level σ̂, rounded to the grid; a fixed λ where a
statistic of the code exceeds a threshold, which is chosen on clean images and the four extra corruptions; or one answer
combined from the answers at several λs, for all images or only where σ̂ exceeds the training λ.

    python benchmarks/noise_rules.py --model sdnet18-cifar10 --n 400
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jpeg import corrupt_all  # the benchmark next to this file
from torch import Tensor

from data_prep import load_images
from data_prep.command_line import CommandParser
from data_prep.corruptions import corruption_names
from robustness.statistics import paired_interval
from sdnet_core import load_model
from sdnet_core.augment import to_images
from sdnet_core.noise_level import estimate_noise_level

TESTED, EXTRA = corruption_names("standard"), corruption_names("extra")
LAMBDAS = (0.1, 0.2, 0.3, 0.5)
FACTORS = (0.6, 0.8, 1.0, 1.2)
RAISED = 0.5
_COMBINED = "combined: "
_QUANTILES = np.linspace(0, 0.99, 50)


def estimate_levels(x: Tensor) -> dict[str, Tensor]:
    """Estimate σ̂ of normalised images (N, 3, H, W) in several ways, (N,) each."""
    decimated = (x[..., ::2, ::2] - x[..., ::2, 1::2] - x[..., 1::2, ::2] + x[..., 1::2, 1::2]).abs() / 2
    grey = x.mean(1, keepdim=True)
    own = torch.stack([estimate_noise_level(x[:, channel : channel + 1]) for channel in range(3)])
    return {
        "all channels (matched)": estimate_noise_level(x),
        "all channels, decimated": decimated.flatten(1).median(1).values / 0.6745,
        "smallest channel": own.amin(0),
        "grey image": estimate_noise_level(grey),
    }


def combine(probabilities: Tensor) -> dict[str, Tensor]:
    """Combine the class probabilities (L, N, C) at L values of λ into scores (N, C), in several ways.

    The most confident answer is the argmax of the largest probability of each class. A vote counts the answers; ties go
    to the larger mean probability.
    """
    votes = torch.nn.functional.one_hot(probabilities.argmax(2), probabilities.shape[2]).sum(0)
    mean = probabilities.mean(0)
    return {
        "mean over all λ": mean,
        f"mean over {LAMBDAS[0]} and {RAISED}": probabilities[[0, -1]].mean(0),
        "geometric mean over all λ": probabilities.log().mean(0),
        "vote of all λ": votes + mean / 2,
        "most confident λ": probabilities.amax(0),
    }


@torch.inference_mode()
def measure(name: str, n: int, data_dir: Path) -> pd.DataFrame:
    """Measure every image under every corruption: levels, statistics of the code, correct predictions at every λ."""
    images = load_images("cifar10", split="train", data_dir=data_dir)
    images = images.take(np.sort(np.random.default_rng(5).choice(len(images), n, replace=False)))
    model = load_model(name).eval()
    parts = []
    for (corruption, severity), pixels in corrupt_all(images, (*TESTED, *EXTRA)).items():
        x = to_images(torch.from_numpy(pixels))
        part = {"corruption": corruption, "severity": severity, "image": images.indices}
        part |= {title: level.numpy() for title, level in estimate_levels(model.normalise(x)).items()}
        answers = []
        for lam in LAMBDAS:
            code = model.encode(x, lam)
            answers.append(model.classify(code, lam).softmax(1))
            confidence, predicted = answers[-1].max(1)
            part[f"residual {lam}"] = model.residual(x, code).numpy()
            part[f"zeros {lam}"] = (code == 0).float().mean((1, 2, 3)).numpy()
            part[f"ℓ1 {lam}"] = code.abs().sum((1, 2, 3)).numpy()
            part[f"confidence {lam}"] = confidence.numpy()
            part[f"correct {lam}"] = (predicted.numpy() == images.labels).astype(float)
        for title, scores in combine(torch.stack(answers)).items():
            part[_COMBINED + title] = (scores.argmax(1).numpy() == images.labels).astype(float)
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def list_statistics(found: pd.DataFrame) -> dict[str, pd.Series]:
    """List statistics of the code that may say where a larger λ helps."""
    changes = {
        f"change of {name}": found[f"{name} {RAISED}"] - found[f"{name} 0.1"]
        for name in ("residual", "zeros", "confidence")
    }
    ratios = {f"ratio of {name}": found[f"{name} {RAISED}"] / found[f"{name} 0.1"] for name in ("residual", "ℓ1")}
    plain = {name: found[f"{name} 0.1"] for name in ("residual", "zeros", "ℓ1", "confidence")}
    return plain | changes | ratios


def describe(rule: str, gain: pd.Series, found: pd.DataFrame) -> dict[str, str]:
    """Summarise the gain of a rule over the training λ in points, per image (N,)."""
    tested = found["corruption"].isin(TESTED)
    noise = found["corruption"].str.endswith("_noise") & tested
    mean, low, high = (100 * v for v in paired_interval(gain[tested].groupby(found["image"][tested]).mean().to_numpy()))
    others = {"noise": noise, "other 12": tested & ~noise, "clean": found["corruption"] == "clean"}
    others["extra and clean"] = ~tested
    points = {title: f"{100 * gain[chosen].mean():+.2f}" for title, chosen in others.items()}
    return {"rule": rule, "all 15": f"{mean:+.2f} [{low:.2f}, {high:.2f}]", **points}


def compare(found: pd.DataFrame) -> pd.DataFrame:
    """Tabulate the gains of all rules, one rule per row."""
    correct = found[[f"correct {lam}" for lam in LAMBDAS]].to_numpy()
    rows = []
    for title in [name for name in map(str, found) if "channel" in name or "grey" in name]:
        for factor in FACTORS:
            wanted = np.maximum(LAMBDAS[0], factor * found[title].to_numpy())
            chosen = np.abs(np.subtract.outer(wanted, LAMBDAS)).argmin(1)
            gain = pd.Series(correct[np.arange(len(found)), chosen] - correct[:, 0])
            rows.append(describe(f"{factor} σ̂, {title}", gain, found))
    raised = found[f"correct {RAISED}"] - found["correct 0.1"]
    learnt = ~found["corruption"].isin(TESTED)
    for title, values in list_statistics(found).items():
        rules = [(sign, (sign * values)[learnt].quantile(q)) for sign in (1, -1) for q in _QUANTILES]
        sign, threshold = max(rules, key=lambda rule: (raised * (rule[0] * values > rule[1]))[learnt].mean())
        where = f"λ = {RAISED} for {'large' if sign > 0 else 'small'} {title}"
        rows.append(describe(where, raised * (sign * values > threshold), found))
    noisy = found["all channels (matched)"] > LAMBDAS[0]
    for title in [name for name in map(str, found) if name.startswith(_COMBINED)]:
        gain = found[title] - found["correct 0.1"]
        name = title.removeprefix(_COMBINED)
        rows += [describe(name, gain, found), describe(f"{name}, where σ̂ > {LAMBDAS[0]}", gain * noisy, found)]
    return pd.DataFrame(rows)


def main() -> None:
    parser = CommandParser(description=__doc__)
    parser.add_argument("--model", default="sdnet18-cifar10")
    parser.add_argument("--n", type=int, default=400, help="training images")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found = measure(arguments.model, arguments.n, arguments.data_dir)
    print(compare(found).to_string(index=False))


if __name__ == "__main__":
    main()
