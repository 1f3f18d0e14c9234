"""The weather that covers an image: fog, frost and snow. (Brightness is in ``digital``, spatter in ``spatter``.)"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from data_prep.corruptions.filters import exact_dtype, motion_blur_levels
from data_prep.corruptions.frost_pictures import frost_pictures
from data_prep.corruptions.levels import NUDGE, Pixels, truncate
from data_prep.corruptions.random import Streams
from data_prep.corruptions.zoom import crop_span, dense_zoom

LUMA = (0.299, 0.587, 0.114)
WIBBLE = 100.0


def fog(pixels: Pixels, weather: tuple[float, float], streams: Streams) -> Pixels:
    """Add fog: (x + c plasma) max(x) / (max(x) + c); ``weather`` is (c, decay of the plasma's roughness).

    The plasma is a fractal of the next power of two, cut to the size of the image.
    """
    density, decay = weather
    _, height, width, _ = pixels.shape
    size = 1 << (max(height, width) - 1).bit_length()
    cloud = plasma(size, decay, streams)[:, :height, :width, None].mul(255.0 * density)
    brightest = pixels.amax(dim=(1, 2, 3), keepdim=True).to(torch.float32)
    return truncate(cloud.add(pixels).mul_(brightest / (brightest + 255.0 * density)))


def frost(pixels: Pixels, weather: tuple[float, float, float], streams: Streams) -> Pixels:
    """Add a random part of a picture of frost: a x + b picture; ``weather`` is (a, b, scale of the pictures)."""
    image_share, frost_share, scale = weather
    _, height, width, _ = pixels.shape
    crop = frost_pictures(height, width, scale, pixels.device).crop(height, width, streams)
    return truncate(pixels.to(torch.float64).mul_(image_share).add_(crop.to(torch.float64).mul_(frost_share)))


def snow(pixels: Pixels, weather: tuple[float, float, float, float, int, float, float], streams: Streams) -> Pixels:
    """Whiten the image and let flakes fall on it.

    The result is m x + (1 − m) max(x, 1.5 grey + ½) + flakes + flakes turned by 180°. Flakes are normal noise,
    enlarged, set to zero below a threshold and blurred along a line at an angle uniform in [−135°, −45°). They are
    truncated to 8-bit levels before and after the blur.

    weather: (mean, std, enlargement, threshold, radius, sigma of the motion blur, m).
    """
    mean, std, factor, threshold, radius, sigma, keep = weather
    layer = draw_flakes((pixels.shape[1], pixels.shape[2]), (mean, std, factor, threshold), streams)
    return fall(whiten(pixels, keep), layer, radius, sigma, streams.uniform(low=-135.0, high=-45.0))


def draw_flakes(
    size: tuple[int, int], flakes: tuple[float, float, float, float], streams: Streams
) -> Float[Tensor, "n 1 h w"]:
    """Draw flakes before their blur, in whole grey levels; ``flakes`` is (mean, std, enlargement, threshold)."""
    mean, std, factor, threshold = flakes
    (height, width), (down, across) = size, (crop_span(side, factor)[1] for side in size)
    noise = streams.normal(down, across, mean=mean, std=std)
    rows, columns = (dense_zoom(length, factor, streams.device) for length in (down, across))
    layer = rows @ noise.to(torch.float64) @ columns.T
    top, left = ((enlarged - size) // 2 for enlarged, size in zip(layer.shape[1:], (height, width), strict=True))
    layer = layer[:, None, top : top + height, left : left + width]
    layer = layer.mul(layer >= threshold).clamp_(0.0, 1.0).mul_(255.0).add_(NUDGE).floor_()
    return layer.to(exact_dtype(layer.device), memory_format=torch.contiguous_format)


def whiten(pixels: Pixels, keep: float) -> Float[Tensor, "n h w 3"]:
    """Whiten pixels: m x + (1 − m) max(x, 1.5 grey + ½) with m = ``keep``, in grey levels, float32."""
    values = pixels.to(torch.float32)
    whitened = torch.maximum(values, _grey(values).mul_(1.5).add_(127.5))
    return values.mul_(keep).add_(whitened.mul_(1.0 - keep))


def fall(
    ground: Float[Tensor, "n h w 3"],
    layer: Float[Tensor, "n 1 h w"],
    radius: int,
    sigma: float,
    degrees: Float[Tensor, " n"],
) -> Pixels:
    """Blur the flakes along a line, then add them to the ground twice, the second time turned by 180°."""
    flakes = motion_blur_levels(layer, radius, sigma, degrees)[:, 0, ..., None].add_(NUDGE).floor_()
    return truncate(ground + flakes + flakes.flip(1, 2))


def _grey(values: Float[Tensor, "n h w 3"]) -> Float[Tensor, "n h w 1"]:
    """Compute the luma .299 R + .587 G + .114 B."""
    red, green, blue = (values[..., k : k + 1] * share for k, share in enumerate(LUMA))
    return red.add_(green).add_(blue)


def plasma(size: int, decay: float, streams: Streams) -> Float[Tensor, "n size size"]:
    """Draw the clouds of fog by the diamond-square algorithm on a torus: a height map per image, float32, in [0, 1].

    From coarse to fine, every new point is the mean of its four neighbours plus w² U(−1, 1); w is 100 at first and is
    divided by ``decay`` from one scale to the next.

    size: a power of two. decay: at least 1; the higher, the smoother.
    Source: Fournier, Fussell & Carpenter, "Computer Rendering of Stochastic Models", CACM 1982.
    """
    heights = torch.zeros(len(streams), size, size, device=streams.device)
    step, wibble = size, WIBBLE
    while step >= 2:
        half, cells = step // 2, size // step
        noise = streams.uniform(3, cells, cells, low=-(wibble**2), high=wibble**2)
        corners = heights[:, ::step, ::step]
        below, right = corners.roll(-1, 1), corners.roll(-1, 2)
        centres = (corners + below + right + below.roll(-1, 2)).div_(4).add_(noise[:, 0])
        heights[:, half::step, half::step] = centres
        heights[:, ::step, half::step] = (corners + right + centres + centres.roll(1, 1)).div_(4).add_(noise[:, 1])
        heights[:, half::step, ::step] = (corners + below + centres + centres.roll(1, 2)).div_(4).add_(noise[:, 2])
        step, wibble = half, wibble / decay
    lowest = heights.amin(dim=(1, 2), keepdim=True)
    return heights.sub_(lowest).div_(heights.amax(dim=(1, 2), keepdim=True))
