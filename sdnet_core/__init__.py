"""The models: sparse-coding layers, SDNet and ResNet, checkpoints and training."""

from sdnet_core.checkpoints import (
    ModelCard,
    build_model,
    import_official,
    load_model,
    read_card,
    save_model,
    shipped_models,
    weights_fingerprint,
)
from sdnet_core.networks import Network, NetworkConfig
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
