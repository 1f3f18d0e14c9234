"""Images: data sets, corruptions and the files that they come from."""

from typing import TYPE_CHECKING

from data_prep.lazy import attach

if TYPE_CHECKING:
    from data_prep.corruptions import corrupt, corruption_names
    from data_prep.imageset import ImageSet
    from data_prep.sources import load_images

__all__ = ["ImageSet", "corrupt", "corruption_names", "load_images"]

_PLACES = {
    "ImageSet": "data_prep.imageset",
    "corrupt": "data_prep.corruptions.engine",
    "corruption_names": "data_prep.corruptions.registry",
    "load_images": "data_prep.sources",
}
__getattr__ = attach(__name__, _PLACES)
