"""The images: data sets, corruptions and the files that they come from."""

from data_prep.corruptions import corrupt, corruption_names
from data_prep.imageset import ImageSet
from data_prep.sources import load_images

__all__ = ["ImageSet", "corrupt", "corruption_names", "load_images"]
