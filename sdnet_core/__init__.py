"""Models: sparse-coding layers, SDNet and ResNet, checkpoints and training."""

from typing import TYPE_CHECKING

from sdnet_core.shadows import check_neighbours

check_neighbours("data_prep")

from data_prep.lazy import attach  # noqa: E402 - our own, as just checked

if TYPE_CHECKING:
    from sdnet_core.checkpoints import (
        ModelCard,
        build_model,
        load_model,
        read_card,
        save_model,
        weights_fingerprint,
    )
    from sdnet_core.config import shipped_models
    from sdnet_core.networks import Network, NetworkConfig
    from sdnet_core.official import import_official
    from sdnet_core.sparse_coding import CSCConv2d, CSCLinear

__all__ = [
    "CSCConv2d",
    "CSCLinear",
    "ModelCard",
    "Network",
    "NetworkConfig",
    "build_model",
    "import_official",
    "load_model",
    "read_card",
    "save_model",
    "shipped_models",
    "weights_fingerprint",
]

_ELSEWHERE = {
    "CSCConv2d": "sdnet_core.sparse_coding",
    "CSCLinear": "sdnet_core.sparse_coding",
    "Network": "sdnet_core.networks",
    "NetworkConfig": "sdnet_core.networks",
    "import_official": "sdnet_core.official",
    "shipped_models": "sdnet_core.config",
}
__getattr__ = attach(__name__, dict.fromkeys(__all__, "sdnet_core.checkpoints") | _ELSEWHERE)
